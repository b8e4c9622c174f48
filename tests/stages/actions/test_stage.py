"""Actions of people and of frames: on time, in any batch, along tracks, and after a restart."""

import cv2
import msgspec
import numpy as np
import pytest
import torch
from factories import packet as packet_of
from factories import source, tracks

from streamvis.config import OffActions, StageSpec
from streamvis.errors import ConfigError, DataError, ModelError, RunError
from streamvis.messages import Actions, Frame, SourceInfo, encode_part
from streamvis.models.crops import crop
from streamvis.models.inference.select import openvino_version
from streamvis.models.off import Calibration, Off, OffConfig, consensus
from streamvis.models.weights import load_actions, save
from streamvis.runtime.host import build_stage
from streamvis.stages.actions.stage import ActStage
from streamvis.stages.actions.state import ActionState, SamplingPlan
from streamvis.stages.protocol import Site

PICTURES: dict[str, np.ndarray] = {}
SIZE = (64, 64)
WINDOW = 9


def network(**changes) -> Off:
    """Untrained, small, and far from indifferent: what moves changes what it says."""
    torch.manual_seed(0)
    given = {"actions": ("fight", "normal"), "size": SIZE, "window": WINDOW, "every_s": 0.1}
    small = {"widths": (8, 8, 8), "temporal": 8, "spatial": 4}
    model = Off(OffConfig(name="untrained", **{**given, **small, **changes}))
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    torch.nn.init.normal_(model.head.weight, std=0.002)
    if model.guided is not None:
        for linear in model.guided.classify:
            torch.nn.init.normal_(linear.weight, std=0.05)
    model.calibration = Calibration(scale=0.5, shift=(0.1, 0.0))
    return model.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save(network(), path, {})
    return str(path)


@pytest.fixture
def stage(weights):
    def make(*sources: str, **settings) -> ActStage:
        given = {"weights": weights, "engine": "torch", "precision": "fp32", **settings}
        given = {"min_height": 20, "context": 2.0, **given}
        spec = StageSpec("act", OffActions(**given))
        made = build_stage(spec, Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot]))
        assert isinstance(made, ActStage)
        for name in sources or ("a",):
            made.begin(info(name), None)
        return made

    return make


def info(name: str = "a") -> SourceInfo:
    return source(name, size=(320, 240))


def texture(seed: int, height: int, width: int) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.repeat(np.repeat(rough, 8, 0), 8, 1)


GROUND, SHIRT = texture(1, 240, 320), texture(2, 96, 48)
STEPS = {7: (40.0, 60.0), 9: (-30.0, 30.0), 12: (0.0, 50.0)}  # px/s to the right, swing in px/s
STARTS = {7: (30, 100), 9: (230, 60), 12: (130, 20)}


def place(who: int, seconds: float) -> np.ndarray:
    """The box of somebody who walks evenly."""
    x, y = STARTS[who][0] + STEPS[who][0] * seconds, STARTS[who][1]
    return np.array([x, y, x + 48, y + 96], np.float32)


def picture(seconds: float, people) -> np.ndarray:
    """A scene that depends on time alone: whoever is there walks, their shirt sways."""
    image = GROUND.copy()
    for who in people:
        x, y, _, _ = place(who, seconds).round().astype(int)
        sway = int(6 * np.sin(STEPS[who][1] * seconds / 6))
        image[y : y + 96, x : x + 48] = np.roll(SHIRT, sway, 0)
    image.flags.writeable = False  # as a slot is
    return image


def packet(k, fps=10, people=(7,), name="a", *, epoch=1, part=True, rounding=1, **changes):
    seconds = k / fps
    slot = f"{name}{seconds:.4f}{people}"
    if slot not in PICTURES:
        PICTURES[slot] = picture(seconds, people)
    media_us = round(seconds * 1e6 / rounding) * rounding
    followed = tracks(people, [place(who, seconds) for who in people], **changes)
    given = {"size": (320, 240), "media_us": media_us, "slot": slot, "epoch": epoch}
    return packet_of(k, followed if part else None, source=name, **given)


def run(act: ActStage, packets) -> list[Actions]:
    return [answer for one in packets for answer in act([one])]


