"""`stream` gives what `run` writes, closes everything however it is left, and draws."""

from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import yaml
from published import content
from walkers import assert_same, quick_people

import streamvis
from streamvis.api import runs
from streamvis.config import Pipeline, Record, StageSpec, load_pipeline
from streamvis.errors import ConfigError, SourceError, UsageError, WeightsError
from streamvis.events.envelope import Event
from streamvis.events.log import LogReader
from streamvis.messages import Detections, Packet, Receipt
from streamvis.runtime.output import LOCK
from streamvis.sources import open_source, resolve
from streamvis.stages import KINDS, event_codec
from streamvis.stages.protocol import part_name

FRAMES = 15


@pytest.fixture(scope="module")
def people(looks):
    return quick_people(looks)


@pytest.fixture(scope="module")
def packets(clip, people, one_thread):
    return list(streamvis.stream(clip, settings=people))


def test_every_frame_comes_with_its_pixels_and_parts(packets, clip):
    (spec,) = resolve([str(clip)])
    with closing(open_source(spec)) as source:
        pictures = [picture.pixels.copy() for picture in source]
    assert [packet.frame.seq for packet in packets] == list(range(FRAMES))
    for packet, pixels in zip(packets, pictures, strict=True):
        np.testing.assert_array_equal(packet.pixels, pixels)
        assert not packet.pixels.flags.writeable
        assert packet.source == spec.id
        assert packet.time_s == packet.frame.seq / 5
        assert packet.embeddings is not None
        assert packet.motion is not None
        assert packet.actions is packet.segmentation is packet.forecast is None
        assert len(packet.embeddings.vectors) == 0  # the tracker computes those that it needs
        assert packet.part(Receipt) is None
    assert max(len(packet.tracks) for packet in packets) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_packet_has_a_property_for_the_part_of_each_kind(kind):
    name = part_name(kind.writes)
    if kind.writes is not Receipt:
        types = get_args(get_type_hints(getattr(streamvis.StreamPacket, name).fget)["return"])
        assert types == (kind.writes, type(None))


def test_the_classes_one_by_one_give_the_same(packets, people, looks, clip):
    settings = {key.partition(".")[2]: value for key, value in people.items() if "detect." in key}
    detect = streamvis.Detector(**settings)
    embed = streamvis.Embedder(looks, engine="torch", precision="fp32")
    tracker = streamvis.Tracker(ground_plane=clip.with_name("ground_plane.json"))
    for packet in packets:
        found = detect(packet.pixels)
        tracks = tracker.update(found, embed, picture=packet.pixels, time_s=packet.time_s)
        assert_same(found, packet.detections)
        assert_same(tracks, packet.tracks)
    everybody = {**people, "embed.on_demand": False}
    for packet in islice(streamvis.stream(clip, settings=everybody), 3):
        assert packet.embeddings is not None
        assert len(packet.embeddings.vectors) == len(packet.detections)
        assert_same(embed(packet.pixels, packet.detections), packet.embeddings)


def events(out: Path) -> list[Event]:
    """The log without what differs between two runs: their names and the wall clock."""
    with LogReader(out / "events.db") as log:
        return [content(event_codec().decode(row.payload)) for row in log.events()]


def test_a_stream_is_the_run_in_processes(packets, clip, people, tmp_path):
    placement = tmp_path / "placement.yaml"
    heavy, light = ["detect", "embed"], ["camera", "track", "publish"]
    workers = [{"stages": heavy, "threads": 1}, {"stages": light}]
    placement.write_text(yaml.safe_dump({"workers": workers}))
    given = {"settings": people, "out": tmp_path / "run"}
    summary = streamvis.run("people", [clip], on=placement, **given)
    assert [(one.ending, one.admitted) for one in summary.sources] == [("eof", FRAMES)]
    logged = list(streamvis.stream([clip], settings=people, out=tmp_path / "stream"))
    for one, other in zip(logged, packets, strict=True):
        assert_same(one.tracks, other.tracks)
        assert one.part(Receipt) is not None
    assert events(tmp_path / "run") == events(tmp_path / "stream")
    text = (tmp_path / "run" / "tracks.txt").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    tracked = [(p.frame.n + 1, id_) for p in packets for id_ in p.tracks.ids.tolist()]
    assert sorted((int(row[0]), int(row[1])) for row in rows) == sorted(tracked)


