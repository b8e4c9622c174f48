"""What is told of scenes: shares, something unknown, forecasts and their scores."""

import msgspec
import numpy as np
import pytest
from factories import frame, source
from hypothesis import given
from hypothesis import strategies as st
from source_events import end_source, frame_events, inner, source_findings, start_source, successor

from streamvis.config import Alarm
from streamvis.events.envelope import Event, Time, encode, family_of, type_of
from streamvis.events.export import csv_lines
from streamvis.events.log import Row
from streamvis.events.mask_attachments import mask_of
from streamvis.messages import (
    Forecast,
    HorizonForecast,
    MeanForecastScore,
    Score,
    Segmentation,
    ZoneOccupancy,
)
from streamvis.stages import event_codec
from streamvis.stages.forecast.events import (
    ForecastScored,
    ForecastSegmentation,
    Outlook,
    ZoneForecast,
)
from streamvis.stages.segment.events import (
    EndedSighting,
    Region,
    Scene,
    SceneUpdate,
    Sighting,
    Unknown,
    UnknownBegin,
    UnknownEnd,
)

INFO = source("cam1")
LABELS = ("sky", "road", "car")
RULE = Alarm(p=0.6, area=0.1, min_s=0.2)
FAR = 10**9  # µs, longer than any test: nothing is told twice
HORIZON_US = 300_000


def frame_at(k, epoch=1):
    return frame(k, "cam1", epoch=epoch)


def seen(unknown=None, classes=None) -> Segmentation:
    """Sky above road, a car in one of eight pixels; `unknown` in [0, 1], nothing by default."""
    scene = np.array([[0, 0, 0, 0], [1, 1, 1, 2]], np.uint8) if classes is None else classes
    p = np.zeros((0, 0)) if unknown is None else np.asarray(unknown, np.float64)
    return Segmentation(labels=LABELS, classes=scene, unknown=np.round(255 * p).astype(np.uint8))


def ahead(*horizons, came=(), warm=True, zones=()) -> Forecast:
    scene = np.array([[0, 1], [1, 2]], np.uint8)
    horizons = tuple(HorizonForecast(horizon_us=h, classes=scene, zones=zones) for h in horizons)
    return Forecast(labels=LABELS, horizons=horizons, scores=tuple(came), warm=warm)


def came(made, miou=0.5, horizon_us=HORIZON_US):
    return Score(made_us=made * 100_000, horizon_us=horizon_us, miou=miou, accuracy=0.875)


def blob(share):
    """One row of ten, so much of it unknown."""
    return np.array([[0.9] * round(10 * share) + [0.2] * (10 - round(10 * share))])


def step(state, k, segmentation=None, forecast=None, policy=None, epoch=1):
    policy = {"alarm": RULE, **(policy or {})}
    return frame_events(state, frame_at(k, epoch), segmentation, forecast, **policy)


def fresh():
    return start_source(INFO)[0]


def types(drafts):
    return [type_of(draft.what) for draft in drafts]


def alarms(shares, every_us=FAR, rule=RULE):
    """What is told of the unknown, by frame, as its region grows and shrinks; None: skipped."""
    state, told = fresh(), {}
    for k, share in enumerate(shares):
        segmentation = None if share is None else seen(blob(share))
        for draft in step(state, k, segmentation, policy={"every_us": every_us, "alarm": rule}):
            if family_of(draft.what) == "unknown":
                told[k] = (type_of(draft.what), getattr(draft.what.unknown, "reason", ""))
    return told


def test_a_scene_is_told_as_shares_of_the_picture():
    (draft,) = step(fresh(), 3, seen())
    scene = {"sky": 0.5, "road": 0.375, "car": 0.125}
    assert draft.what == SceneUpdate(Scene(classes=scene))
    assert (draft.time.media_us, draft.frame.n, draft.attachments) == (300_000, 3, ())


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_shares_sum_to_one(pixels):
    classes = np.array([pixels], np.uint8)
    (draft,) = step(fresh(), 0, seen(classes=classes))
    shares = draft.what.scene.classes
    assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert list(shares) == list(LABELS)
    for k, label in enumerate(LABELS):
        assert shares[label] == pytest.approx(pixels.count(k) / len(pixels), abs=1e-5)