def p_of(part: Actions, who: int) -> float:
    (row,) = np.flatnonzero(part.ids == who)
    return float(part.probabilities[row, 0])


def same(one: Actions, other: Actions, atol: float = 1e-5) -> None:
    for name in ("ids", "warm", "window_us", "sampled"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=atol)


@pytest.mark.parametrize("count", [2, 5, WINDOW + 1, WINDOW + 4])
def test_the_stream_says_of_a_frame_what_the_clip_says(stage, weights, count):
    packets = [packet(k) for k in range(count)]
    told = run(stage(scope="frame"), packets)[-1]
    model = load_actions(weights)
    clip = np.stack([PICTURES[one.frame.slot] for one in packets[-WINDOW - 1 :]])
    clip = np.stack([cv2.resize(one, SIZE, interpolation=cv2.INTER_AREA) for one in clip])
    with torch.inference_mode():
        streams = consensus(model(model.normalise(clip[None])))
        expected = model.calibration.probabilities(streams)[0].numpy()
    assert told.ids.tolist() == [0]
    np.testing.assert_allclose(told.probabilities[0], expected, atol=1e-5)
    assert told.window_us.tolist() == [100_000 * (len(clip) - 1)]
    assert told.warm.tolist() == [len(clip) > 7]


def test_the_stream_says_of_a_person_what_the_clip_along_the_track_says(stage, weights):
    act, windows = stage(), []
    for k in range(WINDOW + 3):
        (told,) = act([packet(k)])
        windows.append(act.sources["a"].subjects[7].samples[-1].box)
    clip = np.concatenate(
        [crop(PICTURES[packet(k).frame.slot], [box], SIZE) for k, box in enumerate(windows)]
    )[-WINDOW - 1 :]
    model = load_actions(weights)
    with torch.inference_mode():
        streams = consensus(model(model.normalise(clip[None])))
        expected = model.calibration.probabilities(streams)[0].numpy()
    np.testing.assert_allclose(told.probabilities[0], expected, atol=1e-5)


def test_the_window_glides_along_with_a_person_and_shows_what_is_around(stage):
    act = stage()
    run(act, [packet(k) for k in range(30)])
    x1, y1, x2, y2 = act.sources["a"].subjects[7].samples[-1].box
    assert (x2 - x1, y2 - y1) == pytest.approx((192, 192))
    at = place(7, 2.9)
    lag = (at[0] + at[2]) / 2 - (x1 + x2) / 2
    assert lag == pytest.approx(40 * 0.15, abs=0.5)  # speed times the time constant
    assert (y1 + y2) / 2 == pytest.approx(240 - 192 / 2)  # 148, but that is below the frame


