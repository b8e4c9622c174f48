"""The camera stage: sources apart, first pictures, epochs, sizes, resuming exactly, no torch."""

import subprocess
import sys

import av
import cv2
import msgspec
import numpy as np
import pytest
from factories import frame, source

from streamvis.config import CameraMotion, Pipeline, StageSpec
from streamvis.errors import DataError, RunError
from streamvis.messages import Motion, Notice, Packet, encode_part
from streamvis.runtime import inline
from streamvis.runtime.host import build_stage
from streamvis.sources import resolve
from streamvis.stages.camera_motion.stage import CameraStage, PreviousFrame
from streamvis.stages.protocol import Site

STEP = np.array([6.0, -4.0])  # px that the view goes from picture to picture


def world():
    random = np.random.default_rng(7)
    total = np.zeros((480, 720, 3), dtype=np.float32)
    for size in (8, 24, 80):
        noise = random.normal(size=(480 // size + 1, 720 // size + 1, 3)).astype(np.float32)
        total += cv2.resize(noise, (720, 480), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 40 * total, 0, 255).astype(np.uint8)


WORLD = world()


def picture(k, width=320, height=240):
    """The k-th picture of a camera that pans evenly; the background moves by STEP."""
    x, y = np.array([200, 60]) - k * STEP.astype(int)
    return WORLD[y : y + height, x : x + width]


PICTURES = {}


def packet(name, k, *, shown=None, size=(320, 240), epoch=1):
    pixels = picture(k if shown is None else shown, *size).copy()
    pixels.flags.writeable = False  # as a slot is
    PICTURES[f"{name}{k}"] = pixels
    return Packet(frame=frame(k, name, size=size, slot=f"{name}{k}", epoch=epoch))


def stage():
    return CameraStage(Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot]))


def started(*names):
    ready = stage()
    for name in names:
        ready.begin(info(name), None)
    return ready


def info(name):
    return source(name, size=(320, 240))


def shift(motion):
    """Where the background at the middle of the picture went."""
    middle = np.array([160.0, 120.0])
    return motion.warp[:, :2] @ middle + motion.warp[:, 2] - middle


def is_unknown(motion):
    return motion.support == 0 and (motion.warp == np.eye(2, 3)).all()


def test_the_background_of_an_even_pan_moves_evenly():
    first, *others = started("a")([packet("a", k) for k in range(6)])
    assert is_unknown(first)
    for motion in others:
        assert motion.support > 0.9
        assert shift(motion) == pytest.approx(STEP, abs=0.1)


def test_slow_pans_add_up_until_they_can_be_measured():
    ready, summed, still = PreviousFrame(), np.zeros(2), 0
    for k in range(40):
        drifted = np.array([[1, 0, 0.05 * k - 200], [0, 1, -60]])
        motion = ready.motion_to(cv2.warpAffine(WORLD, drifted, (320, 240)))
        summed += shift(motion)
        still += k > 0 and (motion.warp == np.eye(2, 3)).all()
        assert k == 0 or motion.support > 0.9
    assert still > 20
    assert summed == pytest.approx([0.05 * 39, 0], abs=0.3)


def test_a_place_without_corners_stays_unknown():
    grey = np.full((240, 320, 3), 128, np.uint8)
    ready = PreviousFrame()
    assert all(is_unknown(ready.motion_to(grey)) for _ in range(4))


def test_sources_are_kept_apart():
    packets = [
        packet(name, k, shown=k * way) for k in range(4) for name, way in (("a", 1), ("b", 2))
    ]
    answers = list(started("a", "b")(packets))
    assert shift(answers[-2]) == pytest.approx(STEP, abs=0.1)
    assert shift(answers[-1]) == pytest.approx(2 * STEP, abs=0.1)


def test_batches_change_nothing():
    packets = [packet("a", k) for k in range(6)]
    together = [encode_part(motion) for motion in started("a")(packets)]
    single = started("a")
    assert [encode_part(motion) for p in packets for motion in single([p])] == together


@pytest.mark.parametrize("shown", [range(6), [0, 1, 1, 1, 2, 2]])
def test_a_successor_goes_on_exactly(shown):
    packets = [packet("a", k, shown=of) for k, of in enumerate(shown)]
    whole = [encode_part(motion) for motion in started("a")(packets)]
    for cut in range(7):
        first, second = started("a"), stage()
        head = [encode_part(motion) for motion in first(packets[:cut])]
        state = first.state("a")
        assert len(state) < 100_000
        second.begin(info("a"), state)
        assert second.state("a") == state
        assert head + [encode_part(motion) for motion in second(packets[cut:])] == whole


def test_a_new_stream_epoch_starts_over():
    ready = started("a")
    list(ready([packet("a", k) for k in range(3)]))
    ready.notice(Notice(source="a", kind="epoch", media_us=200_000))
    again = list(ready([packet("a", 3 + k, shown=k, epoch=2) for k in range(3)]))
    assert is_unknown(again[0])
    assert shift(again[1]) == pytest.approx(STEP, abs=0.1)
    second = stage()  # which is told that the source began with epoch 1
    second.begin(info("a"), ready.state("a"))
    (motion,) = second([packet("a", 6, shown=3, epoch=2)])
    assert shift(motion) == pytest.approx(STEP, abs=0.1)


def test_a_new_size_starts_over():
    sizes = [(320, 240), (320, 240), (300, 200), (300, 200)]
    answers = list(started("a")([packet("a", k, size=size) for k, size in enumerate(sizes)]))
    assert [is_unknown(motion) for motion in answers] == [True, False, True, False]


def test_over_frames_that_were_dropped_the_motions_add_up():
    ready = started("a")
    list(ready([packet("a", 0)]))
    ready.notice(Notice(source="a", kind="gap", media_us=0, first_n=1, last_n=2))
    (motion,) = ready([packet("a", 3)])
    assert shift(motion) == pytest.approx(3 * STEP, abs=0.1)


def test_a_finished_source_is_forgotten():
    ready = started("a", "b")
    ready.finish("a", "eof")
    list(ready([packet("b", 0)]))
    with pytest.raises(RunError, match=r"kind camera_motion got source 'a', .* Begun: b"):
        list(ready([packet("a", 0)]))
    ready.close()


def state_of(epoch, size, gray):
    own = msgspec.msgpack.encode([size, gray])
    return msgspec.msgpack.encode([[epoch, (320, 240)], own])


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"no",
        state_of(1, (4, 4), b"\0" * 15),
        state_of(1, (-4, 4), b"\0" * 16),
        state_of(1, (-4, -4), b"\0" * 16),
        state_of(1, (4,), b"\0" * 16),
        state_of(1, (10**9, 10**9), b"\0" * 16),
    ],
)
def test_a_state_of_something_else_is_refused(state):
    with pytest.raises(DataError, match="source a"):
        stage().begin(info("a"), state)


@pytest.fixture
def panning(tmp_path):
    """A video of the pan, with what encoding does to it."""
    path = tmp_path / "pan.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for k in range(12):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture(k)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_in_a_pipeline_it_measures_a_video(panning):
    pipeline = Pipeline([StageSpec("camera", CameraMotion())])
    packets = []
    inline.run(pipeline, resolve([str(panning)]), build=build_stage, on_packet=packets.append)
    first, *others = [packet.part(Motion) for packet in packets]
    assert len(others) == 11
    assert is_unknown(first)
    for motion in others:
        assert shift(motion) == pytest.approx(STEP, abs=0.3)


def test_it_needs_no_torch():
    code = "import sys, streamvis.stages.camera_motion.stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
