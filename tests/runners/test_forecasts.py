"""Forecasts of made-up films, by forecasters that know, that copy, and that go the wrong way."""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamvis.cli.evaluate.forecast import put_result
from streamvis.cli.main import app
from streamvis.cli.output import write_png
from streamvis.cli.settings import segmenter_configs
from streamvis.datasets.classes import CAMVID
from streamvis.datasets.labelled_video import LabelledFrame, read_labelled_video
from streamvis.errors import DataError, UsageError
from streamvis.models import forecasting, swiftnet
from streamvis.models.inference import segmentation
from streamvis.models.warp_calibrator import WarpCalibrator
from streamvis.models.weights import describe, save
from streamvis.runners import forecasts, scene_networks
from streamvis.runners.forecasts import (
    COPY,
    COPY_TRUTH,
    LABELS,
    ORACLE,
    OWN,
    EvenSample,
    RememberedFrame,
    Window,
)
from streamvis.runners.scene_networks import SegmentedPicture
from streamvis.runners.sheets.scenes import forecast_sheet

SIZE = (48, 200)
ROAD, CAR, VOID = 3, 8, 11
FPS, FRAMES, SPEED, WIDE = 15, 24, 4, 30  # SPEED and WIDE in px


def truth_of(n: int) -> np.ndarray:
    """A car on its way to the right."""
    labels = np.full(SIZE, ROAD, np.uint8)
    labels[:10] = VOID
    labels[20:40, 5 + SPEED * n : 5 + SPEED * n + WIDE] = CAR
    return labels


