"""Forecasts of a stage: on time at any frame rate, scored when they are due, cold when unsure."""

import cv2
import msgspec
import numpy as np
import pytest
import torch
from factories import packet as packet_of
from factories import source
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import Forecaster as Config
from streamvis.config import Segment, StageSpec, Zone
from streamvis.errors import ConfigError, DataError, ModelError, RunError
from streamvis.evaluation.segmentation import Confusion
from streamvis.messages import Forecast, Packet, SourceInfo, decode_part, encode_part
from streamvis.models import swiftnet
from streamvis.models.flow_warp import extrapolate, flow_frame, scene_motion, warp_image
from streamvis.models.forecasting import Forecaster, ForecasterConfig
from streamvis.models.inference import forecasts
from streamvis.models.inference.segmentation import SegmentationHead, SegmentedFrame
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.warp_calibrator import WarpCalibrator, build_forecaster
from streamvis.models.weights import load_forecaster, save, sight
from streamvis.runtime.host import build_stage
from streamvis.stages.forecast.stage import ForecastStage, ZoneGrid
from streamvis.stages.protocol import Site
from streamvis.stages.segment.features import SegmenterFeatures, key_of

LABELS = ("road", "tree", "car")
SIZE = (64, 96)
PICTURES: dict[str, np.ndarray] = {}
SEEN: dict[tuple[str, bytes], SegmentedFrame] = {}  # what a segmenter makes of each of them
GROUND = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (5, 60, 3), np.uint8),
    (960, SIZE[0]),
    interpolation=cv2.INTER_CUBIC,
)


def segmenter(**about) -> SwiftNet:
    """Untrained, with norms that have seen pictures."""
    torch.manual_seed(0)
    given = {"widths": (8, 8, 8), "lines": SIZE[0], "segments": LABELS} | about
    model = SwiftNet(swiftnet.SwiftNetConfig("untrained", "efficientnet_lite0", **given))
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        pictures = np.stack([picture(x / 2, SIZE) for x in range(4)])
        model.train()(model.normalise(pictures))
        features = model.eval().features(model.normalise(pictures))
        model.classes[-1].weight.mul_(4)
        model.classes[-1].bias -= model.classes(features).mean((0, 2, 3))
    return model


def forecaster(horizon_s: float, **about) -> Forecaster | WarpCalibrator:
    """One that copies the present, unless `moves`: then it thinks much of the past.

    One of kind "moved" goes by what it sees to move.
    """
    torch.manual_seed(1)
    moves = about.pop("moves", False)
    small = {"kind": "conv_f2f", "fold": 2, "width": 8, "depth": 2}
    if moves:
        small = {"fold": 2, "width": 8, "trunk": 8, "depth": 2, "radius": 1, "deformable": False}
    if about.get("kind") == "moved":
        small = {"channels": len(LABELS), "width": 8, "depth": 2, "past": 2}
    name = f"untrained-{horizon_s}"
    given = {"channels": 8, "stride": 4, "horizon_s": horizon_s} | small | about
    model = build_forecaster(ForecasterConfig(name=name, **given))
    if moves:
        for value in model.parameters():
            if value.dim() > 1:
                torch.nn.init.normal_(value, std=0.3)
    return model.eval()


def picture(seconds: float, size: tuple[int, int]) -> np.ndarray:
    """A scene that glides by, 40 px a second."""
    left = round(40 * seconds) % 800
    image = np.ascontiguousarray(cv2.resize(GROUND[:, left : left + SIZE[1]], size[::-1]))
    image.flags.writeable = False  # as a slot is
    return image


def packet(k, fps=10.0, name="a", *, epoch=1, size=SIZE, still=False) -> Packet:
    seconds = k / fps
    slot = f"{0 if still else seconds:.4f} {size}"
    if slot not in PICTURES:
        PICTURES[slot] = picture(0 if still else seconds, size)
    return packet_of(k, source=name, fps=fps, size=size[::-1], slot=slot, epoch=epoch)


