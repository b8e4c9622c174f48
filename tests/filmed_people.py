"""People who walk in front of a camera: their detections and embeddings, and who follows them."""

import numpy as np
from factories import source

from streamvis.config import Jipda
from streamvis.geometry import iou
from streamvis.messages import Detections, Embeddings
from streamvis.tracking.tracker import Tracker

WIDTH = 6  # of the embeddings
PERSON = np.eye(WIDTH)  # people who are nothing like each other
INFO = source("s")


def person(x, y, height=90.0):
    """The box of someone whose foot is at (x, y)."""
    return [x - height / 6, y - height, x + height / 6, y]


def detected(boxes, scores=0.9):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Detections(
        boxes=boxes,
        scores=np.broadcast_to(np.float32(scores), len(boxes)).copy(),
        labels=np.ones(len(boxes), dtype=np.int32),
        masks=np.zeros((0, 0, 0), dtype=np.uint8),
    )


def embedded(vectors, noise=0.0, rng=None):
    vectors = np.array(vectors, dtype=np.float64).reshape(-1, WIDTH)
    if noise:
        vectors = vectors + rng.normal(0, noise, vectors.shape)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors=(vectors / np.maximum(length, 1e-9)).astype(np.float32))


def filmed(people, seconds, fps=10.0, noise=0.1, score=lambda t: 0.9):
    """People, each a path(t) -> foot or None and a look, as (t, Detections, Embeddings, feet)."""
    rng = np.random.default_rng(0)
    for k in range(round(seconds * fps)):
        t = k / fps
        feet = {i: foot for i, (path, _) in enumerate(people) if (foot := path(t)) is not None}
        boxes = np.array([person(*foot) for foot in feet.values()]).reshape(-1, 4)
        found = detected(boxes + rng.normal(0, 1, boxes.shape), score(t))
        yield t, found, embedded([people[i][1] for i in feet], noise, rng), feet


def tracker(**changes):
    return Tracker(INFO, Jipda(space="image", **changes))


def owner(tracks, foot):
    """The id of the track that overlaps a person best, None when none does."""
    overlap = iou(tracks.boxes, np.array([person(*foot)]))[:, 0]
    return int(tracks.ids[overlap.argmax()]) if overlap.max(initial=0) > 0.5 else None


def owners(out, who):
    """The ids that followed a person, each once, in order."""
    ids = (owner(tracks, feet[who]) for _, tracks, feet in out if who in feet)
    return list(dict.fromkeys(i for i in ids if i is not None))


def meeting(t):
    """How far two who meet have come, 1: there; None while nobody sees them. They turn back."""
    if 3 <= t < 4.5:
        return None
    return min(t, 7.5 - t) / 3


def meet(left=(100, 300), right=(500, 300)):
    """Two people who walk up to each other, stand, and part the way they came."""

    def path(start, end):
        def at(t):
            share = meeting(t)
            return None if share is None else tuple(np.add(start, np.subtract(end, start) * share))

        return at

    return [(path(left, (285, 300)), PERSON[0]), (path(right, (315, 300)), PERSON[1])]


def away(path, start, end):
    return lambda t: None if start <= t < end else path(t)
