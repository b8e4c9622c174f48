import json

import msgspec
import numpy as np
import pytest
import toys

from streamvis.config import Jipda, MaskRcnn, Pipeline, Publish, StageSpec
from streamvis.errors import SourceError
from streamvis.messages import Detections, Receipt, Tracks
from streamvis.runtime import inline
from streamvis.sources.privacy import COLOUR
from streamvis.sources.spec import SourceSpec

PIPELINE = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn(), every_s=0.08),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track"]),
    ]
)


def source(name, frames, **options):
    return SourceSpec(id=name, uri=f"toy:{frames}", kind="file", options=options)


def run(sources, out, pipeline=PIPELINE, build=toys.build, **settings):
    return inline.run(
        pipeline, sources, build=build, open_source=toys.open_toy, out=out, **settings
    )


def test_every_packet_comes_with_its_parts_in_order(tmp_path):
    packets = []
    run([source("a", 6), source("b", 3)], tmp_path, on_packet=packets.append)
    for name, count in (("a", 6), ("b", 3)):
        own = [packet for packet in packets if packet.frame.source == name]
        assert [packet.frame.seq for packet in own] == list(range(count))
        for packet in own:
            detected = [Detections] if packet.frame.seq % 2 == 0 else []
            assert [type(part) for part in packet.parts] == [*detected, Tracks, Receipt]


def test_two_runs_are_identical(tmp_path):
    sources = [source("a", 12, jump="3"), source("b", 9)]
    for name in ("one", "two"):
        run(sources, tmp_path / name)
    for log in ("publish-a.log", "publish-b.log"):
        assert (tmp_path / "one" / log).read_text() == (tmp_path / "two" / log).read_text()


def test_an_exception_of_a_stage_passes_through_and_everything_is_closed(tmp_path):
    closed = []

    class Watched(toys.ToyDetect):
        def close(self):
            closed.append(self.name)

    def build(spec, site):
        return Watched(spec, site) if spec.name.startswith("detect") else toys.build(spec, site)

    pipeline = Pipeline(stages=[StageSpec("detect-crash-2", MaskRcnn())])
    with pytest.raises(ValueError, match="toy cannot do 2") as caught:
        run([source("a", 5)], tmp_path, pipeline, build)
    assert "in stage 'detect-crash-2', frames a/2" in caught.value.__notes__
    assert closed == ["detect-crash-2"]


def test_a_single_source_that_fails_is_the_error_and_stages_get_its_end(tmp_path):
    with pytest.raises(SourceError, match="torn at 2"):
        run([source("a", 5, fail="2")], tmp_path)
    assert (tmp_path / "publish-a.log").read_text().splitlines()[-1] == "end failed"


def test_a_source_that_fails_among_others_is_in_the_summary(tmp_path):
    summary = run([source("a", 5, refuse="1"), source("b", 2)], tmp_path)
    assert [report.ending for report in summary.sources] == ["failed", "eof"]


def test_a_run_without_out_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run([source("a", 2)], None, Pipeline(stages=[StageSpec("detect", MaskRcnn())]))
    assert list(tmp_path.iterdir()) == []


def test_closing_the_frames_drains_the_run(tmp_path):
    frames = inline.frames(
        PIPELINE,
        [source("a", 6), source("b", 9)],
        build=toys.build,
        open_source=toys.open_toy,
        out=tmp_path,
    )
    seen = [next(frames).packet.frame.source for _ in range(4)]
    frames.close()
    for name in ("a", "b"):
        lines = (tmp_path / f"publish-{name}.log").read_text().splitlines()
        assert lines[-1] == "end drained"
        assert len([line for line in lines if line.startswith("frame")]) <= seen.count(name) + 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {one["ending"] for one in summary["sources"]} == {"drained"}
    assert run([source("a", 6), source("b", 9)], tmp_path, on_used="resume").error == ""


def test_a_frame_comes_with_its_pixels():
    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn())])
    frames = inline.frames(pipeline, [source("a", 3)], build=toys.build, open_source=toys.open_toy)
    for frame in frames:
        height, width = frame.pixels.shape[:2]
        assert (width, height) == (frame.packet.frame.width, frame.packet.frame.height)
        with pytest.raises(ValueError, match="read-only"):
            frame.pixels[:] = 0


def test_what_a_mask_covers_is_in_no_frame():
    """Neither for stages nor for the consumer."""
    seen = []

    class Blind(toys.ToyDetect):
        def __call__(self, packets):
            seen.extend(self.site.pixels(packet.frame) for packet in packets)
            return [Detections.of(np.empty((0, 4)), np.empty(0)) for _ in packets]

    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn())])
    whole, masked = (
        [
            frame.pixels
            for frame in inline.frames(pipeline, [one], build=Blind, open_source=toys.open_toy)
        ]
        for one in (
            source("a", 3),
            msgspec.structs.replace(
                source("a", 3), privacy_masks=(((0, 0), (1, 0), (1, 0.5), (0, 0.5)),)
            ),
        )
    )
    for before, after in zip(whole, masked, strict=True):
        half = before.shape[0] // 2
        assert (after[:half] == COLOUR).all()
        assert (after[half + 3 :] == before[half + 3 :]).all()
    assert all((pixels[:half] == COLOUR).all() for pixels in seen[len(whole) :])


def test_what_the_consumer_raises_passes_through_and_the_run_is_drained(tmp_path):
    def refuse(packet):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([source("a", 5)], tmp_path, on_packet=refuse)
    assert (tmp_path / "publish-a.log").read_text().splitlines()[-1] == "end drained"