def info(name: str = "a") -> SourceInfo:
    return source(name, size=SIZE[::-1])


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    plain = segmenter()
    save(plain, folder / "segment.safetensors", {})
    about = {"segmenter": sight(str(folder / "segment.safetensors"))}
    for name, model in {
        "0.2": forecaster(0.2),
        "0.6": forecaster(0.6),
        "moves-0.2": forecaster(0.2, moves=True),
        "moves-0.6": forecaster(0.6, moves=True, past=3, warped=2),
        "slow": forecaster(0.4, every_s=0.4),
        "moved-0.2": forecaster(0.2, kind="moved"),
        "moved-0.6": forecaster(0.6, kind="moved"),
    }.items():
        save(model, folder / f"{name}.safetensors", about)
    save(forecaster(0.2), folder / "of-another.safetensors", {"segmenter": "abc"})
    save(forecaster(0.2), folder / "of-none.safetensors", {})
    told = segmenter(outliers=True)
    told.load_state_dict(plain.state_dict(), strict=False)
    save(told, folder / "outlier.safetensors", {})
    return {path.stem: str(path) for path in folder.iterdir()}


class Pair:
    """A segmenter and a forecast in one worker."""

    def __init__(self, weights: dict[str, str], given: list[str], segment: str, **settings) -> None:
        fetch = settings.pop("fetch", lambda frame: PICTURES[frame.slot])
        site = Site(device="cpu", pixels=fetch)
        how = {"engine": "torch", "precision": "fp32"}
        look = Segment(weights=weights[segment], **how)
        tell = Config(weights=tuple(weights[name] for name in given), **{**how, **settings})
        self.segment = build_stage(StageSpec("segment", look), site)
        looked = self.segment.segmenter.network.segment

        def look_once(pixels: np.ndarray) -> SegmentedFrame:
            key = (segment, pixels.tobytes())
            if key not in SEEN:
                SEEN[key] = looked(pixels)
            return SEEN[key]

        self.segment.segmenter.network.segment = look_once
        lent = self.segment.lent
        forecast = build_stage(
            StageSpec("forecast", tell, after=["segment"]), msgspec.structs.replace(site, lent=lent)
        )
        assert isinstance(forecast, ForecastStage)
        self.forecast = forecast
        self.lent: SegmenterFeatures = lent
        self.seen: dict[int, SegmentedFrame] = {}  # by seq
        self.classes: dict[int, np.ndarray] = {}

    def __call__(self, packets: list[Packet]) -> list[Forecast]:
        parts = [*self.segment(packets)]
        for one, part in zip(packets, parts, strict=True):
            self.seen[one.frame.seq] = self.lent.frames[key_of(one.frame)]
            self.classes[one.frame.seq] = part.classes
        with_parts = [
            Packet(frame=one.frame, parts=[part]) for one, part in zip(packets, parts, strict=True)
        ]
        return [*self.forecast(with_parts)]

    def run(self, packets: list[Packet]) -> list[Forecast]:
        return [part for one in packets for part in self([one])]


@pytest.fixture
def made(weights):
    def make(*given: str, sources=("a",), segment="segment", **settings) -> Pair:
        pair = Pair(weights, list(given) or ["0.2", "0.6"], segment, **settings)
        for name in sources:
            pair.forecast.begin(info(name), None)
        return pair

    return make


def same(one: Forecast, other: Forecast) -> None:
    assert encode_part(one) == encode_part(other)


@pytest.mark.parametrize("name", ["moves-0.2", "moves-0.6", "0.2"])
def test_the_stream_says_what_the_network_says_of_moments_as_in_training(made, weights, name):
    pair = made(name)
    told = pair.run([packet(k, 30) for k in range(19)])
    model = load_forecaster(weights[name])
    moments = [18 - 6 * i for i in range(model.architecture.past)][::-1]
    with torch.inference_mode():
        future = model(torch.stack([pair.seen[k].features for k in moments], 1))
        classes, _ = SegmentationHead(pair.lent.model, SIZE)(future)
    (found,) = told[18].horizons
    assert found.horizon_us == (600_000 if name == "moves-0.6" else 200_000)
    np.testing.assert_array_equal(found.classes, classes[0].numpy())
    assert (found.classes != pair.classes[18]).any() == name.startswith("moves")
    assert told[18].labels == LABELS
    assert told[18].warm
    assert isinstance(decode_part(encode_part(told[18])), Forecast)


