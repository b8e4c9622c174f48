# %% [markdown]
# # Evaluate a tracker on MOTChallenge data
#
#     python docs/tutorials/evaluate_a_tracker.py [SEQUENCE]
#
# SEQUENCE is a directory with `seqinfo.ini`, `gt/gt.txt` and `det/det.txt`. If there is none, a
# rendered street is written there, whose public detections are its ground truth with noise, misses and
# false alarms.

# %%
import sys
from pathlib import Path

import numpy as np

import streamvis
from streamvis.datasets import motchallenge
from streamvis.evaluation.mot import MotScores, evaluate
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence


def write_rendered(folder: Path) -> None:
    """Write a rendered street with public detections in the layout of MOTChallenge."""
    scene = SyntheticScene(seed=3, people=6, seconds=10)
    write_sequence(folder, scene)
    truth = motchallenge.read_sequence(folder).truth
    assert truth is not None
    random = np.random.default_rng(0)
    seen = truth.where(random.random(len(truth)) < 0.9)
    boxes = seen.boxes + random.normal(0, 2, seen.boxes.shape)
    scores = random.uniform(0.6, 1, len(seen))
    count = scene.frames // 2  # false alarms
    corner = random.uniform(0, 400, (count, 2))
    false_boxes = np.hstack([corner, corner + random.uniform(20, 80, (count, 2))])
    detections = motchallenge.rows(
        frames=np.concatenate([seen.frames, random.integers(1, scene.frames + 1, count)]),
        ids=np.full(len(seen) + count, -1),
        boxes=np.concatenate([boxes, false_boxes]),
        scores=np.concatenate([scores, random.uniform(0.3, 0.8, count)]),
    )
    (folder / "det").mkdir()
    motchallenge.write_results(folder / "det" / "det.txt", detections)


# %% [markdown]
# `Tracker` is updated with the detections of each frame; an update without detections is one in which
# nobody was found. The rows of results are frame numbers from 1, ids and boxes.


# %%
def track(sequence: motchallenge.Sequence, tracker: streamvis.Tracker) -> motchallenge.Rows:
    """Track the public detections of a sequence."""
    if sequence.detections is None:
        sys.exit(f"{path} has no det/det.txt")
    frames, ids, boxes = [], [], []
    for number, found in enumerate(sequence.detections.by_frame(sequence.length), 1):
        tracks = tracker.update(streamvis.Detections.of(found.boxes, found.scores.clip(0, 1)))
        frames.append(np.full(len(tracks), number))
        ids.append(tracks.ids)
        boxes.append(tracks.boxes)
    return motchallenge.rows(np.concatenate(frames), np.concatenate(ids), np.concatenate(boxes))


def show(name: str, scores: MotScores) -> None:
    shares = f"HOTA {scores.hota:.3f}  MOTA {scores.mota:.3f}  IDF1 {scores.idf1:.3f}"
    print(f"{name:<18} {shares}  identity switches {scores.idsw}")


# %%
path = Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial/street")
if not path.exists():
    write_rendered(path)
sequence = motchallenge.read_sequence(path)
fps, size = sequence.fps, (sequence.width, sequence.height)
show("default", evaluate(sequence, track(sequence, streamvis.Tracker(fps=fps, size=size))))

# %% [markdown]
# Every setting of the stage `jipda` is a keyword. A track without detections is predicted for at most
# `memory_s`; with a tenth of a second, each miss ends a track.

# %%
tracker = streamvis.Tracker(fps=fps, size=size, memory_s=0.1)
show("memory_s=0.1", evaluate(sequence, track(sequence, tracker)))