def write(folder: Path, labelled=range(FRAMES), frames=FRAMES) -> Path:
    """Pictures that show their classes in red, some of them labelled."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n in range(frames):
        shown = np.where(truth_of(n) == VOID, ROAD, truth_of(n))
        cv2.imwrite(str(folder / f"images/{n:03}.png"), np.dstack([shown.astype(np.uint8)] * 3))
        if n in labelled:
            cv2.imwrite(str(folder / f"labels/{n:03}.png"), truth_of(n))
    return folder


class Reads:
    """A segmenter that reads the red of each pixel; some of what it reads is wrong."""

    names = CAMVID.names

    def __init__(self, instead_of_road=ROAD):
        self.instead = instead_of_road

    def segment(self, pixels):
        labels = np.where(pixels[..., 0] == ROAD, self.instead, pixels[..., 0])
        seen = segmentation.SegmentedFrame(
            None, labels.astype(np.uint8), np.zeros((0, 0), np.uint8)
        )
        return SegmentedPicture(seen, labels.shape)

    def unknown(self, picture):
        return np.zeros(picture.size, np.float32)


class Moves:
    """Tells that all goes on to the right, so many pixels in its horizon."""

    def __init__(self, shift, horizon_s=0.2, every_s=0.2, past=4):
        self.shift, self.past = shift, past
        self.horizon_us, self.every_us = round(horizon_s * 1e6), round(every_s * 1e6)
        self.asked: list[tuple[int, ...]] = []
        self.memory = self

    def remember(self, media_us, pixels, picture, before=None):
        return picture.seen.classes

    def forecast(self, past, times):
        (*_, newest) = past
        self.asked.append(tuple(int((one == CAR).any(0).argmax()) for one in past))
        return np.roll(newest, self.shift * times, 1)

    def shares(self, past):
        told = np.roll(past[-1], self.shift, 1)[2::4, 2::4]
        return (np.arange(len(CAMVID.names))[:, None, None] == told).astype(np.float32)


def evaluate(folder, forecasters, horizons=(), network=None, fps=FPS):
    network = network or Reads()
    plan = forecasts.plan(forecasters, horizons)
    return forecasts.evaluate(
        read_labelled_video(folder, fps, network.names), network, forecasters, plan
    )


def iou_after(frames: int) -> tuple[float, float]:
    """Of the car and of the road, when the car is so many frames behind; void does not count."""
    off = min(SPEED * frames, WIDE)
    road = (SIZE[0] - 10) * SIZE[1] - 20 * WIDE
    return (WIDE - off) / (WIDE + off), (road - 20 * off) / (road + 20 * off)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("films") / "labelled")


def test_who_knows_closes_the_gap_and_who_copies_does_not(labelled):
    given = {"knows": Moves(3 * SPEED), "copies": Moves(0), "errs": Moves(-3 * SPEED)}
    found = evaluate(labelled, given).report("reads")
    (horizon,) = found["horizons"]
    (against,) = horizon["against"].values()
    methods = against["methods"]
    assert against["targets"] == FRAMES - 3 - 3 * 3  # 0.2 s ahead of four, 0.2 s apart
    car, road = iou_after(3)
    assert methods[COPY]["miou"] == pytest.approx((car + road) / 2)
    assert methods[COPY]["movable_miou"] == pytest.approx(car)
    assert methods[ORACLE]["miou"] == methods["knows"]["miou"] == 1
    assert methods["copies"]["miou"] == methods[COPY]["miou"] == methods[COPY_TRUTH]["miou"]
    gaps = {name: methods[name]["gap_closed"] for name in given}
    assert (gaps["knows"], gaps["copies"]) == (1, 0)
    assert gaps["errs"] < 0
    assert methods["knows"]["movable_gap_closed"] == 1
    assert methods[ORACLE]["gap_closed"] is None
    assert json.loads(json.dumps(found)) == found


def test_forecasts_go_on_from_the_moments_that_they_want(labelled):
    one = Moves(0, horizon_s=0.6, every_s=0.2)
    evaluate(labelled, {"one": one})
    assert len(one.asked) == FRAMES - 9 - 9
    for n, starts in enumerate(one.asked):
        assert starts == tuple(5 + SPEED * (n + lag) for lag in (0, 3, 6, 9))  # oldest first


class Keeps(Moves):
    """Tells what it was given of each picture."""

    def __init__(self):
        super().__init__(0)
        self.given: list[tuple[int, int, int | None]] = []

    def remember(self, media_us, pixels, picture, before=None):
        shown = int((pixels[..., 0] == CAR).any(0).argmax())
        self.given.append((media_us, shown, None if before is None else self.starts(before)))
        return super().remember(media_us, pixels, picture)

    def starts(self, classes):
        return int((classes == CAR).any(0).argmax())


def test_a_picture_is_remembered_beside_the_one_that_a_step_came_before(labelled):
    one = Keeps()
    evaluate(labelled, {"one": one})
    for n, (media_us, shown, before) in enumerate(one.given):
        assert media_us == round(n * 1e6 / FPS)
        assert shown == 5 + SPEED * n
        assert before == (5 + SPEED * (n - 3) if n >= 3 else None)
    assert len(one.given) == FRAMES


def test_a_short_horizon_is_told_again_to_reach_a_long_one(labelled):
    given = {"steady": Moves(3 * SPEED), "direct": Moves(9 * SPEED, horizon_s=0.6)}
    result = evaluate(labelled, given)
    near, far = result.horizons
    assert [(method.label, method.times) for method in near.methods] == [("steady", 1)]
    assert [(method.label, method.times) for method in far.methods] == [
        ("steady, 3 times", 3),
        ("direct", 1),
    ]
    assert far.confusions[LABELS]["steady, 3 times"].miou() == 1
    assert far.confusions[LABELS]["direct"].miou() == 1
    car, road = iou_after(9)
    assert far.confusions[LABELS][COPY].miou() == pytest.approx((car + road) / 2)
    assert len(result.forecasting["steady"].seconds) == near.confusions[LABELS][COPY].pictures


def test_horizons_can_be_named_and_must_be_within_reach(labelled):
    given = {"steady": Moves(0), "direct": Moves(0, horizon_s=0.6)}
    assert [h.us for h in forecasts.plan(given, [0.4])] == [400_000]
    assert [h.us for h in forecasts.plan(given, [])] == [200_000, 600_000]
    with pytest.raises(UsageError, match=r"--horizon 0\.5: no .* they forecast 0\.2, 0\.6 s"):
        forecasts.plan(given, [0.5])
    with pytest.raises(UsageError, match="no forecaster reaches it"):
        forecasts.plan({"direct": given["direct"]}, [1.2])


def test_pictures_without_labels_are_held_against_the_oracle(tmp_path):
    write(tmp_path / "some", labelled=range(0, FRAMES, 5))
    found = evaluate(tmp_path / "some", {"copies": Moves(0)}, network=Reads(instead_of_road=5))
    (horizon,) = found.horizons
    targets = range(12, FRAMES)
    seen = [n for n in targets if n % 5 == 0]
    assert horizon.confusions[LABELS][COPY].pictures == len(seen)
    assert horizon.confusions[OWN][COPY].pictures == len(targets) - len(seen)
    assert horizon.confusions[LABELS][ORACLE].miou() < 0.5  # it takes the road for trees
    assert ORACLE not in horizon.confusions[OWN]
    assert horizon.confusions[LABELS][COPY_TRUTH].pictures == 0  # none was labelled 3 frames before
    moved = iou_after(3)[0]
    assert horizon.confusions[OWN][COPY].miou(CAMVID.movable) == pytest.approx(moved)
    report = found.report("reads")
    scores = report["horizons"][0]["against"][OWN]["methods"]["copies"]
    assert scores["gap_closed"] == 0
    assert scores["pictures"] == len(targets) - len(seen)


def test_other_rates_are_met_by_media_time(tmp_path):
    write(tmp_path / "slow")
    one = Moves(0)
    found = evaluate(tmp_path / "slow", {"one": one}, fps=12)  # 0.2 s are 2.4 frames
    (horizon,) = found.horizons
    assert one.asked[0] == tuple(5 + SPEED * n for n in (0, 2, 5, 7))
    assert horizon.off_us == pytest.approx(0.4e6 / 12, abs=2)
    assert horizon.confusions[LABELS][COPY].pictures == FRAMES - 9


def test_a_film_too_short_has_no_targets(tmp_path, capsys):
    write(tmp_path / "short", frames=12)
    found = evaluate(tmp_path / "short", {"one": Moves(0)})
    assert found.horizons[0].confusions == {}
    assert found.cost_ms("one") is None
    put_result(found, "reads")
    assert "too short" in capsys.readouterr().out
    assert found.report("reads")["forecast_of_segmentation"] == {"one": None}


def test_people_read_tables_and_strips(labelled, tmp_path, capsys):
    given = {"knows": Moves(3 * SPEED), "copies": Moves(0)}
    result = evaluate(labelled, given)
    put_result(result, "reads")
    told = capsys.readouterr().out
    assert "0.2 s ahead: 12 pictures, against their labels" in told
    row = next(line.split() for line in told.splitlines() if line.split()[:1] == ["knows"])
    assert row == ["knows", "1.000", "1.000", "1.000", "1.000"]
    path = tmp_path / "strips.png"
    write_png(path, forecast_sheet(result, "reads"))
    sheet = cv2.imread(str(path))[..., ::-1]
    assert sheet.shape[0] > 4 * 48
    assert len(result.horizons[0].samples.items) in range(4, 8)


def test_costs_are_of_one_forecast_beside_one_segmentation(labelled):
    result = evaluate(labelled, {"one": Moves(0)})
    result.segmentation.seconds[:] = [0.1] * FRAMES
    result.remembering["one"].seconds[:] = [0.01] * FRAMES
    result.forecasting["one"].seconds[:] = [0.02] * 12
    found = result.report("reads")
    assert found["forecast_ms"]["one"] == pytest.approx(30)
    assert found["forecast_of_segmentation"]["one"] == pytest.approx(0.3)


class Unknown(NamedTuple):
    names: tuple[str, ...] = ("this", "that")


def test_films_that_cannot_be_read_are_told(labelled, tmp_path):
    with pytest.raises(UsageError, match="no times; give their rate: --fps 15"):
        read_labelled_video(labelled, None, CAMVID.names)
    with pytest.raises(DataError, match=r"labels cannot be read.*\(this, that\) are none of"):
        read_labelled_video(labelled, 15, Unknown().names)
    odd = write(tmp_path / "odd", frames=1)
    cv2.imwrite(str(odd / "labels/000.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match=r"000\.png is 9×9, its picture 200×48"):
        list(read_labelled_video(odd, 15, CAMVID.names))


def test_a_film_says_when_and_what(labelled):
    shots = list(read_labelled_video(labelled, 15, CAMVID.names))
    assert [shot.media_us for shot in shots] == [round(n * 1e6 / 15) for n in range(FRAMES)]
    expected = np.where(truth_of(7) == VOID, 255, truth_of(7))
    np.testing.assert_array_equal(shots[7].truth, expected)


@given(st.lists(st.integers(1, 90_000), min_size=1, max_size=40), st.integers(-10, 900_000))
def test_a_moment_is_the_nearest_picture_if_one_is_near(steps, moment):
    times = np.cumsum(steps).tolist()
    window = Window(span_us=400_000, interval_us=40_000)
    for time in times:
        window.add(RememberedFrame(LabelledFrame(time, np.zeros(0), None), np.zeros(0), {}))
    kept = [time for time in times if times[-1] - time <= 400_000 + 2 * window.near_us]
    assert [one.frame.media_us for one in window.frames] == kept
    found = window.at(moment)
    off = min(abs(time - moment) for time in kept)
    assert (found is None) == (off > window.near_us)
    if found is not None:
        assert abs(found.frame.media_us - moment) == off


@given(st.integers(0, 300), st.integers(1, 7))
def test_samples_are_evenly_spaced_and_neither_few_nor_many(offered, count):
    sampled = EvenSample(count)
    for i in range(offered):
        sampled.offer(i)
    assert min(offered, count) <= len(sampled.items) < 2 * count
    assert sampled.items == list(range(0, offered, sampled.step))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[Path]:
    """An untrained segmenter, a forecaster of its features, and one of another's."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    seen = swiftnet.SwiftNetConfig("seg", "efficientnet_lite0", CAMVID.names, (16, 16, 16), 64)
    save(swiftnet.SwiftNet(seen), folder / "seg.safetensors", {})
    sha = describe(str(folder / "seg.safetensors")).sha256
    about = forecasting.ForecasterConfig(
        name="near", kind="conv_f2f", channels=16, stride=4, width=16, depth=2, horizon_s=0.2
    )
    for name, segmenter in (("near", sha), ("stranger", "of another")):
        path = folder / f"{name}.safetensors"
        save(forecasting.Forecaster(about), path, {"segmenter": segmenter})
    return [folder / f"{name}.safetensors" for name in ("seg", "near", "stranger")]


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["eval", "forecast", *map(str, arguments)])