@pytest.mark.parametrize("fps", [10, 24, 30])
def test_what_moves_goes_on_as_it_is_seen_to_move_from_moment_to_moment(made, fps):
    pair, packets = made("moved-0.2", "moved-0.6"), [packet(k, fps) for k in range(int(0.9 * fps))]
    told = pair.run(packets)
    looked = [one.frame for one, part in zip(packets, told, strict=True) if part.horizons]
    last, at_us = None, [frame.media_us for frame in looked]
    for frame in looked:
        last = flow_frame(PICTURES[frame.slot], last, SIZE)
    now = pair.classes[looked[-1].seq]
    for future in told[looked[-1].seq].horizons:
        ahead = future.horizon_us / (at_us[-1] - at_us[-2])
        motion = scene_motion(last.flow, now, np.array(LABELS) == "car")
        source = extrapolate(motion, now.shape, ahead)
        np.testing.assert_array_equal(future.classes, warp_image(now, source))
        assert (future.classes != now).any()


def looks(monkeypatch) -> list[int]:
    """Grows by one with each look at what moves."""
    taken: list[int] = []

    def look(*given):
        taken.append(1)
        return flow_frame(*given)

    monkeypatch.setattr(forecasts, "flow_frame", look)
    return taken


def test_one_look_serves_all_horizons(made, monkeypatch):
    taken = looks(monkeypatch)
    both = made("moved-0.6", "moved-0.2").run([packet(k) for k in range(9)])
    assert len(taken) == 5  # at 0, 0.2, … 0.8 s
    for index, name in enumerate(("moved-0.2", "moved-0.6")):
        alone = made(name).run([packet(k) for k in range(9)])
        for one, other in zip(both, alone, strict=True):
            assert len(one.horizons) == 2 * len(other.horizons)
            for future in other.horizons:
                assert one.horizons[index].horizon_us == future.horizon_us
                np.testing.assert_array_equal(one.horizons[index].classes, future.classes)


def test_those_that_keep_something_else_look_for_themselves(made, monkeypatch):
    taken = looks(monkeypatch)
    mixed = made("moved-0.2", "moves-0.6").run([packet(k, 5) for k in range(5)])
    assert len(taken) == 5
    for index, name in enumerate(("moved-0.2", "moves-0.6")):
        alone = made(name).run([packet(k, 5) for k in range(5)])
        for one, other in zip(mixed, alone, strict=True):
            np.testing.assert_array_equal(one.horizons[index].classes, other.horizons[0].classes)


def test_pixels_are_gone_after_a_call_and_nothing_of_them_is_needed(made):
    slot = np.empty((*SIZE, 3), np.uint8)
    read_only = slot.view()
    read_only.flags.writeable = False
    pair, told = made("moved-0.2", "moved-0.6", fetch=lambda frame: read_only), []
    for k in range(9):
        slot[:] = picture(k / 10, SIZE)
        told += pair([packet(k)])
        slot[:] = 255
    expected = made("moved-0.2", "moved-0.6").run([packet(k) for k in range(9)])
    for one, other in zip(told, expected, strict=True):
        same(one, other)


def test_between_moments_nothing_is_computed(made):
    pair = made()
    asked = []
    for horizon in pair.forecast.horizons:
        inner = horizon.network.forecast
        horizon.network.forecast = lambda *a, inner=inner, **how: (
            asked.append(1) or inner(*a, **how)
        )
    told = pair.run([packet(k, 30) for k in range(13)])
    assert [k for k, part in enumerate(told) if part.horizons] == [0, 6, 12]
    assert len(asked) == 6
    assert [future.horizon_us for future in told[6].horizons] == [200_000, 600_000]


def test_a_forecast_is_warm_from_the_fourth_moment_on(made):
    told = made("moves-0.2").run([packet(k, 5) for k in range(6)])
    assert [part.warm for part in told] == [False] * 3 + [True] * 3
    mixed = made("moves-0.2", "moves-0.6").run([packet(k, 5) for k in range(6)])  # three will do
    assert [part.warm for part in mixed] == [False] * 3 + [True] * 3


def test_what_moves_is_known_from_the_second_moment_on(made):
    pair = made("moved-0.2")
    told = pair.run([packet(k, 5) for k in range(4)])
    assert [part.warm for part in told] == [False] + [True] * 3
    still = [(part.horizons[0].classes == pair.classes[k]).all() for k, part in enumerate(told)]
    assert still == [True] + [False] * 3