def test_the_largest_unknown_region_has_a_box_in_the_source_frame():
    p = np.zeros((6, 8))
    p[0, 0] = 1.0  # small, and surer
    p[2:5, 4:6] = 0.8
    p[5, 6] = 0.8  # touches it at a corner
    p[2, 5] = 0.5  # not likely enough
    (draft,) = step(fresh(), 0, seen(p))
    unknown = draft.what.scene.unknown
    assert unknown.share == pytest.approx(7 / 48, abs=1e-5)
    assert unknown.largest.share == pytest.approx(6 / 48)
    assert unknown.largest.box_px == (320.0, 160.0, 560.0, 480.0)  # 80 px a cell
    assert unknown.largest.p == 0.8


@pytest.mark.parametrize("p", [np.zeros((6, 8)), np.full((6, 8), 0.55)])
def test_nothing_unknown_is_not_the_same_as_not_knowing(p):
    (draft,) = step(fresh(), 0, seen(p))
    assert draft.what.scene.unknown == Unknown(share=0.0)
    (draft,) = step(fresh(), 0, seen())
    assert draft.what.scene.unknown is None


def test_all_unknown_is_one_region_of_the_whole_picture():
    (draft,) = step(fresh(), 0, seen(np.ones((6, 8))))
    assert draft.what.scene.unknown.largest == Region(
        share=1.0, box_px=(0.0, 0.0, 640.0, 480.0), p=1.0
    )


def test_something_unknown_is_told_once_it_has_lasted_and_again_when_it_is_gone():
    shares = [0, 0.3, 0.2, 0.1, 0.5, 0, 0, 0.1, 0, 0, 0, 0, 0.2]
    assert alarms(shares) == {3: ("unknown.begin", ""), 10: ("unknown.end", "over")}


def test_below_its_area_it_is_there_still_until_it_is_less_than_half():
    rule = Alarm(p=0.6, area=0.4, min_s=0.1)
    shares = [0.4, 0.4, 0.3, 0.2, 0.2, 0.3, 0.1, 0.1]
    assert alarms(shares, rule=rule) == {1: ("unknown.begin", ""), 7: ("unknown.end", "over")}


def test_a_flicker_is_no_alarm():
    assert alarms([0.3, 0.3, 0] * 5) == {}


def test_frames_that_nobody_looked_at_decide_nothing():
    assert alarms([0.3, None, None, None]) == {}
    assert alarms([0.3, None, None, 0.3, None, None, None]) == {3: ("unknown.begin", "")}


@pytest.mark.parametrize("every_us", [0, FAR])
def test_alarms_are_never_sampled(every_us):
    assert alarms([0.3] * 3 + [0] * 3, every_us) == {
        2: ("unknown.begin", ""),
        5: ("unknown.end", "over"),
    }


def test_what_is_told_of_something_unknown():
    state = fresh()
    for k, share in enumerate((0.2, 0.4, 0.1)):
        drafts = step(state, k, seen(blob(share)))
    region = {"share": 0.1, "box_px": (0.0, 0.0, 64.0, 480.0), "p": 0.902}
    assert drafts[0].what == UnknownBegin(Sighting(**region, since_us=0))
    (end,) = end_source(state, "drained")
    assert end.what == UnknownEnd(
        EndedSighting(**region, since_us=0, share_max=0.4, reason="drained")
    )


def test_a_new_stream_epoch_ends_it_and_begins_all_anew():
    state = fresh()
    for k in range(5, 8):
        step(state, k, seen(blob(0.3)), ahead(HORIZON_US))
    policy = {"every_us": FAR}
    drafts = step(state, 0, seen(blob(0.3)), ahead(HORIZON_US, came=[came(6)]), policy, epoch=2)
    assert types(drafts) == [
        *("unknown.end", "source.epoch", "scene.update", "forecast.segmentation"),
    ]
    assert drafts[0].what.unknown.reason == "epoch"


