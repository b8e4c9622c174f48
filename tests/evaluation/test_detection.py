"""Detection scores: cases worked out by hand, pycocotools itself, and an independent AP."""

import contextlib
import io
import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from streamvis.datasets.coco import ImageTruth, read_coco
from streamvis.datasets.motchallenge import read_sequence
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.detection import detections_of, evaluate, truth_of
from streamvis.geometry import iou, paste_mask
from streamvis.messages import Detections

NO_MASKS = np.zeros((0, 0, 0), np.uint8)
A, B, C = (0, 0, 10, 60), (100, 0, 110, 60), (200, 0, 210, 60)


def truth(*boxes, ignore=(), crowd=(), masks=None, size=(400, 300)):
    n = len(boxes)
    return ImageTruth(
        name="picture",
        width=size[0],
        height=size[1],
        boxes=np.array(boxes, np.float64).reshape(n, 4),
        ignore=np.isin(np.arange(n), ignore),
        crowd=np.isin(np.arange(n), crowd),
        masks=masks or (None,) * n,
    )


def found(*scored, labels=None, masks=NO_MASKS):
    n = len(scored)
    return Detections(
        boxes=np.array([box for box, _ in scored], np.float32).reshape(n, 4),
        scores=np.array([score for _, score in scored], np.float32),
        labels=np.ones(n, np.int32) if labels is None else np.array(labels, np.int32),
        masks=masks,
    )


def test_perfect_detections_score_one():
    scores = evaluate(
        [truth(A, B), truth(), truth(C)], [found((A, 0.9), (B, 0.8)), found(), found((C, 0.7))]
    )
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx((1, 1, 1))
    assert (scores.f1, scores.precision, scores.recall) == (1, 1, 1)
    assert scores.threshold == pytest.approx(0.7)
    assert scores.miss_rate == pytest.approx(1e-10)
    assert (scores.pictures, scores.people, scores.detections) == (3, 3, 3)
    assert scores.ap_by_height == {
        "<50": None,
        "50-100": pytest.approx(1),
        "100-200": None,
        ">=200": None,
    }
    assert scores.mask_ap is None
    assert json.loads(json.dumps(asdict(scores)))["ap50"] == pytest.approx(1)


def test_a_hand_computed_ranking():
    """Hit .9, miss .8, hit .7, of three people: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3."""
    wrong = (300, 100, 310, 160)
    scores = evaluate([truth(A, B, C)], [found((A, 0.9), (wrong, 0.8), (B, 0.7))])
    # 101 recalls: 0, .01, … .33 at precision 1 (34), .34 … .66 at 2/3 (33), the rest at 0
    assert scores.ap50 == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert scores.f1 == pytest.approx(2 * 2 / (3 + 3))
    assert scores.threshold == pytest.approx(0.7)
    assert (scores.precision, scores.recall) == pytest.approx((2 / 3, 2 / 3))
    # one false positive in one picture: below 1 FPPI a third is found, at 1 two thirds
    assert scores.miss_rate == pytest.approx(np.exp((8 * np.log(2 / 3) + np.log(1 / 3)) / 9))
    assert scores.curve == pytest.approx([1] * 34 + [2 / 3] * 33 + [0] * 34)


def caltech(hits, people, pictures):
    """The miss rate as the toolbox of Dollár et al. has it: hits (N,) in order of score."""
    hits = np.array(hits)
    fppi = np.append(-np.inf, np.cumsum(~hits) / pictures)
    recall = np.append(0, np.cumsum(hits) / people)
    at = [np.flatnonzero(fppi <= rate)[-1] for rate in 10 ** np.arange(-2, 0.01, 0.25)]
    return np.exp(np.mean(np.log(np.maximum(1 - recall[at], 1e-10))))