def test_the_oldest_moment_stands_for_those_before_it(made):
    pair = made("moves-0.2")
    cold = pair.run([packet(k, 5) for k in range(2)])[-1]
    again = made("moves-0.2")
    frames = [packet(0, 5).frame] * 3 + [packet(1, 5).frame]
    packets = [
        Packet(frame=msgspec.structs.replace(frame, seq=k, media_us=k * 200_000))
        for k, frame in enumerate(frames)
    ]
    full = again.run(packets)[-1]
    np.testing.assert_array_equal(cold.horizons[0].classes, full.horizons[0].classes)
    assert (cold.warm, full.warm) == (False, True)


@pytest.mark.parametrize("fps", [10, 24, 25, 29.97])
def test_each_forecast_is_scored_once_by_the_frame_of_its_time(made, fps):
    packets = [packet(k, fps) for k in range(int(1.5 * fps))]
    pair = made()
    told = pair.run(packets)
    made_at, scored = {}, set()
    for one, part in zip(packets, told, strict=True):
        for came in part.scores:
            key = (came.made_us, came.horizon_us)
            assert key not in scored
            scored.add(key)
            late = one.frame.media_us - sum(key)
            assert abs(late) <= 5e5 / fps + 1
            confusion = Confusion(LABELS, 255)
            confusion.add(made_at[key][::2, ::2], pair.classes[one.frame.seq][::2, ::2])
            assert came.miou == pytest.approx(confusion.miou())
            assert came.accuracy == pytest.approx(confusion.scores().accuracy)
        for future in part.horizons:
            made_at[one.frame.media_us, future.horizon_us] = future.classes
    last = packets[-1].frame.media_us
    assert scored == {key for key in made_at if sum(key) <= last}
    assert len(scored) > 8


@pytest.mark.parametrize("given", [("0.2", "0.6"), ("moved-0.2", "moved-0.6")])
def test_a_scene_that_stands_still_is_forecast_without_fault(made, given):
    told = made(*given).run([packet(k, still=True) for k in range(12)])
    came = [one for part in told for one in part.scores]
    assert {(one.miou, one.accuracy) for one in came} == {(1.0, 1.0)}
    moving = [
        one for part in made(*given).run([packet(k) for k in range(12)]) for one in part.scores
    ]
    near, far = ([c.accuracy for c in moving if c.horizon_us == h] for h in (200_000, 600_000))
    assert np.mean(far) < np.mean(near) < 1


def test_a_forecast_whose_time_nobody_saw_is_not_scored(made):
    pair = made()
    told = pair.run([packet(0), packet(2), packet(11)])
    assert [len(part.scores) for part in told] == [0, 1, 0]
    assert pair.forecast.sources["a"].pending[0].made_us == 1_100_000  # expired ones are dropped


@pytest.mark.parametrize(("name", "cold"), [("moves-0.2", 3), ("moved-0.2", 1)])
def test_after_a_gap_the_past_begins_anew(made, name, cold):
    pair = made(name)
    before = pair.run([packet(k, 5) for k in range(5)])
    after = pair.run([packet(k, 5) for k in (5, 6, 9, 10, 11, 12)])
    assert before[-1].warm
    assert [part.warm for part in after] == [True] * 2 + [False] * cold + [True] * (4 - cold)
    fresh = made(name).run([packet(k, 5) for k in (9, 10, 11, 12)])
    for one, other in zip(after[2:], fresh, strict=True):
        np.testing.assert_array_equal(one.horizons[0].classes, other.horizons[0].classes)


@pytest.mark.parametrize(("name", "cold"), [("moves-0.2", 3), ("moved-0.2", 1)])
@pytest.mark.parametrize("change", [{"epoch": 2}, {"size": (96, 96)}])
def test_another_stream_or_size_is_another_scene(made, change, name, cold):
    pair = made(name)
    pair.run([packet(k, 5) for k in range(5)])
    told = pair.run([packet(k, 5, **change) for k in range(5, 9)])
    assert [part.warm for part in told] == [False] * cold + [True] * (4 - cold)
    assert [len(part.scores) for part in told] == [0, 1, 1, 1]
    fresh = made(name).run([packet(k, 5, **change) for k in range(5, 9)])
    for one, other in zip(told, fresh, strict=True):
        same(one, other)


@pytest.mark.parametrize("name", ["moves-0.2", "moved-0.2"])
def test_frames_of_a_call_are_the_frames_one_by_one(made, name):
    packets = [packet(k, 30, source) for k in range(20) for source in "ab"]
    alone = made(name, sources="ab").run(packets)
    for one, other in zip(alone, made(name, sources="ab")(packets), strict=True):
        same(one, other)