def test_a_film_too_short_for_every_horizon_is_an_error(weights, tmp_path):
    write(tmp_path / "short", frames=4)
    segmenter, near, _ = weights
    given = ("--segmenter", segmenter, "--weights", near)
    result = invoke(tmp_path / "short", "--fps", FPS, *given, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "short: too short for any forecast; expected more than 0.2 s" in result.stderr


def test_an_untrained_forecaster_copies(labelled, weights, tmp_path):
    segmenter, near, _ = weights
    given = (labelled, "--fps", FPS, "--segmenter", segmenter, "--weights", near)
    exact = ("--set", "engine=torch", "--set", "precision=fp32")
    horizons, sheet = ("--horizon", 0.2, "--horizon", 0.4), ("--sheet", tmp_path / "strips.png")
    result = invoke(*given, *exact, *horizons, *sheet, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [one["seconds"] for one in found["horizons"]] == [0.2, 0.4]
    for horizon, told in zip(found["horizons"], ("near", "near, 2 times"), strict=True):
        methods = horizon["against"]["labels"]["methods"]
        for measured in ("miou", "movable_miou", "accuracy"):
            assert methods[told][measured] == pytest.approx(methods[COPY][measured])
    assert found["forecast_ms"]["near"] > 0
    assert found["segmenter"] == "seg"
    assert cv2.imread(str(tmp_path / "strips.png")).shape[1] > 1000


@pytest.mark.parametrize(
    ("forecaster", "fps", "code", "message"),
    [
        (2, ("--fps", FPS), 4, "trained on the features of another segmenter than"),
        (0, ("--fps", FPS), 4, "expected a forecaster"),
        (1, (), 2, "give their rate: --fps"),
    ],
)
def test_what_does_not_go_together_is_told(labelled, weights, forecaster, fps, code, message):
    given = ("--segmenter", weights[0], "--weights", weights[forecaster])
    result = invoke(labelled, *given, *fps)
    assert result.exit_code == code
    assert message in result.stderr


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    """A textured car on a textured road, on its way by 3 px in each picture."""
    folder = tmp_path_factory.mktemp("films") / "moving"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    road, car = (
        np.kron(rng.integers(0, 256, n, np.uint8), np.ones((8, 8), np.uint8))
        for n in ((12, 24), (6, 8))
    )
    for n in range(FRAMES):
        shown, truth = road.copy(), np.full_like(road, ROAD)
        there = np.s_[24:72, 20 + 3 * n : 84 + 3 * n]
        shown[there], truth[there] = car, CAR
        cv2.imwrite(str(folder / f"images/{n:03}.png"), np.dstack([shown, shown, truth]))
        cv2.imwrite(str(folder / f"labels/{n:03}.png"), truth)
    return folder


@pytest.fixture(scope="module")
def by_motion(weights) -> list[Path]:
    """Untrained forecasters that go by motion, of the untrained segmenter."""
    folder, sha = weights[0].parent, describe(str(weights[0])).sha256
    paths = [folder / f"moved-{seconds}.safetensors" for seconds in (0.2, 0.6)]
    for path, seconds in zip(paths, (0.2, 0.6), strict=True):
        about = forecasting.ForecasterConfig(
            name=path.stem, kind="moved", channels=len(CAMVID.names), stride=4, width=8, depth=2,
            past=2, horizon_s=seconds,
        )  # fmt: skip
        save(WarpCalibrator(about), path, {"segmenter": sha})
    return paths


class Rereads(Reads):
    """Reads the red where a segmenter looks, so that of forecasts motion alone counts."""

    def __init__(self, segmenter):
        super().__init__()
        self.segmenter = segmenter

    def segment(self, pixels):
        seen = self.segmenter.segment(pixels).seen
        picture = super().segment(pixels)
        return picture._replace(seen=seen._replace(classes=picture.seen.classes))


def test_what_goes_by_motion_sees_it_in_the_pictures(moving, weights, by_motion):
    exact = ("lines=96", "engine=torch", "precision=fp32")
    (segmenter,) = scene_networks.open_segmenters(
        segmenter_configs([str(weights[0])], exact), "cpu"
    ).values()
    given = scene_networks.open_forecasters([str(path) for path in by_motion], segmenter)
    result = evaluate(moving, given, network=Rereads(segmenter))
    near, far = result.horizons
    names = [path.stem for path in by_motion]
    assert [method.label for method in near.methods] == names[:1]
    assert [method.label for method in far.methods] == names[1:]
    assert far.same == {f"{names[0]}, 3 times": names[1]}
    assert near.confusions[LABELS][COPY].pictures == FRAMES - 6
    assert far.confusions[LABELS][COPY].pictures == FRAMES - 12
    for horizon in (near, far):
        scores = {
            name: one.miou(CAMVID.movable) for name, one in horizon.confusions[LABELS].items()
        }
        assert all(scores[method.label] > 0.9 for method in horizon.methods)
        assert scores[COPY] < 0.8
    alone = evaluate(moving, {names[0]: given[names[0]]}, [0.6], Rereads(segmenter))
    ((method,),) = (horizon.methods for horizon in alone.horizons)
    twice = alone.horizons[0].confusions[LABELS][method.label], far.confusions[LABELS][names[1]]
    assert method.times == 3
    np.testing.assert_array_equal(*(one.counts for one in twice))  # equal by construction


def test_shipped_forecasters_are_compared_by_name(moving, tmp_path):
    names = ("street-forecast-0.2", "street-forecast-0.6")
    given = ("--segmenter", "street-seg", "--weights", names[0], "--weights", names[1])
    small = ("--set", "lines=96", "--set", "engine=torch", "--set", "precision=fp32")
    sheet = ("--sheet", tmp_path / "strips.png")
    result = invoke(moving, "--fps", FPS, *given, *small, *sheet, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    near, far = (one["against"]["labels"] for one in found["horizons"])
    assert [one["seconds"] for one in found["horizons"]] == [0.2, 0.6]
    assert list(near["methods"]) == [ORACLE, names[0], COPY, COPY_TRUTH]
    again = f"{names[0]}, 3 times"
    assert list(far["methods"]) == [ORACLE, names[1], COPY, COPY_TRUTH]
    assert found["horizons"][1]["same_by_construction"] == {again: names[1]}
    assert (near["targets"], far["targets"]) == (FRAMES - 6, FRAMES - 12)
    assert all(found["forecast_ms"][name] > 0 for name in names)
    assert found["segmenter"] == "street-seg"
    assert cv2.imread(str(tmp_path / "strips.png")).shape[1] > 1000
