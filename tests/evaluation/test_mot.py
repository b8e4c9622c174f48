"""Tracking scores: cases worked out by hand, TrackEval's metrics and its pipeline over files."""

import contextlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from streamvis.datasets.motchallenge import (
    Rows,
    Sequence,
    read_sequence,
    read_sequences,
    rows,
    write_results,
)
from streamvis.errors import DataError
from streamvis.evaluation.mot import evaluate, evaluate_all

SHARES = ("hota", "deta", "assa", "mota", "motp", "idf1", "idp", "idr")


def walk(ids, frames, x=0.0):
    """Rows of a person standing at x: (frame, id, box)."""
    return [(frame, id_, (x, 0, x + 10, 40)) for frame, id_ in zip(frames, ids, strict=True)]


def as_rows(*walks, world=None):
    flat = [entry for one in walks for entry in one]
    return rows(
        [frame for frame, _, _ in flat], [id_ for _, id_, _ in flat], [box for *_, box in flat],
        world=world,
    )  # fmt: skip


def sequence(truth, layout="MOT15", name="made", ground_plane=None):
    return Sequence(
        name=name,
        folder=Path(name),
        fps=10,
        width=400,
        height=100,
        length=100,
        video=None,
        ground_plane=ground_plane,
        layout=layout,
        truth=truth,
        detections=None,
    )


TWO = as_rows(walk([1] * 10, range(1, 11)), walk([2] * 10, range(1, 11), x=100))


def test_perfect_tracks_score_one():
    scores = evaluate(sequence(TWO), TWO)
    assert [getattr(scores, name) for name in SHARES] == pytest.approx([1] * 8)
    assert (scores.mt, scores.tp, scores.people) == (2, 20, 2)
    assert (scores.fp, scores.fn, scores.idsw, scores.frag, scores.pt, scores.ml) == (0,) * 6
    assert json.loads(json.dumps(asdict(scores)))["mt"] == 2


def test_a_switch_of_identity_by_hand():
    """One of two people is called 7, then 8, for five frames each."""
    found = as_rows(walk([7] * 5 + [8] * 5, range(1, 11)), walk([2] * 10, range(1, 11), x=100))
    scores = evaluate(sequence(TWO), found)
    assert (scores.idsw, scores.fp, scores.fn, scores.frag) == (1, 0, 0, 0)
    assert scores.mota == pytest.approx(1 - 1 / 20)
    assert scores.idf1 == pytest.approx(2 * 15 / 40)  # five frames lie with the wrong identity
    assert scores.deta == pytest.approx(1)
    assert scores.assa == pytest.approx((10 * 1 + 10 * 5 / 10) / 20)
    assert scores.hota == pytest.approx(np.sqrt(0.75))


def test_misses_gaps_and_false_tracks_by_hand():
    found = as_rows(
        walk([1] * 8, [1, 2, 3, 4, 7, 8, 9, 10]),  # 80 %: not *more* than 80
        walk([5, 5], [5, 6], x=300),
    )
    scores = evaluate(sequence(TWO), found)
    assert (scores.tp, scores.fn, scores.fp, scores.idsw, scores.frag) == (8, 12, 2, 0, 1)
    assert (scores.mt, scores.pt, scores.ml) == (0, 1, 1)
    assert scores.mota == pytest.approx((8 - 2) / 20)
    assert (scores.idp, scores.idr) == pytest.approx((8 / 10, 8 / 20))


def test_motp_is_the_mean_overlap():
    shifted = replace(TWO, boxes=TWO.boxes + np.array([2, 0, 2, 0]))
    assert evaluate(sequence(TWO), shifted).motp == pytest.approx(8 / 12)


def test_flag_0_is_left_out_and_what_finds_it_is_false():
    truth = replace(TWO, scores=np.where(TWO.ids == 2, 0.0, 1.0))
    scores = evaluate(sequence(truth), TWO)
    assert (scores.tp, scores.fp, scores.people) == (10, 10, 1)