def test_sources_do_not_see_each_other_move(made):
    packets = (
        [packet(k, 5, "a") for k in range(5)],
        [packet(k, 5, "b", still=True) for k in range(5)],
    )
    pair = made("moved-0.2", sources="ab")
    mixed = [pair([one])[0] for both in zip(*packets, strict=True) for one in both]
    alone = [made("moved-0.2", sources="ab").run(own) for own in packets]
    for one, other in zip(
        mixed, [part for both in zip(*alone, strict=True) for part in both], strict=True
    ):
        same(one, other)


def test_where_the_segmenter_rests_nothing_is_known(made):
    pair = made()
    rested = [*pair.forecast([packet(0)])]
    assert rested == [Forecast(labels=LABELS)]
    told = pair.run([packet(k) for k in range(3)])
    assert [len(part.horizons) for part in told] == [2, 0, 2]


def test_a_successor_scores_what_was_told_and_warms_up_again(made):
    packets = [packet(k) for k in range(30)]
    expected = made("moves-0.2", "moves-0.6").run(packets)
    first = made("moves-0.2", "moves-0.6")
    begun = first.run(packets[:15])
    state = first.forecast.state("a")
    assert len(state) < 20_000
    second = made("moves-0.2", "moves-0.6", sources=())
    second.forecast.begin(info(), state)
    found = begun + second.run(packets[15:])
    for one, other in zip(found, expected, strict=True):
        keys = [(c.made_us, c.horizon_us) for c in one.scores]
        assert keys == [(c.made_us, c.horizon_us) for c in other.scores]
        assert len(one.horizons) == len(other.horizons)
    moments = [k for k in range(15, 30) if expected[k].horizons]
    assert [found[k].warm for k in moments][:4] == [False] * 3 + [True]
    for k in range(15):
        same(found[k], expected[k])
    for k in moments[3:]:
        for one, other in zip(found[k].horizons, expected[k].horizons, strict=True):
            np.testing.assert_array_equal(one.classes, other.classes)
    for k in range(15, moments[0] + 2):  # what the predecessor told
        assert found[k].scores == expected[k].scores


@pytest.mark.parametrize(
    "own", [b"", b"\x00", msgspec.msgpack.encode([[None, None], [[1, 1, [2, 2], b"x"]]])]
)
def test_another_state_is_refused(made, own):
    pair = made(sources=())
    with pytest.raises(DataError, match="source a: not the state of a stage of kind forecast"):
        pair.forecast.begin(info(), msgspec.msgpack.encode([[1, SIZE], own]))


def zone(**changes) -> Zone:
    square = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]
    return Zone(**{"name": "crossing", "polygon": square, "holds": ("car",), **changes})


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2))
def test_the_probability_of_a_zone_is_exact_of_cells_that_go_together(seed, area):
    rng = np.random.default_rng(seed)
    q = rng.random((16, 24))
    shares = np.stack([(1 - q) / 2, (1 - q) / 2, q]).astype(np.float32)
    found = ZoneGrid(zone(min_area=area), LABELS).occupied(shares, SIZE)
    least = area * 16 * 24
    within = shares[2, 4:12, 6:18]
    levels = np.sort(within.ravel())
    enough = [u for u in levels if (within >= u).sum() >= least]  # one draw u for all cells
    assert found.p == pytest.approx(max(enough))
    assert (found.zone, len(found.polygon)) == ("crossing", 4)


def test_classes_of_a_zone_add_up_and_more_area_is_less_probable():
    shares = np.random.default_rng(0).dirichlet((1, 1, 1), (16, 24)).transpose(2, 0, 1)
    held = [ZoneGrid(zone(min_area=a), LABELS).occupied(shares, SIZE).p for a in (0.01, 0.1, 0.2)]
    assert held == sorted(held, reverse=True)
    both = ZoneGrid(zone(holds=("car", "tree", "car")), LABELS).occupied(shares, SIZE).p
    assert held[0] < both <= 1
    whole = ZoneGrid(zone(holds=LABELS, min_area=0.2), LABELS).occupied(shares, SIZE).p
    assert whole == pytest.approx(1)