@pytest.mark.parametrize("rounding", [1, 1000])
def test_the_frame_rate_moves_the_probability_by_less_than_two_hundredths(stage, rounding):
    people = (7, 9, 12)
    curves = {}
    for fps in (10, 20, 30):
        packets = [packet(k, fps, people, rounding=rounding) for k in range(2 * fps + 1)]
        told = run(stage(scope="both"), packets)
        curves[fps] = np.stack(
            [[p_of(told[i * fps // 10], who) for who in (0, *people)] for i in range(21)]
        )
        assert sum(part.sampled.any() for part in told) == 21
    assert np.ptp(curves[10], axis=0).max() > 0.05  # there is something to tell
    for fps in (20, 30):
        assert np.abs(curves[fps] - curves[10]).max() < 0.02


@pytest.mark.parametrize("fps", [12.5, 15, 24, 25, 29.97, 59.94])
def test_odd_frame_rates_are_sampled_as_often(fps):
    plan = SamplingPlan.of(OffActions(scope="frame"), 0.1, WINDOW, SIZE)
    watch = ActionState(plan, 2)
    frames = [
        Frame(source="a", seq=k, n=k, media_us=round(k / fps * 1e6), width=320, height=240)
        for k in range(int(20 * fps) + 1)
    ]
    times = [one.media_us for one in frames if watch.observe(one, None)[0].sampled]
    assert 199 <= len(times) <= 201
    late = np.array(times) - 100_000 * np.arange(len(times))
    assert late.min() >= -5_000
    assert late.max() < 1e6 / fps


def test_a_slow_camera_is_looked_at_in_every_frame():
    watch = ActionState(SamplingPlan.of(OffActions(scope="frame"), 0.1, WINDOW, SIZE), 2)
    for k in range(20):
        frame = Frame(source="a", seq=k, n=k, media_us=k * 200_000, width=320, height=240)
        (row,) = watch.observe(frame, None)
        assert row.sampled
        assert row.sample.paired == (k > 0)


def test_between_samples_the_last_word_stands_and_nothing_is_computed(stage):
    act = stage()
    calls = []
    inner = act.network.project
    act.network.project = lambda crops: (calls.append(len(crops)), inner(crops))[1]
    told = run(act, [packet(k, 40) for k in range(9)])
    assert [part.sampled.tolist() for part in told] == [[k % 4 == 0] for k in range(9)]
    assert calls == [1, 1, 1]
    for k in range(9):
        np.testing.assert_array_equal(told[k].probabilities, told[k // 4 * 4].probabilities)


def test_frames_of_a_call_are_the_frames_one_by_one(stage):
    packets = [
        packet(k, people=who, name=name)
        for k in range(12)
        for name, who in (("a", (7, 9)), ("b", (12,)))
    ]
    alone = run(stage("a", "b"), packets)
    together = [*stage("a", "b")(packets)]
    for one, other in zip(alone, together, strict=True):
        same(one, other)
    assert [*stage()([])] == []


def test_who_ends_is_forgotten_and_who_comes_is_cold(stage):
    act = stage()
    run(act, [packet(k, people=(7, 9)) for k in range(9)])
    (told,) = act([packet(9, people=(9, 12), ended=np.array([7]))])
    assert told.ids.tolist() == [9, 12]
    assert told.warm.tolist() == [True, False]
    assert set(act.sources["a"].subjects) == {9, 12}
    encode_part(told)


def test_a_merge_keeps_the_ring_of_who_is_kept(stage):
    act = stage()
    run(act, [packet(k, people=(7, 9)) for k in range(9)])
    mine = act.sources["a"].subjects[7]
    (told,) = act([packet(9, people=(7,), merged=np.array([[9, 7]]))])
    assert told.warm.tolist() == [True]
    assert act.sources["a"].subjects == {7: mine}


def test_a_merge_into_somebody_forgotten_goes_on(stage):
    act = stage()
    run(act, [packet(k, people=(9,)) for k in range(9)])
    mine = act.sources["a"].subjects[9]
    moved = tracks([7], [place(9, 0.9)], merged=np.array([[9, 7]]))
    (told,) = act([msgspec.structs.replace(packet(9, people=(9,)), parts=[moved])])
    assert (told.ids.tolist(), told.warm.tolist()) == ([7], [True])
    assert act.sources["a"].subjects == {7: mine}


def test_a_split_leaves_nothing_of_either(stage):
    act = stage()
    run(act, [packet(k, people=(7, 9)) for k in range(9)])
    (told,) = act([packet(9, people=(7, 9), split=np.array([[7, 9, 300_000]]))])
    assert told.warm.tolist() == [False, False]
    assert told.window_us.tolist() == [0, 0]


def test_the_tallest_are_looked_at_and_stay_so(stage):
    act = stage(people=1)
    small, tall = [100, 50, 140, 130], [200, 50, 240, 140]

    def at(k, boxes):
        one = packet(k, people=(7, 9))
        return msgspec.structs.replace(one, parts=[tracks([7, 9], boxes)])

    assert run(act, [at(0, [small, tall])])[0].ids.tolist() == [9]
    grown = [100, 50, 140, 150]  # taller, but not by much
    assert [run(act, [at(k, [grown, tall])])[0].ids.tolist() for k in range(1, 9)] == [[9]] * 8
    huge = [100, 10, 200, 230]
    assert run(act, [at(k, [huge, tall]) for k in range(9, 30)])[-1].ids.tolist() == [7]
    kept = [m.features for s in act.sources["a"].subjects.values() for m in s.samples]
    assert sum(one is not None for one in kept) == 2  # two moments' maps for one person


def test_the_small_are_not_looked_at(stage):
    (told,) = stage(min_height=97)([packet(0)])
    assert told.ids.tolist() == []
    assert told.probabilities.shape == (0, 2)


def test_a_frame_without_tracks_waits_and_forgets_nobody(stage):
    act = stage(scope="both")
    told = run(act, [packet(k, part=k != 8) for k in range(12)])
    assert told[8].sampled.tolist() == [False, False]
    assert told[8].ids.tolist() == [0, 7]
    assert told[9].sampled.tolist() == [True, True]


def test_after_a_gap_nothing_is_paired_across_it(stage):
    act = stage()
    told = run(act, [packet(k) for k in (*range(8), 12, 13)])
    assert [part.warm.tolist() for part in told[-3:]] == [[True], [False], [True]]


def test_a_new_epoch_or_size_starts_over(stage):
    act = stage()
    run(act, [packet(k) for k in range(9)])
    (told,) = act([packet(0, epoch=2)])
    assert (told.warm.tolist(), told.window_us.tolist()) == ([False], [0])


def test_a_successor_is_not_warm_at_once_but_knows_what_was_known(stage):
    packets = [packet(k, 20, people=(7, 9)) for k in range(61)]
    whole = run(stage(), packets)
    first, second = stage(), stage()
    run(first, packets[:25])
    state = first.state("a")
    assert len(state) < 1000
    second.begin(info(), state)
    assert second.state("a") == state
    rest = run(second, packets[25:])
    assert [part.sampled.any() for part in rest] == [p.sampled.any() for p in whole[25:]]
    np.testing.assert_allclose(rest[0].probabilities, whole[25].probabilities, atol=1e-6)
    assert [part.warm.all() for part in rest[:5]] == [False, False, False, True, True]
    drift = max(
        np.abs(a.probabilities - b.probabilities).max()
        for a, b in zip(rest, whole[25:], strict=True)
    )
    assert drift < 0.1
    same(rest[-1], whole[-1])  # a window later nothing of it is left


@pytest.mark.parametrize(
    "state",
    [b"", b"no", msgspec.msgpack.encode([[1, [320, 240]], msgspec.msgpack.encode([None, [[7]]])])],
)
def test_a_state_of_something_else_is_refused(stage, state):
    with pytest.raises(DataError, match="source a"):
        stage().begin(info(), state)


def test_a_state_of_other_weights_is_refused(stage, tmp_path):
    act = stage()
    run(act, [packet(k) for k in range(3)])
    other = tmp_path / "three.safetensors"
    model = network(actions=("fight", "fall", "normal"))
    model.calibration = Calibration()
    save(model, other, {})
    with pytest.raises(DataError, match="2 actions; expected at most 10 of 3"):
        stage(weights=str(other)).begin(info(), act.state("a"))


def test_a_network_of_frames_alone_tells_as_well(stage, tmp_path):
    path = tmp_path / "frames.safetensors"
    save(network(guided=False), path, {})
    told = run(stage(weights=str(path)), [packet(k) for k in range(9)])
    assert [part.warm.tolist() for part in told[-3:]] == [[False], [True], [True]]


def test_compiled_it_says_the_same(stage):
    if openvino_version() is None:
        pytest.skip("openvino is not installed")
    packets = [packet(k, people=(7, 9)) for k in range(9)]
    plain, compiled = (run(stage(engine=engine), packets) for engine in ("torch", "openvino"))
    for one, other in zip(plain, compiled, strict=True):
        same(one, other, atol=2e-3)


def test_weights_that_cannot_serve_are_told(stage, tmp_path):
    with pytest.raises(ConfigError, match=r"`ignore` lists all actions .*fight, normal"):
        stage(ignore=["normal", "fight"])
    path = tmp_path / "flow.safetensors"
    save(network(modality="flow"), path, {})
    with pytest.raises(ModelError, match="have modality flow, expected rgb"):
        stage(weights=str(path))


def test_what_has_ended_is_forgotten(stage):
    act = stage()
    run(act, [packet(0)])
    act.finish("a", "eof")
    with pytest.raises(RunError, match="kind off got source 'a', which has not begun or has ended"):
        run(act, [packet(1)])
    act.close()
