"""Scores of keypoints, against pycocotools' own reading of the same people and by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets.keypoints import NAMES, SIGMAS, PersonKeypoints
from streamvis.errors import DataError
from streamvis.evaluation.pose import evaluate, oks_of, similarities

pytest.importorskip("pycocotools")


def person(seed: int, picture: int = 0, labelled: int = 17, **changes) -> PersonKeypoints:
    rng = np.random.default_rng(seed)
    box = np.array([10.0, 20, 90, 180])
    weights = np.zeros(17)
    weights[rng.permutation(17)[:labelled]] = 1
    return PersonKeypoints(
        path=Path(f"{picture}.jpg"),
        picture=picture,
        id=seed,
        source="made",
        box=box,
        area=80.0 * 160,
        points=rng.uniform(box[:2], box[2:], (17, 2)) * weights[:, None],
        weights=weights,
        taught=False,
        ignore=False,
    )._replace(**changes)


def crowd() -> list[PersonKeypoints]:
    return [person(i, i // 2, labelled=9 + i) for i in range(6)]


def estimates(people: list[PersonKeypoints], error_px: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.array([one.points for one in people]) + rng.normal(0, error_px, (len(people), 17, 2))


def test_the_truth_scores_one():
    people = crowd()
    found = evaluate(people, estimates(people, 0), np.ones((6, 17)))
    assert (found.ap, found.ap50, found.ar, found.oks) == pytest.approx((1, 1, 1, 1))
    assert (found.pictures, found.people, found.points) == (3, 6, sum(range(9, 15)))
    assert found.brier == 0
    assert all(one.right == 1 for one in found.joints.values() if one.labelled)


def test_a_point_at_two_deviations_has_the_similarity_of_the_definition():
    one = person(0)
    moved = one.points + np.column_stack([2 * SIGMAS * one.area**0.5, np.zeros(17)])
    found = similarities([one], moved[None])
    np.testing.assert_allclose(found, np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(oks_of(found, one.weights[None] > 0), np.exp(-0.5), rtol=1e-6)


@settings(max_examples=10)
@given(error=st.floats(1, 40))
def test_average_precision_is_the_share_of_people_where_all_scores_are_equal(error):
    """With one person a picture, and equal scores, AP at an OKS is close to the share above it."""
    people = [person(i, picture=i) for i in range(12)]
    points = estimates(people, error)
    found = evaluate(people, points, np.full((12, 17), 0.5))
    oks = oks_of(similarities(people, points), np.ones((12, 17), bool))
    shares = [(oks >= t).mean() for t in np.arange(0.5, 0.96, 0.05)]
    assert found.ar == pytest.approx(np.mean(shares), abs=1e-6)
    assert found.ap <= found.ar + 0.02


def test_ignored_people_cost_nothing():
    people = [*crowd(), person(9, 1, ignore=True)]
    points = estimates(people, 0)
    points[-1] += 1000
    found = evaluate(people, points, np.ones((7, 17)))
    assert (found.ap, found.people) == (1, 6)


def test_pckh_is_by_the_head_and_undefined_without_an_ear():
    one = person(0)
    points = one.points.copy()
    points[:5] = [[50, 50], [55, 45], [45, 45], [60, 50], [40, 50]]  # ears 20 px apart
    one = one._replace(points=points)
    moved = points + np.array([9.9, 0])
    assert evaluate([one], moved[None], np.ones((1, 17))).pckh == 1
    assert evaluate([one], (points + np.array([10.1, 0]))[None], np.ones((1, 17))).pckh == 0
    deaf = one._replace(weights=np.array([1, 1, 1, 0, 0, *[1] * 12], float))
    assert evaluate([deaf], moved[None], np.ones((1, 17))).pckh is None


def test_errors_of_their_covariance_have_the_median_of_chi_squared():
    people = [person(i, picture=i, area=1e6) for i in range(150)]
    rng = np.random.default_rng(0)
    root = np.array([[3.0, 0], [2, 1]])
    points = np.array([p.points for p in people]) + rng.normal(size=(150, 17, 2)) @ root.T
    covariances = np.broadcast_to(root @ root.T, (150, 17, 2, 2))
    found = evaluate(people, points, np.ones((150, 17)), covariances)
    assert found.nees == pytest.approx(2 * np.log(2), rel=0.1)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 17, 2)), r"shape \(2, 17, 2\).*for 1 people"),
        (np.full((1, 17, 2), np.nan), "NaN or infinite"),
    ],
)
def test_estimates_that_do_not_fit_are_refused(points, message):
    with pytest.raises(DataError, match=message):
        evaluate([person(0)], points, np.ones(points.shape[:2]))


def test_every_keypoint_has_its_row():
    people = crowd()
    found = evaluate(people, estimates(people, 3), np.ones((6, 17)))
    assert tuple(found.joints) == NAMES
    labelled = sum(one.labelled for one in found.joints.values())
    assert labelled == found.points