def test_leaving_the_loop_closes_all_and_leaves_a_complete_log(clip, people, tmp_path):
    out = tmp_path / "out"
    for packet in streamvis.stream(clip, settings=people, out=out):
        if packet.frame.seq == 9:
            break
    assert not (out / LOCK).exists()
    assert (out / "summary.json").is_file()
    seen = {int(row.split(",")[0]) for row in (out / "tracks.txt").read_text().splitlines()}
    assert max(seen) == 10
    types = [event.type for event in events(out)]
    assert types.count("track.begin") == types.count("track.end") > 0


@pytest.mark.parametrize("end", ["break", "raise", "close"])
def test_no_thread_descriptor_or_process_is_left(end, clip, people):
    # the fixture `nothing_left_behind` looks
    running = streamvis.stream(clip, settings=people)
    with suppress(ZeroDivisionError), closing(running):
        for packet in running:
            if end == "raise":
                assert packet.frame.seq // 0
            break
    assert list(running) == []


def test_a_stream_that_is_never_begun_opens_nothing(clip, people, tmp_path):
    running = streamvis.stream(clip, settings=people, out=tmp_path / "out")
    del running
    assert not (tmp_path / "out").exists()


def test_a_used_directory_is_refused_unless_said_otherwise(clip, people, tmp_path):
    given = {"pipeline": "people", "settings": people, "out": tmp_path}
    with closing(streamvis.stream(clip, **given)) as running:
        next(running)
    says = r"holds a run already .*\(on_used='resume'\).*\(on_used='overwrite'\).*\(out=\)"
    with pytest.raises(UsageError, match=says):
        next(streamvis.stream(clip, **given))
    again = list(streamvis.stream(clip, **given, on_used="overwrite"))
    assert len(again) == FRAMES
    assert list(streamvis.stream(clip, **given, on_used="resume")) == []  # it is finished


def test_exceptions_of_stages_pass_through(clip, people):
    settings = {**people, "detect.weights": "nobody"}
    with pytest.raises(WeightsError, match="no weights 'nobody'"):
        next(streamvis.stream(clip, settings=settings))


@pytest.mark.parametrize(
    ("given", "error", "problem"),
    [
        ({"pipeline": "peeple"}, ConfigError, "did you mean people"),
        ({"sources": []}, UsageError, "there is no source"),
        ({"sources": "absent.mp4"}, SourceError, "absent.mp4"),
        (
            {"settings": {"detect.min_score": 2, "detect.masks": True}},
            ConfigError,
            "^people with the settings detect.min_score=2, detect.masks=true: .*min_score",
        ),
        ({"settings": {"detect": 2}}, UsageError, "^setting detect=2: expected stage.key=value"),
        ({"settings": {"a.b": 2}}, UsageError, "^setting a.b=2: people has no stage 'a'"),
        ({"settings": ["detect.speed=fast"]}, UsageError, "settings is a list; expected a mapping"),
        ({"settings": {5: 2}}, UsageError, "settings: the key 5 is no text; expected stage.key"),
        ({"give_up_s": -1}, UsageError, "give_up_s is -1; expected seconds"),
        ({"give_up_s": float("nan")}, UsageError, "give_up_s is nan"),
        ({"give_up_s": "5"}, UsageError, "give_up_s is '5'"),
        (
            {"settings": {"detect.masks": 1j}},
            UsageError,
            "detect.masks is 1j: it has a complex",
        ),
        ({"settings": {"track.clutter": np.inf}}, UsageError, "track.clutter is inf: .*finite"),
        ({"settings": {"detect.region": [[np.nan]]}}, UsageError, "finite numbers"),
        ({"sources": None}, UsageError, "found a NoneType; expected a path"),
        ({"sources": b"a.mp4"}, UsageError, "found a bytes; expected a path"),
        ({"sources": 999}, SourceError, "cameras have the numbers 0 to 255"),
        ({"pipeline": Pipeline([]), "settings": {"a.b": 1}}, UsageError, "this one is loaded"),
        ({"pipeline": None}, UsageError, "pipeline is None; expected a name, such as 'people'"),
        ({"pipeline": ""}, UsageError, "pipeline is ''; expected a name"),
        ({"out": 5}, UsageError, "out is 5; expected the path of a directory, or None"),
        ({"out": ""}, UsageError, "out is ''; expected the path"),
        ({"out": "a\0b"}, UsageError, "out is .*; expected the path"),
        ({"on_used": "yes"}, UsageError, "on_used is 'yes'; expected one of 'refuse', 'overwrite'"),
        ({"on_used": np.zeros(3)}, UsageError, "on_used is array"),
    ],
)
@pytest.mark.parametrize("call", [streamvis.stream, streamvis.run])
def test_wrong_arguments_are_refused_at_once(call, given, error, problem, clip):
    with pytest.raises(error, match=problem):
        call(**{"sources": clip, **given})