def test_a_zone_smaller_than_a_cell_goes_by_the_nearest():
    shares = np.zeros((3, 16, 24), np.float32)
    shares[2, 8, 12] = 0.7
    sliver = [(0.5, 0.51), (0.51, 0.51), (0.51, 0.515)]
    place = ZoneGrid(zone(polygon=sliver, min_area=1e-5), LABELS)
    assert place.occupied(shares, SIZE).p == pytest.approx(0.7)


def test_zones_are_told_of_each_future(made):
    pair = made(zones=(zone(min_area=0.01), zone(name="all", holds=LABELS)))
    (told,) = pair([packet(0)])
    for future in told.horizons:
        assert [one.zone for one in future.zones] == ["crossing", "all"]
        assert future.zones[1].p == pytest.approx(1)
        assert 0 <= future.zones[0].p <= 1


def test_what_moved_is_told_of_zones_with_probabilities(made):
    zones = (zone(name="trees", holds=("tree",), min_area=0.01), zone(name="all", holds=LABELS))
    pair = made("moved-0.2", "moved-0.6", zones=zones)
    asked = []
    for horizon in pair.forecast.horizons:
        inner = horizon.network.forecast
        horizon.network.forecast = lambda *a, inner=inner, **how: (
            asked.append(told := inner(*a, **how)) or told
        )
    horizons = [one for part in pair.run([packet(k, 5) for k in range(3)]) for one in part.horizons]
    assert len(horizons) == len(asked) == 6
    for future, told in zip(horizons, asked, strict=True):
        expected = ZoneGrid(zones[0], LABELS).occupied(told.shares, SIZE)
        assert future.zones[0] == expected
        assert 0 < future.zones[0].p < 1
        assert future.zones[1].p == pytest.approx(1)
    plain = made("moved-0.2", "moved-0.6").run([packet(k, 5) for k in range(3)])
    classes = [one.classes for part in plain for one in part.horizons]
    for future, without in zip(horizons, classes, strict=True):
        np.testing.assert_array_equal(future.classes, without)


def test_how_probable_what_moved_is_costs_nothing_where_no_zone_asks(made, monkeypatch):
    monkeypatch.setattr(forecasts, "warp_logits", None)
    told = made("moved-0.2", "moved-0.6").run([packet(k, 5) for k in range(3)])
    assert [len(part.horizons) for part in told] == [2] * 3
    assert not any(future.zones for part in told for future in part.horizons)
    with pytest.raises(TypeError, match="not callable"):
        made("moved-0.2", zones=(zone(),)).run([packet(0)])


def test_what_a_zone_cannot_hold_is_named(made):
    with pytest.raises(
        ConfigError, match=r"'crossing': `holds` lists 'boat', which .* road, tree, car"
    ):
        made(zones=(zone(holds=("car", "boat")),))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["of-another"], "another segmenter than '.*segment.safetensors' .*abc"),
        (["of-none"], "which they do not name"),
        (["0.2", "moves-0.2"], "have the same horizon, 0.2 s"),
        (["0.2", "slow"], "frames 0.2 s apart, .* 0.4 s"),
    ],
)
def test_weights_that_do_not_go_together_are_told(made, given, error):
    with pytest.raises(ModelError, match=error):
        made(*given)


def test_a_segmenter_that_has_learnt_what_is_unknown_besides_sees_the_same(made):
    plain, told = made("moves-0.2"), made("moves-0.2", segment="outlier")
    for one, other in zip(plain([packet(0)]), told([packet(0)]), strict=True):
        same(one, other)


def test_without_its_segmenter_a_forecast_is_not_built(weights):
    site = Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot])
    spec = StageSpec("forecast", Config(weights=(weights["0.2"],)), after=["segment"])
    with pytest.raises(ConfigError, match="no stage of this worker lends SegmenterFeatures"):
        build_stage(spec, site)


def test_features_of_another_call_are_not_taken_for_these(made):
    pair = made()
    (part,) = pair.segment([packet(0)])
    with pytest.raises(RunError, match="source a: the segmenter lends no features of frame 1"):
        [*pair.forecast([Packet(frame=packet(1).frame, parts=[part])])]


def test_a_source_that_ends_is_forgotten(made):
    pair = made()
    pair.run([packet(0)])
    pair.forecast.finish("a", "eof")
    pair.forecast.begin(info(), None)
    (told,) = pair([packet(1)])
    assert told.scores == ()
    pair.forecast.close()
