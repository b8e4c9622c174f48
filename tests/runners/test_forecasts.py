"""Forecasts of made-up films, by forecasters that know, that copy, and that go the wrong way."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_drives import (
    CAR,
    FPS,
    FRAMES,
    ROAD,
    SIZE,
    SPEED,
    WIDE,
    untrained_weights,
    write_drive,
    write_textured,
)

from streamvis.cli.output import put_text, write_png
from streamvis.datasets.classes import CAMVID
from streamvis.datasets.labelled_video import LabelledFrame, read_labelled_video
from streamvis.errors import UsageError
from streamvis.models import forecasting
from streamvis.models.inference import segmentation
from streamvis.models.warp_calibrator import WarpCalibrator
from streamvis.models.weights import describe, save
from streamvis.runners import forecast_tables, forecasts, scene_networks
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
from streamvis.runners.settings import segmenter_configs
from streamvis.runners.sheets.scenes import forecast_sheet


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


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[Path]:
    return untrained_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    return write_textured(tmp_path_factory.mktemp("videos") / "moving")


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
    return write_drive(tmp_path_factory.mktemp("films") / "labelled")


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
    write_drive(tmp_path / "some", labelled=range(0, FRAMES, 5))
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
    write_drive(tmp_path / "slow")
    one = Moves(0)
    found = evaluate(tmp_path / "slow", {"one": one}, fps=12)  # 0.2 s are 2.4 frames
    (horizon,) = found.horizons
    assert one.asked[0] == tuple(5 + SPEED * n for n in (0, 2, 5, 7))
    assert horizon.off_us == pytest.approx(0.4e6 / 12, abs=2)
    assert horizon.confusions[LABELS][COPY].pictures == FRAMES - 9


def test_a_film_too_short_has_no_targets(tmp_path, capsys):
    write_drive(tmp_path / "short", frames=12)
    found = evaluate(tmp_path / "short", {"one": Moves(0)})
    assert found.horizons[0].confusions == {}
    assert found.cost_ms("one") is None
    put_text(forecast_tables.tables([found], "reads"))
    assert "too short" in capsys.readouterr().out
    assert found.report("reads")["forecast_of_segmentation"] == {"one": None}


def test_the_mean_over_films_counts_each_film_once(labelled, capsys):
    knows = Moves(3 * SPEED)
    given = ({"late": Moves(SPEED), "knows": knows}, {"late": Moves(2 * SPEED), "knows": knows})
    results = [evaluate(labelled, forecasters) for forecasters in given]
    means = {one["method"]: one for one in forecast_tables.mean_gaps(results)}
    reports = [one.report("reads")["horizons"][0]["against"]["labels"] for one in results]
    late = [one["methods"]["late"]["gap_closed"] for one in reports]
    assert 0 < min(late) < max(late) < 1
    assert means["late"]["gap_closed"] == pytest.approx(sum(late) / 2)
    assert (means["knows"]["films"], means["knows"]["gap_closed"]) == (2, 1)
    assert means[ORACLE]["gap_closed"] is None
    put_text(forecast_tables.tables(results, "reads"))
    told = capsys.readouterr().out
    assert "labelled:" in told
    assert "Mean over films" in told


def pan(folder: Path, steps: list[int]) -> Path:
    """Pictures of a texture that a camera turns across, so many px to the right in each step."""
    shape = (SIZE[0], SIZE[1] + sum(steps))
    texture = np.random.default_rng(0).random(shape).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(texture, (0, 0), 2), None, 0, 10, cv2.NORM_MINMAX)
    folder.mkdir()
    for n, left in enumerate(np.cumsum([0, *steps])):
        red = np.rint(texture[:, left : left + SIZE[1]])  # the classes that `Reads` reads
        pixels = np.dstack([20 * red, 20 * red, red]).astype(np.uint8)
        cv2.imwrite(str(folder / f"{n:03}.png"), pixels)
    return folder


def test_turning_and_straight_parts_are_scored_apart(tmp_path, capsys):
    folder = pan(tmp_path / "pan", [0] * 12 + [2] * 20)
    result = evaluate(folder, {"copies": Moves(0), "turns": Moves(-6)})
    (horizon,) = result.horizons
    turning, straight = (horizon.parts[part][OWN] for part in ("turning", "straight"))
    # of 21 targets, the first comes after the twelfth step; of those soon after, a part turns
    assert turning[COPY].pictures in (19, 20, 21)
    assert straight[COPY].pictures == 21 - turning[COPY].pictures
    whole = horizon.confusions[OWN]
    for method in whole:
        parts = turning[method].counts + straight[method].counts
        np.testing.assert_array_equal(parts, whole[method].counts)
    report = result.report("reads")["horizons"][0]["against"][OWN]["parts"]
    assert report["turning"]["methods"]["turns"]["gap_closed"] > 0.5
    assert report["turning"]["methods"]["copies"]["gap_closed"] == 0
    (mean,) = (m for m in forecast_tables.mean_gaps([result]) if m["method"] == "turns")
    assert mean["turning_gap_closed"] == report["turning"]["methods"]["turns"]["gap_closed"]
    put_text(forecast_tables.tables([result], "reads"))
    assert "turning" in capsys.readouterr().out


def test_a_compass_tells_how_far_a_camera_has_turned(tmp_path):
    compass, headings = forecasts.Compass(CAMVID), []
    for picture in read_labelled_video(pan(tmp_path / "pan", [3] * 8), FPS, CAMVID.names):
        classes = np.full(SIZE, ROAD, np.uint8)
        headings.append(compass.heading(picture.pixels, classes))
    # 1.5 heights of a picture are its focal length
    assert headings[0] == 0
    assert headings[-1] - headings[2] == pytest.approx(6 * 3 / (1.5 * SIZE[0]), rel=0.15)


def test_films_of_one_plan_have_scores_of_their_own(labelled):
    given, video = {"knows": Moves(3 * SPEED)}, read_labelled_video(labelled, FPS, Reads.names)
    plan = forecasts.plan(given, [])
    first, second = (forecasts.evaluate(video, Reads(), given, plan) for _ in range(2))
    assert first.report("reads")["horizons"] == second.report("reads")["horizons"]
    assert first.horizons[0].confusions[LABELS][COPY].pictures == FRAMES - 12
    assert plan[0].confusions == {}


def test_people_read_tables_and_strips(labelled, tmp_path, capsys):
    given = {"knows": Moves(3 * SPEED), "copies": Moves(0)}
    result = evaluate(labelled, given)
    put_text(forecast_tables.tables([result], "reads"))
    told = capsys.readouterr().out
    assert "0.2 s ahead: 12 pictures, against their labels" in told
    row = next(line.split() for line in told.splitlines() if line.split()[:1] == ["knows"])
    assert row[:5] == ["knows", "1.000", "1.000", "1.000", "1.000"]
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