@pytest.mark.parametrize(
    ("call", "given", "problem"),
    [
        (streamvis.stream, {"device": 0}, "stream: device is 0; expected a text: cpu, cuda:0"),
        (streamvis.run, {"on": 5}, "on is 5; expected the name or path of a placement"),
        (streamvis.run, {"annotate": "no"}, "annotate is 'no'; expected True or False"),
        (streamvis.run, {"on_status": 5}, "on_status is 5; expected a function"),
    ],
)
def test_arguments_of_one_of_them_are_refused_too(call, given, problem, clip):
    with pytest.raises(UsageError, match=problem):
        call(sources=clip, **given)


def test_settings_may_be_numbers_of_numpy_and_paths():
    given = {"detect.min_score": np.float32(0.25), "detect.weights": Path("w.safetensors")}
    texts = {key: runs._text_of(key, value) for key, value in given.items()}
    assert texts == {"detect.min_score": "0.25", "detect.weights": '"w.safetensors"'}
    regions = runs._text_of("detect.region", np.array([[[0, 0], [1, 0], [1, 1]]]))
    assert regions == "[[[0, 0], [1, 0], [1, 1]]]"
    assert runs._pipeline("people", {"track.clutter": 2e-7}).stage("track").run.clutter == 2e-7


def test_a_pipeline_of_files_alone_needs_a_directory(clip):
    only = Pipeline([StageSpec("film", Record())])
    with pytest.raises(UsageError, match="give `out`"):
        streamvis.stream(clip, only)


@pytest.mark.parametrize("name", ["people", "actions", "forecast", "full"])
def test_shipped_pipelines_go_by_name_anywhere(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    streamvis.stream("synthetic:walkers", name)  # loaded and checked, not begun
    assert load_pipeline(Path(name)).stages


def test_several_sources_and_a_loaded_pipeline(clip, people):
    pipeline = load_pipeline(None, {"detect.engine": "torch", "detect.short_side": "64"})
    only = Pipeline([pipeline.stage("detect")])
    found = [
        (p.source, p.frame.seq)
        for p in islice(streamvis.stream([f"a={clip}", f"b={clip}"], only), 6)
    ]
    assert sorted(found) == [(name, n) for name in "ab" for n in range(3)]


def test_a_packet_is_drawn_as_its_parts_are(packets):
    packet = packets[-1]
    drawn = streamvis.annotate(packet.pixels, packet)
    assert drawn.shape == packet.pixels.shape
    assert (drawn != packet.pixels).any()
    parts = streamvis.annotate(packet.pixels, packet.detections, packet.tracks)
    np.testing.assert_array_equal(drawn, parts)
    same = streamvis.annotate(packet.pixels, Packet(frame=packet.frame, parts=packet.parts))
    np.testing.assert_array_equal(drawn, same)
    np.testing.assert_array_equal(streamvis.annotate(packet.pixels), packet.pixels)
    with pytest.raises(streamvis.StreamvisError, match="annotate: cannot draw a list"):
        streamvis.annotate(packet.pixels, [packet])


def test_a_packet_says_what_is_in_it(packets):
    text = repr(packets[-1])
    assert text.startswith("StreamPacket(walkers, 2.8 s, 320x240 px, Detections(")
    assert "Tracks(" in text
    assert "array" not in text
    assert isinstance(packets[0].part(Detections), streamvis.Detections)
