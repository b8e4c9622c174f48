"""The tracker answers as the stages `track` and `camera` do, and refuses what cannot be meant."""

import json
import subprocess
import sys

import numpy as np
import pytest
from factories import detections, packet, source
from walkers import SCENE, assert_same

import streamvis
from streamvis.config import CameraMotion, Jipda
from streamvis.errors import DataError, UsageError
from streamvis.messages import Embeddings, Motion
from streamvis.stages.protocol import Site

FPS, FRAMES = 5, 15
PICTURES = [SCENE.picture(n) for n in range(FRAMES)]
FOUND = [detections(SCENE.truth(n).visible_boxes) for n in range(FRAMES)]
SIZE = (320, 240)
PLANE = [[0.01, 0, 0], [0, 0.01, 0], [0, 0, 1]]  # a centimetre for each pixel


def looks_of(n: int) -> Embeddings:
    vectors = np.random.default_rng(n).normal(size=(len(FOUND[n]), 8)).astype(np.float32)
    return Embeddings(vectors=vectors)


def staged(parts, **settings):
    """The tracks of the stages, packet by packet."""
    info = source(size=SIZE, fps=FPS)
    camera = CameraMotion().build(Site(device="cpu", pixels=lambda frame: PICTURES[frame.seq]))
    track = Jipda(**settings).build(Site(device="cpu", pixels=lambda frame: None))
    camera.begin(info, None)
    track.begin(info, None)
    for n, own in enumerate(parts):
        (motion,) = camera([packet(n, fps=FPS, size=SIZE)])
        yield from track([packet(n, *own, motion, fps=FPS, size=SIZE)])


def test_tracks_are_the_stages_with_looks_and_the_cameras_motion():
    tracker = streamvis.Tracker(fps=FPS)
    expected = staged([(FOUND[n], looks_of(n)) for n in range(FRAMES)])
    count = 0
    for n, tracks in enumerate(expected):
        assert_same(tracker.update(FOUND[n], looks_of(n), picture=PICTURES[n]), tracks)
        count += len(tracks)
    assert count > FRAMES


def test_an_embedder_is_called_for_those_who_are_needed():
    rows = []

    def embed(picture, found):
        n = next(n for n, one in enumerate(PICTURES) if one is picture)
        looked = [FOUND[n].boxes.tolist().index(box) for box in found.boxes.tolist()]
        rows.extend(looked)
        return Embeddings(vectors=looks_of(n).vectors[looked])

    one, other = (streamvis.Tracker(fps=FPS) for _ in range(2))
    for n, picture in enumerate(PICTURES):
        tracks = one.update(FOUND[n], embed, picture=picture)
        assert_same(tracks, other.update(FOUND[n], looks_of(n), picture=picture))
    assert 0 < len(rows) < sum(map(len, FOUND))
    with pytest.raises(UsageError, match="an Embedder needs the frame"):
        one.update(FOUND[0], embed)
    with pytest.raises(DataError, match="looks is a ndarray, expected Embeddings"):
        streamvis.Tracker(fps=FPS).update(FOUND[0], lambda *_: np.ones((4, 8)), picture=PICTURES[0])


def test_frames_without_detections_are_predicted():
    tracker = streamvis.Tracker(fps=FPS, memory_s=1.5)
    parts = [(FOUND[n],) if n % 2 == 0 else () for n in range(FRAMES)]
    for n, tracks in enumerate(staged(parts, memory_s=1.5)):
        found = FOUND[n] if n % 2 == 0 else None
        assert_same(tracker.update(found, picture=PICTURES[n]), tracks)


def test_a_motion_stands_for_its_picture_and_times_for_the_rate():
    camera = CameraMotion().build(Site(device="cpu", pixels=lambda frame: PICTURES[frame.seq]))
    camera.begin(source(size=SIZE), None)
    seen, told = streamvis.Tracker(FPS), streamvis.Tracker(size=SIZE)
    for n in range(FRAMES):
        (motion,) = camera([packet(n)])
        one = seen.update(FOUND[n], picture=PICTURES[n])
        assert_same(told.update(FOUND[n], motion=motion, time_s=n / FPS), one)


def test_the_clock_goes_on_from_a_given_time():
    free, steady = streamvis.Tracker(FPS, size=SIZE), streamvis.Tracker(FPS, size=SIZE)
    for n in range(FRAMES):
        time_s = 40 + n / FPS if n in (0, 7) else None
        one = free.update(FOUND[n], time_s=time_s)
        other = steady.update(FOUND[n])
        np.testing.assert_array_equal(one.boxes, other.boxes)
        assert (one.first_seen_us - other.first_seen_us == 40_000_000).all()


def test_a_picture_of_another_size_rescales_the_tracks():
    tracker = streamvis.Tracker(FPS)
    for n in range(8):
        before = tracker.update(FOUND[n], picture=PICTURES[n])
    half = detections(FOUND[8].boxes / 2)
    after = tracker.update(half, picture=np.ascontiguousarray(PICTURES[8][::2, ::2]))
    assert set(before.ids) & set(after.ids)