@pytest.mark.parametrize("pictures", [1, 4, 50, 300])
@pytest.mark.parametrize(
    "order",
    ["H", "F", "FH", "HF", "FFH", "HFHFH", "FHHF", "HFFFFFFFFH"],  # hits and false alarms by score
)
def test_the_miss_rate_is_caltechs(order, pictures):
    """Curves that start beyond 0.01 false positives per picture, and that end before 1."""
    people = [(30 * i, 0, 30 * i + 10, 60) for i in range(4)]
    nobody = [(30 * i, 100, 30 * i + 10, 160) for i in range(len(order))]
    hits = [kind == "H" for kind in order]
    boxes = [people.pop() if hit else nobody.pop() for hit in hits]
    scored = zip(boxes, np.linspace(0.9, 0.1, len(order)), strict=True)
    there = truth(*((30 * i, 0, 30 * i + 10, 60) for i in range(4)))
    scores = evaluate(
        [there, *[truth()] * (pictures - 1)], [found(*scored), *[found()] * (pictures - 1)]
    )
    assert scores.miss_rate == pytest.approx(caltech(hits, 4, pictures))


def test_the_miss_rate_by_hand():
    """A false alarm first, in ten pictures: below 0.1 nobody is found, from there on half are."""
    pictures = [truth(A, B), *[truth()] * 9]
    scores = evaluate(pictures, [found((C, 0.9), (A, 0.8)), *[found()] * 9])
    # 10^-2, 10^-1.75, 10^-1.5, 10^-1.25 lie below 1/10, five rates from 10^-1 on do not
    assert scores.miss_rate == pytest.approx(0.5 ** (5 / 9))


def test_equal_scores_stand_or_fall_together():
    wrong = (300, 100, 310, 160)
    one = evaluate([truth(A)], [found((A, 0.5), (wrong, 0.5))])
    other = evaluate([truth(A)], [found((wrong, 0.5), (A, 0.5))])
    assert one.f1 == other.f1 == pytest.approx(2 / 3)
    assert one.miss_rate == other.miss_rate == pytest.approx(np.exp(np.log(1e-10) / 9))


def test_ignored_people_cost_nothing_found_or_missed():
    missed = evaluate([truth(A, B, ignore=[1])], [found((A, 0.9))])
    hit = evaluate([truth(A, B, ignore=[1])], [found((A, 0.9), (B, 0.95))])
    for scores in (missed, hit):
        assert (scores.ap, scores.f1, scores.people) == (pytest.approx(1), 1, 1)


def test_an_ignored_person_excuses_one_detection_and_a_crowd_any_number():
    inside = [((90 + 12 * i, 10, 100 + 12 * i, 40), 0.95) for i in range(3)]
    region = (80, 0, 150, 60)
    crowd = evaluate([truth(A, region, crowd=[1])], [found((A, 0.9), *inside)])
    assert crowd.precision == 1
    twice = [(B, 0.95), (B, 0.94)]
    single = evaluate([truth(A, B, ignore=[1])], [found((A, 0.9), *twice)])
    assert single.precision == pytest.approx(1 / 2)


def test_nothing_to_find_and_nothing_found():
    assert evaluate([truth()], [found((A, 0.9))]).ap is None
    assert evaluate([truth()], [found()]).miss_rate is None
    nothing = evaluate([truth(A)], [found()])
    assert (nothing.ap, nothing.f1, nothing.miss_rate) == (0, None, 1)


def test_other_labels_are_not_people():
    scores = evaluate([truth(A)], [found((A, 0.9), (B, 0.95), labels=[1, 3])])
    assert (scores.precision, scores.detections) == (1, 1)


def test_more_than_a_hundred_people_in_a_picture_all_count():
    boxes = [(20 * i, 0, 20 * i + 10, 60) for i in range(150)]
    scores = evaluate([truth(*boxes, size=(3000, 100))], [found(*((box, 0.9) for box in boxes))])
    assert scores.recall == 1


