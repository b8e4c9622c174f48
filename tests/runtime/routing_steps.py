"""Steps of the routing core for tests: what comes in, and what is to be found in its orders."""

import facts
import msgspec

from streamvis.config import Jipda, MaskRcnn, Pipeline, Publish, StageSpec
from streamvis.messages import Notice, SourceInfo
from streamvis.runtime import protocol
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.protocol import Answer, DecodedFrame, FrameItem
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import StartProcess

INFO = SourceInfo(id="a", label="a", width=4, height=2, fps=25, live=False)
LIVE = msgspec.structs.replace(INFO, live=True)
CHAIN = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track"]),
    ]
)
DETECT = Pipeline(stages=[StageSpec("detect", MaskRcnn())])


def started(pipeline, placement=None, window=4, sources=("a",), limits=None, info=INFO):
    """A core whose processes are up and whose sources are open, with slots granted."""
    core = Core(
        group_stages(pipeline, placement or one_stage_per_worker(pipeline)), sources, window, limits
    )
    orders = core.step(protocol.Tick(0.0))
    assert orders == [StartProcess(process.name) for process in core.processes]
    for order in orders:
        core.step(facts.started(order.process, 0.0))
    for name in sources:
        assert core.step(facts.opened(name, msgspec.structs.replace(info, id=name), 0.0)) == []
        slots = [f"{name}{i}" for i in range(window)]
        at_once = [[slot] for slot in slots[:2]] if info.live else [slots]
        assert core.step(protocol.SlotsCreated(name, slots, 0.0)) == [
            protocol.GrantSlots(name, each) for each in at_once
        ]
    return core


def decoded_frame(slot, n, ms=None, gaps=()):
    media_us = (40 * n if ms is None else ms) * 1000
    return DecodedFrame(slot, n, media_us, 0, "file", 4, 2, 0, list(gaps))


def admit(core, n, at=0.0, source="a", **settings):
    return core.step(facts.admitted(source, decoded_frame(f"{source}{n}", n, **settings), at))


def answer(core, send, at=0.0, states=()):
    """The worker answers: each stage of its group wrote a part named after itself and the frame."""
    tasks = [item for item in send.items if isinstance(item, FrameItem)]
    names = send.process.rpartition(".")[0].split("+")
    wrote = [[name for name in names if name not in task.skip] for task in tasks]
    blobs = [
        f"{name}/{task.frame.source}/{task.frame.seq}"
        for task, ran in zip(tasks, wrote, strict=True)
        for name in ran
    ]
    return core.step(
        facts.answered(send.process, Answer(send.id, wrote, list(states), []), blobs, at)
    )


def only(orders, kind):
    return [order for order in orders if isinstance(order, kind)]


def missing(reason, first_n, last_n, count=None, media_us=0):
    return Notice(
        source="a",
        kind="gap",
        media_us=media_us,
        first_n=first_n,
        last_n=last_n,
        reason=reason,
        count=last_n - first_n + 1 if count is None else count,
    )


def frames(send):
    return [(i.frame.source, i.frame.seq) for i in send.items if isinstance(i, FrameItem)]