def test_results_on_distractors_are_dropped_in_mot16_only():
    truth = replace(TWO, classes=np.where(TWO.ids == 2, 8, 1))
    truth = replace(truth, scores=np.where(TWO.ids == 2, 0.0, 1.0))
    assert evaluate(sequence(truth, "MOT16"), TWO).fp == 0
    other = replace(truth, classes=np.where(TWO.ids == 2, 3, 1))  # a car is no distractor
    assert evaluate(sequence(other, "MOT16"), TWO).fp == 10


def test_no_results_and_no_truth():
    empty = as_rows()
    nothing = evaluate(sequence(TWO), empty)
    assert (nothing.mota, nothing.idf1, nothing.fn, nothing.ml) == (0, 0, 20, 2)
    invented = evaluate(sequence(empty), TWO)
    assert (invented.fp, invented.tp) == (20, 0)


def test_on_the_ground_a_metre_is_close_enough():
    world = np.where(TWO.ids[:, None] == 2, 50.0, 0.0) * [1, 0] + np.zeros((20, 2))
    truth = replace(TWO, world=world)
    near = replace(TWO, world=world + np.array([0.6, 0]), boxes=TWO.boxes + 500)
    far = replace(TWO, world=world + np.array([1.01, 0]))
    scores = evaluate(sequence(truth), near, "ground")
    assert (scores.tp, scores.motp) == (20, pytest.approx(0.4))  # 1 − 0.6 m / 1 m
    assert evaluate(sequence(truth), far, "ground").tp == 0


def test_results_without_world_are_placed_by_the_ground_plane(tmp_path):
    plane = tmp_path / "ground_plane.json"
    plane.write_text('{"image_foot_to_world_m": [[0.1, 0, 0], [0, 0.1, 0], [0, 0, 1]]}')
    feet = np.stack([(TWO.boxes[:, 0] + TWO.boxes[:, 2]) / 2, TWO.boxes[:, 3]], axis=1)
    truth = replace(TWO, world=feet / 10)
    assert evaluate(sequence(truth, ground_plane=plane), TWO, "ground").motp == pytest.approx(1)
    with pytest.raises(DataError, match=r"20 rows of the results have no world coordinates"):
        evaluate(sequence(truth), TWO, "ground")
    with pytest.raises(DataError, match=r"20 rows of the ground truth have no world"):
        evaluate(sequence(TWO, ground_plane=plane), truth, "ground")


def test_what_cannot_be_scored_is_told():
    with pytest.raises(DataError, match=r"has no gt/gt\.txt"):
        evaluate(sequence(None), TWO)
    with pytest.raises(DataError, match="two sequences are called made"):
        evaluate_all([(sequence(TWO), TWO), (sequence(TWO), TWO)])
    with pytest.raises(DataError, match="no sequence to evaluate"):
        evaluate_all([])


# Against TrackEval's own pipeline over files


def disturbed(truth: Rows, seed: int) -> Rows:
    """Results as a mediocre tracker would give: jitter, misses, switches, false tracks."""
    rng = np.random.default_rng(seed)
    kept = truth.where(rng.random(len(truth)) < 0.85)
    ids = np.where(kept.frames > np.median(kept.frames), kept.ids, kept.ids + 1000)
    boxes = kept.boxes + rng.normal(0, 4, kept.boxes.shape)
    extra = boxes[::20] + 60
    extra_ids = np.arange(len(extra)) // 4 + 5000
    boxes = np.concatenate([boxes, extra])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    frames = np.concatenate([kept.frames, kept.frames[::20]])
    found = rows(frames, np.concatenate([ids, extra_ids]), boxes.round(2))
    _, first = np.unique(np.stack([found.frames, found.ids]), axis=1, return_index=True)
    return found.where(first)