def test_heights_fall_into_bands():
    small, tall = (0, 0, 10, 49.5), (100, 0, 150, 250)
    scores = evaluate([truth(small, tall)], [found((tall, 0.9))])
    assert scores.ap_by_height["<50"] == 0
    assert scores.ap_by_height[">=200"] == pytest.approx(1)
    assert scores.ap_by_height["50-100"] is None


def test_hostile_detections_are_refused():
    with pytest.raises(DataError, match="2 parts of detections found for 1 images"):
        evaluate([truth(A)], [found(), found()])
    with pytest.raises(DataError, match="NaN or infinite"):
        evaluate([truth(A)], [found(((0, 0, np.nan, 1), 0.5))])


def test_missing_pycocotools_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(UsageError, match="pip install pycocotools"):
        evaluate([truth(A)], [found()])


def test_pycocotools_stays_silent(capsys):
    evaluate([truth(A)], [found((A, 0.9))])
    assert capsys.readouterr() == ("", "")


def scene(seed, pictures=12):
    """Random people, a crowd now and then, and detections around them."""
    rng = np.random.default_rng(seed)
    truths, parts = [], []
    for _ in range(pictures):
        n = rng.integers(0, 6)
        low = rng.uniform(0, 200, (n, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 120, (n, 2))], axis=1)
        near = boxes + rng.normal(0, 6, boxes.shape)
        low = rng.uniform(0, 200, (3, 2))
        near = np.concatenate([near, np.concatenate([low, low + 40], axis=1)])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        scores = rng.uniform(0, 1, len(near)).round(2)
        truths.append(truth(*boxes, crowd=np.flatnonzero(rng.random(n) < 0.15)))
        parts.append(found(*zip(near, scores, strict=True)))
    return truths, parts


