"""Events state on which device each stage processed their frame, where that is asked for."""

import json

import numpy as np
import pytest
import toys
from published import content

from streamvis.config import (
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    StageSpec,
    WorkerSpec,
)
from streamvis.events.log import LogReader
from streamvis.messages import Detections, Frame, Receipt, StageRun
from streamvis.runtime import inline, launch
from streamvis.runtime.host import Host
from streamvis.runtime.protocol import FrameItem
from streamvis.sources.spec import SourceSpec
from streamvis.stages import event_codec

EARLIER = StageRun("cuda:1", 12.5)


def street(detect="detect", provenance=True, every_s=0.0):
    tracker = Jipda(memory_s=0.2, remember_s=0)
    return Pipeline(
        [
            StageSpec(detect, MaskRcnn(), every_s=every_s),
            StageSpec("track", tracker, after=[detect]),
            StageSpec("publish", Publish(bind=None, provenance=provenance), after=["track"]),
        ]
    )


def run(pipeline, out):
    """Run it with a worker for each stage; return the events."""
    placement = Placement([WorkerSpec([stage.name], batch=2) for stage in pipeline.stages])
    sources = [SourceSpec(id="a", uri="toy:60", kind="file")]
    toy = {"build": "toys:build_street", "open_source": "toys:open_toy"}
    launch.run(pipeline, placement, sources, out=out, **toy)
    return events(out)


def events(out):
    with LogReader(out / "events.db") as log:
        return [json.loads(row.payload) for row in log.events("a")]


def test_each_event_about_a_frame_states_the_stages_above_the_publisher(tmp_path):
    logged = run(street(every_s=0.08), tmp_path)
    of_frames = [event for event in logged if event["frame"]]
    assert {event["type"] for event in of_frames} >= {"track.begin", "track.update", "track.end"}
    for event in of_frames:
        sampled = event["frame"]["n"] % 2 == 0  # every 0.08 s of 25 frames a second
        stages = event["prov"]["stages"]
        assert list(stages) == (["detect", "track"] if sampled else ["track"])
        assert all(one["device"] == "cpu" and one["ms"] > 0 for one in stages.values())
    assert all("stages" not in event["prov"] for event in logged if not event["frame"])


def test_without_the_setting_nothing_is_stated(tmp_path):
    logged = run(street(provenance=False), tmp_path)
    assert any(event["frame"] for event in logged)
    assert all("stages" not in event["prov"] for event in logged)


def test_the_inline_engine_states_it_too_and_its_events_have_the_same_content(tmp_path):
    pipeline = street()
    sources = [SourceSpec(id="a", uri="toy:60", kind="file")]
    toy = {"build": toys.build_street, "open_source": toys.open_toy}
    inline.run(pipeline, sources, out=tmp_path / "one", **toy)
    alone, many = events(tmp_path / "one"), run(pipeline, tmp_path / "many")
    assert all(
        event["prov"]["stages"].keys() == {"detect", "track"} for event in alone if event["frame"]
    )

    hashes = {event["prov"]["pipeline"] for event in (*alone, *many)}
    assert hashes == {pipeline.hash}

    def contents(logged):
        read = [event_codec().decode(json.dumps(event).encode()) for event in logged]
        return [(content(one).offset, content(one).frame, content(one).what) for one in read]

    assert contents(alone) == contents(many)


def test_a_worker_that_dies_leaves_the_provenance_of_what_was_processed_again(tmp_path):
    logged = run(street("once-30"), tmp_path)
    of_frames = [event for event in logged if event["frame"]]
    assert of_frames[-1]["frame"]["n"] > 30
    for event in of_frames:
        assert list(event["prov"]["stages"]) == ["once-30", "track"]


class Recorder:
    """A stage that keeps what it is told of other stages."""

    def __init__(self, part):
        self.part = part
        self.ran = []

    def __call__(self, packets):
        self.ran += [packet.ran for packet in packets]
        return [self.part for _ in packets]

    def state(self, source):
        return b""


def item(ran=None):
    frame = Frame(source="a", seq=0, n=0, media_us=0, width=1, height=1)
    return FrameItem(frame, [], [], ran or {})


def nobody():
    return Detections.of(np.zeros((0, 4)), [])


def test_a_network_ran_on_the_device_of_the_worker_and_others_on_its_cpu():
    stages = {name: Recorder(nobody()) for name in ("detect", "track")}
    answer, _ = Host(street(), stages, "cuda:0")(1, [item()], [])
    (ran,) = answer.ran
    assert [(name, one.device) for name, one in ran.items()] == [
        ("detect", "cuda:0"),
        ("track", "cpu"),
    ]
    assert stages["track"].ran == [{}]  # it does not read it


def test_the_publisher_reads_what_ran_above_it_in_other_workers_and_in_its_own():
    publish = Recorder(Receipt())
    stages = {"track": Recorder(nobody()), "publish": publish}
    known = {"detect": EARLIER, "elsewhere": EARLIER}
    Host(street(), stages)(1, [item(known)], [])
    ((name, first), (other, _)) = publish.ran[0].items()
    assert (name, first, other) == ("detect", EARLIER, "track")


@pytest.mark.parametrize("provenance", [True, False])
def test_an_answer_has_it_only_where_a_stage_reads_it(provenance):
    host = Host(street(provenance=provenance), {"detect": Recorder(nobody())})
    answer, _ = host(1, [item(), item()], [])
    assert len(answer.ran) == 2 * provenance