def test_tracks_are_in_metres_with_a_ground_plane(tmp_path):
    plane = tmp_path / "plane.json"
    plane.write_text(json.dumps({"image_foot_to_world_m": PLANE}))
    tracker = streamvis.Tracker(FPS, size=SIZE, ground_plane=plane)
    for n in range(8):
        tracks = tracker.update(FOUND[n])
    assert tracks.space == "ground"
    assert np.isfinite(tracks.ground).all()


ONE = detections([[10, 10, 30, 90]])
VECTOR = Embeddings(vectors=np.ones((1, 8), np.float32))
PIXELS = np.zeros((240, 320, 3), np.uint8)
NAN = float("nan")
WRONG = Motion(warp=np.eye(3), support=1.0)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"found": ONE.boxes}, "found a ndarray, expected Detections"),
        ({"found": detections([[10, 10, 30, NAN]])}, "NaN or infinity"),
        ({"found": ONE, "looks": VECTOR.vectors}, "looks is a ndarray, expected Embeddings"),
        ({"found": ONE[[]], "looks": VECTOR}, r"looks is float32 \(1, 8\) for 0 detections"),
        ({"found": None, "looks": VECTOR}, "looks without detections"),
        ({"found": ONE, "looks": Embeddings(vectors=VECTOR.vectors * NAN)}, "looks holds NaN"),
        ({"found": ONE, "picture": PIXELS[:, :, 0]}, r"shape \(240, 320\)"),
        ({"found": ONE, "motion": np.eye(2, 3)}, "motion is a ndarray, expected Motion"),
        (
            {"found": ONE, "motion": Motion(warp=np.eye(3), support=1.0)},
            r"shape \(3, 3\), expected \(2, 3\)",
        ),
        ({"found": ONE, "time_s": NAN}, "time_s is nan"),
        ({"found": ONE, "time_s": "1"}, "time_s is '1'; expected seconds"),
        ({"found": ONE, "time_s": 1e300}, "time_s is 1e.300; expected seconds"),
        ({"found": ONE, "time_s": 0.1}, "time_s is 0.1, not after the frame before it at 0.2"),
    ],
)
def test_what_is_no_input_is_refused_and_changes_nothing(given, problem):
    tracker, other = (streamvis.Tracker(FPS, size=SIZE) for _ in range(2))
    for one in (tracker, other):
        for _ in range(2):
            one.update(ONE, VECTOR)
    with pytest.raises(DataError, match=f"^(Tracker|Detections).*{problem}"):
        tracker.update(**given)
    for _ in range(5):
        assert_same(tracker.update(ONE, VECTOR), other.update(ONE, VECTOR))


@pytest.mark.parametrize(
    ("made", "given", "problem"),
    [
        ({}, {"picture": PIXELS}, "the time of the frame is unknown; give fps"),
        ({"fps": 5}, {}, r"the size of the frames is unknown; give size=\(width, height\)"),
        ({"fps": 5, "mode": "gnn_embed"}, {}, r"mode gnn_embed needs embeddings"),
        ({"fps": 5, "camera": "moving", "size": SIZE}, {}, "needs the camera's motion"),
    ],
)
def test_an_update_that_lacks_something_says_what(made, given, problem):
    with pytest.raises(UsageError, match=f"^Tracker: .*{problem}"):
        streamvis.Tracker(**made).update(ONE, **given)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"fps": 0}, "fps is 0; expected frames per second"),
        ({"fps": NAN}, "fps is nan"),
        ({"fps": 10**400}, "fps is 1000"),
        ({"fps": "25"}, "fps is '25'; expected frames per second"),
        ({"size": (320,)}, r"size is \(320,\); expected \(width, height\)"),
        ({"size": (320, 0)}, "size is"),
        ({"size": (320.5, 240.0)}, r"size is \(320.5, 240.0\); expected .* whole pixels"),
        ({"size": "12"}, "size is '12'; expected"),
        ({"clutter": np.inf}, r"Expected a finite number, got inf - at `\$.clutter`"),
        ({"fps": True}, "fps is True; expected frames per second"),
        ({"ground_plane": 5}, "ground_plane is 5; expected the path of a file"),
        ({"ground_plane": ""}, "ground_plane is ''; expected the path of a file"),
        ({"mode": "sort"}, "Allowed: auto, gnn_embed"),
        ({"memory": 3}, "did you mean memory_s"),
    ],
)
def test_wrong_settings_are_refused(given, problem):
    with pytest.raises(UsageError, match=f"^Tracker: .*{problem}"):
        streamvis.Tracker(**given)


def test_a_tracker_without_pictures_needs_neither_torch_nor_opencv():
    code = (
        "import sys, streamvis; t = streamvis.Tracker(25, size=(64, 48))\n"
        "t.update(streamvis.Detections.of([[1, 2, 3, 4]], [0.9]))\n"
        "assert not {'torch', 'cv2', 'zmq', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