def pycocotools_says(truths, parts, kind="bbox", masks=None):
    """AP, AP50, AP75 by pycocotools alone, from its JSON layouts."""
    gt, dt = [], []
    for i, (one, part) in enumerate(zip(truths, parts, strict=True)):
        for box, crowd, mask in zip(one.boxes, one.crowd, one.masks, strict=True):
            x1, y1, x2, y2 = box.tolist()
            xywh = [x1, y1, x2 - x1, y2 - y1]
            gt.append({"id": len(gt) + 1, "image_id": i, "category_id": 1, "bbox": xywh})
            gt[-1] |= {"area": xywh[2] * xywh[3], "iscrowd": int(crowd), "segmentation": mask}
        for j, (box, score) in enumerate(zip(part.boxes, part.scores, strict=True)):
            x1, y1, x2, y2 = box.astype(float).tolist()
            dt.append({"image_id": i, "category_id": 1, "score": float(score)})
            dt[-1] |= {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            if masks:
                dt[-1] = {**dt[-1], "segmentation": masks[i][j]}
                del dt[-1]["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        side = COCO()
        sizes = {"height": truths[0].height, "width": truths[0].width}
        side.dataset = {
            "info": {},
            "images": [{"id": i, **sizes} for i in range(len(truths))],
            "annotations": gt,
            "categories": [{"id": 1}],
        }
        side.createIndex()
        evaluation = COCOeval(side, side.loadRes(dt), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3]


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pycocotools_on_boxes(seed):
    truths, parts = scene(seed)
    scores = evaluate(truths, parts)
    np.testing.assert_allclose(
        (scores.ap, scores.ap50, scores.ap75), pycocotools_says(truths, parts), atol=1e-9
    )


def test_agrees_with_pycocotools_on_masks():
    truths, parts = scene(3)
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:28, :28] - 13.5
    blob = (255 * (xx**2 + yy**2 < 13**2)).astype(np.uint8)
    encoded = []
    for i, (one, part) in enumerate(zip(truths, parts, strict=True)):
        x1, y1, x2, y2 = one.boxes.T
        outlines = np.stack(
            [x1, (y1 + y2) / 2, (x1 + x2) / 2, y1, x2, (y1 + y2) / 2, (x1 + x2) / 2, y2]
        )
        truths[i] = replace(one, masks=tuple([outline.tolist()] for outline in outlines.T))
        masks = np.repeat(blob[None], len(part.boxes), axis=0)
        masks[rng.random(masks.shape) < 0.1] = 0
        order = np.argsort(-part.scores, kind="stable")
        parts[i] = found(*zip(part.boxes[order], part.scores[order], strict=True), masks=masks)
        pasted = np.zeros((len(masks), one.height, one.width), bool)
        for whole, mask, box in zip(pasted, masks, parts[i].boxes, strict=True):
            rows, columns, patch = paste_mask(mask, box.astype(np.float64), one.height, one.width)
            whole[rows, columns] = patch
        encoded.append([coco_mask.encode(np.asfortranarray(m, np.uint8)) for m in pasted])
    scores = evaluate(truths, parts)
    expected = pycocotools_says(truths, parts, "segm", encoded)
    np.testing.assert_allclose((scores.mask_ap, scores.mask_ap50), expected[:2], atol=1e-9)
    assert 0.05 < scores.mask_ap < 1


def test_a_person_without_a_mask_is_ignored_in_mask_ap(tmp_path):
    square = [[0, 0, 10, 0, 10, 60, 0, 60]]
    full = np.full((2, 28, 28), 255, np.uint8)
    half_known = truth(A, B, masks=(square, None))
    unknown = truth(C)
    scores = evaluate([half_known, unknown], [found((A, 0.9), (B, 0.8), masks=full), found()])
    assert scores.mask_ap50 == pytest.approx(1)
    assert scores.ap50 == pytest.approx(67 / 101)


# Real data


def average_precision_by_hand(truths, parts):
    """Precision at 101 recalls, greedy best matches by descending score, IoU .5."""
    ranked = []
    for one, part in zip(truths, parts, strict=True):
        counts, used = ~(one.ignore | one.crowd), np.zeros(len(one.boxes), bool)
        overlap = iou(part.boxes.astype(np.float64), one.boxes)
        for i in np.argsort(-part.scores, kind="stable"):
            free = overlap[i] * counts * ~used
            if free.max(initial=0) >= 0.5:
                used[free.argmax()] = True
                ranked.append((part.scores[i], True))
            elif (overlap[i] * ~counts).max(initial=0) < 0.5:
                ranked.append((part.scores[i], False))
    people = sum(int((~(one.ignore | one.crowd)).sum()) for one in truths)
    hits = np.array([hit for _, hit in sorted(ranked, key=lambda pair: -pair[0])])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(np.cumsum(hits) / people, np.linspace(0, 1, 101))
    return np.append(best_from_here, 0)[at].mean()


@pytest.mark.parametrize("name", ["pets09-s2l1", "tud-campus"])
def test_agrees_with_an_independent_ap_on_public_detections(name, data):
    sequence = read_sequence(data / "mot" / name)
    truths, parts = truth_of(sequence), detections_of(sequence.detections, sequence.length)
    truths, parts = truths[:250], parts[:250]
    scores = evaluate(truths, parts)
    assert scores.ap50 == pytest.approx(average_precision_by_hand(truths, parts), abs=1e-3)


def test_pets_frames_with_flag_0_do_not_count(data):
    sequence = read_sequence(data / "mot/pets09-s2l1")
    truths = truth_of(sequence)
    assert sum(len(one.boxes) for one in truths) == 4650
    assert sum(int(one.ignore.sum()) for one in truths) == 174


def test_distractors_are_ignored_and_occluders_are_nobody(data):
    sequence = read_sequence(data / "mot/mot16-11")
    truths = truth_of(sequence)
    assert sum(len(one.boxes) for one in truths) == 9174 + 306
    assert sum(int(one.ignore.sum()) for one in truths) == 306


def test_the_people_set_reads_whole(data):
    truths = read_coco(data / "people/annotations.json")
    assert (len(truths), sum(len(one.boxes) for one in truths)) == (1237, 5932)