def test_a_forecast_names_when_it_is_of():
    zones = (
        ZoneOccupancy(zone="crossing", p=0.80004, polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))),
    )
    (draft,) = step(fresh(), 2, None, ahead(HORIZON_US, zones=zones, warm=False))
    assert draft.what == ForecastSegmentation(
        Outlook(
            horizon_us=300_000,
            target_us=500_000,
            classes={"sky": 0.25, "road": 0.5, "car": 0.25},
            zones=(ZoneForecast(zone="crossing", p=0.8),),
            warm=False,
        )
    )


def test_scores_come_before_what_is_forecast_and_scenes_before_both():
    state = fresh()
    step(state, 0, seen(), ahead(200_000, HORIZON_US))
    drafts = step(state, 3, seen(), ahead(200_000, HORIZON_US, came=[came(0, 0.512345)]))
    assert types(drafts) == [
        *("scene.update", "forecast.scored", "forecast.segmentation", "forecast.segmentation"),
    ]
    score = Score(made_us=0, horizon_us=HORIZON_US, miou=0.5123, accuracy=0.875)
    assert drafts[1].what.forecast == score


def test_between_two_samples_nothing_is_told():
    assert step(fresh(), 0, None, ahead()) == []
    assert step(fresh(), 0) == []


def test_scenes_and_forecasts_are_sampled_each_for_itself():
    state, policy, told = fresh(), {"every_us": 250_000}, {}
    for k in range(8):
        segmentation = seen() if k % 2 == 0 else None
        horizons = (HORIZON_US,) if k < 1 else (HORIZON_US, 600_000)
        told[k] = types(step(state, k, segmentation, ahead(*horizons), policy))
    assert [k for k in told if "scene.update" in told[k]] == [0, 4]
    assert [told[k].count("forecast.segmentation") for k in range(8)] == [1, 1, 0, 1, 1, 0, 1, 1]