def by_trackeval(benchmark, pairs, folder):
    """TrackEval's file pipeline on one benchmark: {sequence: results by metric}."""
    trackeval = pytest.importorskip("trackeval")
    data = folder / "trackers/ours/data"
    data.mkdir(parents=True)
    for one, found in pairs:
        write_results(
            data / f"{one.name}.txt", replace(found, world=np.full((len(found), 2), np.nan))
        )
        link = folder / "gt" / one.name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(one.folder)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.MotChallenge2DBox(
            {
                "GT_FOLDER": str(folder / "gt"),
                "TRACKERS_FOLDER": str(folder / "trackers"),
                "SKIP_SPLIT_FOL": True,
                "BENCHMARK": benchmark,
                "SEQ_INFO": {one.name: one.length for one, _ in pairs},
                "PRINT_CONFIG": False,
            }
        )
        evaluator = trackeval.Evaluator(
            {
                "PRINT_RESULTS": False,
                "PRINT_CONFIG": False,
                "TIME_PROGRESS": False,
                "OUTPUT_SUMMARY": False,
                "OUTPUT_DETAILED": False,
                "PLOT_CURVES": False,
                "LOG_ON_ERROR": None,
            }
        )
        metrics = [
            trackeval.metrics.HOTA(),
            trackeval.metrics.CLEAR({"PRINT_CONFIG": False}),
            trackeval.metrics.Identity({"PRINT_CONFIG": False}),
        ]
        results, _ = evaluator.evaluate([dataset], metrics)
    return {
        name: found["pedestrian"] for name, found in results["MotChallenge2DBox"]["ours"].items()
    }


@pytest.mark.parametrize("layout", ["MOT15", "MOT16"])
def test_agrees_with_trackevals_own_pipeline(layout, data, tmp_path):
    chosen = [one for one in read_sequences(data / "mot") if one.layout == layout]
    pairs = [(one, disturbed(one.truth, seed)) for seed, one in enumerate(chosen)]
    expected = by_trackeval(layout, pairs, tmp_path)
    *each, combined = evaluate_all(pairs)
    for scores, theirs in [
        *zip(each, (expected[one.name] for one in chosen), strict=True),
        (combined, expected["COMBINED_SEQ"]),
    ]:
        hota, clear, identity = theirs["HOTA"], theirs["CLEAR"], theirs["Identity"]
        means = [hota[key].mean() for key in ("HOTA", "DetA", "AssA")]
        shares = [clear["MOTA"], clear["MOTP"], *(identity[key] for key in ("IDF1", "IDP", "IDR"))]
        np.testing.assert_allclose(
            [getattr(scores, name) for name in SHARES], [*means, *shares], atol=2e-6
        )
        counts = ("IDSW", "MT", "PT", "ML", "Frag", "CLR_TP", "CLR_FP", "CLR_FN")
        assert [
            getattr(scores, name) for name in ("idsw", "mt", "pt", "ml", "frag", "tp", "fp", "fn")
        ] == [clear[name] for name in counts]
        assert 0.3 < scores.mota < 0.9
        assert scores.idsw > 0


def test_the_ground_truth_of_every_sequence_tracks_itself(data):
    for one in read_sequences(data / "mot"):
        considered = one.truth.where(one.truth.scores != 0)
        spaces = ["image", "ground"] if np.isfinite(one.truth.world).all() else ["image"]
        for space in spaces:
            scores = evaluate(one, considered, space)
            assert [getattr(scores, name) for name in SHARES] == pytest.approx([1] * 8)


def test_results_are_read_from_a_file(tmp_path):
    (tmp_path / "gt").mkdir()
    (tmp_path / "seqinfo.ini").write_text(
        "[Sequence]\nname=a\nframeRate=7\nseqLength=10\nimWidth=200\nimHeight=50\n"
    )
    write_results(tmp_path / "gt/gt.txt", TWO)
    write_results(tmp_path / "tracks.txt", TWO)
    assert evaluate(read_sequence(tmp_path), tmp_path / "tracks.txt").hota == pytest.approx(1)