def test_who_was_told_a_forecast_is_told_its_score_and_nobody_else():
    state, policy, scored = fresh(), {"every_us": 250_000}, []
    for k in range(12):
        results = [came(k - 3)] if k >= 3 else []
        drafts = step(state, k, None, ahead(HORIZON_US, came=results), policy)
        scored += [
            (k, draft.what.forecast.made_us // 100_000)
            for draft in drafts
            if isinstance(draft.what, ForecastScored)
        ]
    assert scored == [(3, 0), (6, 3), (9, 6)]


def test_a_score_is_told_once():
    state = fresh()
    step(state, 0, None, ahead(HORIZON_US))
    assert len(step(state, 3, None, ahead(came=[came(0)]))) == 1
    assert step(state, 4, None, ahead(came=[came(0)])) == []


def test_forecasts_whose_future_never_comes_are_forgotten():
    state = fresh()
    sizes = []
    for k in range(400):
        step(state, k, None, ahead(HORIZON_US))
        sizes.append(len(inner(state, "forecast").awaited[HORIZON_US]))
    assert max(sizes) == sizes[-1] < 20


@pytest.mark.parametrize("miou", [np.nan, np.inf])
def test_a_score_that_is_no_number_does_not_break_the_json(miou):
    state = fresh()
    step(state, 0, None, ahead(HORIZON_US))
    (draft,) = step(state, 3, None, ahead(came=[came(0, miou)]))
    assert b"null" not in msgspec.json.encode(draft.what)


def test_masks_go_beside_when_asked_for():
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    policy = {"masks": True}
    drafts = step(fresh(), 0, seen(classes=classes), ahead(HORIZON_US, 600_000), policy)
    assert [len(draft.attachments) for draft in drafts] == [1, 1, 1]
    for draft, expected in zip(drafts, [classes, [[0, 1], [1, 2]], [[0, 1], [1, 2]]], strict=True):
        event = Event(
            id="x",
            source="cam1",
            epoch="e",
            tseq=1,
            offset=0,
            time=draft.time,
            what=draft.what,
            attachments=draft.attachments,
        )
        np.testing.assert_array_equal(mask_of(event), expected)
    assert drafts[0].what.scene.mask.labels == LABELS


def test_something_unknown_in_a_table():
    region = {"share": 0.1, "box_px": (0.0, 1.0, 64.0, 480.0), "p": 0.9}
    ended = EndedSighting(**region, since_us=5, share_max=0.4, reason="over")
    rows = []
    for k, what in enumerate(
        [
            UnknownBegin(Sighting(**region, since_us=5)),
            UnknownEnd(ended),
            SceneUpdate(Scene(classes={"sky": 1.0})),
        ]
    ):
        event = Event(
            id="x",
            source="cam1",
            epoch="e",
            tseq=1,
            offset=k,
            time=Time(media_us=7),
            what=what,
        )
        rows.append(Row("cam1", k, 1, event.type, 7, encode(event)))
    head, *lines = (line.strip().split(",") for line in csv_lines(rows, event_codec()))
    begin, end, scene = (dict(zip(head, line, strict=True)) for line in lines)
    box = {"left": "0.0", "top": "1.0", "right": "64.0", "bottom": "480.0"}
    known = {"label": "unknown", **box, "p": "0.9", "since_us": "5", "share": "0.1"}
    assert {k: v for k, v in begin.items() if v} == {
        "source": "cam1",
        "offset": "0",
        "type": "unknown.begin",
        "media_us": "7",
        "capture_us": "0",
        **known,
    }
    over = {"offset": "1", "type": "unknown.end", "reason": "over", "share_max": "0.4"}
    assert end == {**begin, **over}
    assert (scene["type"], scene["label"], scene["share"]) == ("scene.update", "sky", "1.0")


looks = st.none() | st.sampled_from([0.0, 0.1, 0.3, 0.9]).map(lambda share: seen(blob(share)))
forecasts = st.none() | st.builds(
    ahead,
    st.just(HORIZON_US),
    came=st.lists(st.integers(0, 30).map(came), max_size=2),
    warm=st.booleans(),
)


@given(st.lists(st.tuples(looks, forecasts), max_size=30), st.sampled_from([0, 250_000]), st.data())
def test_a_successor_goes_on_exactly_and_begins_and_ends_alternate(works, every_us, data):
    state, policy = fresh(), {"every_us": every_us}
    there, epoch = False, 1
    for k, (segmentation, forecast) in enumerate(works):
        epoch += data.draw(st.integers(0, 9)) == 9
        heir = successor(state)
        drafts = step(state, k, segmentation, forecast, policy, epoch)
        assert step(heir, k, segmentation, forecast, policy, epoch) == drafts
        for kind in types(drafts):
            assert kind != ("unknown.begin" if there else "unknown.end")
            there = kind == "unknown.begin" or (there and kind != "unknown.end")
    assert types(end_source(state, "failed")) == ["unknown.end"] * there


def test_what_was_found_counts_the_unknown_and_scores_each_horizon():
    state = fresh()
    assert (source_findings(state).unknown, source_findings(state).forecasts) == (
        None,
        None,
    )
    shares = [0, 0.3, 0.3, 0.3, 0.3, 0, 0, 0, 0, 0.3, 0.3, 0.3, 0.3]
    drafts = []
    for k, share in enumerate(shares):
        scored = [came(k - 3, miou=k / 20)] if k >= 3 else []
        drafts += step(state, k, seen(blob(share)), ahead(HORIZON_US, 600_000, came=scored))
    found = source_findings(state)
    assert found.unknown == types(drafts).count("unknown.begin") == 2
    assert (found.people, found.actions) == (None, None)
    mious = [d.what.forecast.miou for d in drafts if type_of(d.what) == "forecast.scored"]
    assert len(mious) == 10
    assert found.forecasts == {
        HORIZON_US: MeanForecastScore(count=10, miou=pytest.approx(np.mean(mious), abs=1e-4))
    }


def test_weights_that_cannot_tell_the_unknown_find_none_of_it():
    state = fresh()
    step(state, 0, seen())
    assert source_findings(state).unknown is None
