"""Labels the keypoints of people whose boxes are known, in folders of pictures and along tracks."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.datasets.clips import Clip, check_there, read_clips
from streamvis.datasets.coco import ImageTruth, read_coco
from streamvis.datasets.motchallenge import MOST_FRAMES, Rows, read_results
from streamvis.datasets.pictures import read_picture
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.sources import Picture, open_source, resolve, whole
from streamvis.training.detector.annotation import CocoAnnotation, CocoImage, Label, row_of
from streamvis.training.detector.auto_label import file_name
from streamvis.training.detector.coco_folder import CocoFolder
from streamvis.training.detector.pose_teacher import PoseTeacher
from streamvis.training.pose.taught_pose import TaughtPose, teach

OUTSIDE = 0.1  # of the box's longer side: points further outside the box are another person's


class PosePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which people are labelled, and which of their points are sure."""

    sure: float  # probability from which a point is sure
    least_px: float  # of the longer side of the box; smaller people are left out
    every: float  # seconds from one picture of a clip to the next


class PersonToLabel(NamedTuple):
    """A person in a picture, who is to be labelled."""

    box: Array  # (4,) xyxy
    box_label: Label
    track: int | None = None  # the row of clips.csv, from 1


def label_folder(root: Path, folder: CocoFolder, teacher: PoseTeacher, plan: PosePlan) -> None:
    """Label the people of a COCO folder; pictures in `folder` already are kept.

    Boxes that a network was in doubt about (`iscrowd: 1`) are tried too; true regions are not.
    """
    for truth in read_coco(root / "annotations.json"):
        name = f"{root.resolve().name}_{truth.name.replace('/', '_')}"
        people = list(_people_of(truth))
        if name in folder or not people:
            continue
        path = root / "images" / truth.name
        pixels = read_picture(path, truth.size)
        image = CocoImage(
            id=folder.next_image,
            file_name=name,
            width=pixels.shape[1],
            height=pixels.shape[0],
            source=truth.source or root.resolve().name,
        )
        rows = list(_rows(pixels, people, image, folder.next_annotation, teacher, plan))
        folder.put(path.read_bytes(), image, rows)


def label_clips(data: Path, folder: CocoFolder, teacher: PoseTeacher, plan: PosePlan) -> None:
    """Label the people of clips along their tracks, which `streamvis track-clips` has found."""
    clips = read_clips(data)
    check_there(data, clips)
    by_tracks: dict[Path, dict[int, Clip]] = defaultdict(dict)  # a video may have several clips
    videos: dict[str, Path] = {}
    for row, clip in enumerate(clips, 1):
        if clip.tracks is None:
            raise DataError(
                f"{data} lists whole frames of {clip.path.name}; expected people along tracks. "
                "Find them with: streamvis track-clips"
            )
        by_tracks[clip.tracks][row] = clip
        other = videos.setdefault(_name(clip), clip.path)
        if other.resolve() != clip.path.resolve():
            raise DataError(
                f"{data}: the pictures of {other} and {clip.path} would have the same names, "
                f"{_name(clip)}_…; expected other names of videos or directories: rename one"
            )
    for path, people in by_tracks.items():
        _label_clip(people, read_results(path, MOST_FRAMES), folder, teacher, plan)


def _label_clip(
    people: dict[int, Clip],
    tracks: Rows,
    folder: CocoFolder,
    teacher: PoseTeacher,
    plan: PosePlan,
) -> None:
    row_of_track = {clip.track: row for row, clip in people.items()}
    clip = next(iter(people.values()))
    with closing(open_source(resolve([str(clip.path)])[0])) as source:
        for picture in _in_turn(whole(source), plan.every):
            name = file_name(_name(clip), picture, timed=True)
            here = (tracks.frames == picture.n + 1) & np.isin(tracks.ids, list(row_of_track))
            if name in folder or not here.any():
                continue
            pixels = np.ascontiguousarray(picture.pixels)
            image = CocoImage(
                id=folder.next_image,
                file_name=name,
                width=pixels.shape[1],
                height=pixels.shape[0],
                source=clip.source,
                media_us=picture.media_us,
            )
            shown = [
                PersonToLabel(tracks.boxes[i], "predicted", row_of_track[int(tracks.ids[i])])
                for i in np.flatnonzero(here)
            ]
            rows = list(_rows(pixels, shown, image, folder.next_annotation, teacher, plan))
            folder.add(pixels, image, rows)


def _name(clip: Clip) -> str:
    """Return what the names of the pictures of a clip's video begin with."""
    return f"{clip.path.parent.name}_{clip.path.stem}"


def _in_turn(pictures: Iterable[Picture], every: float) -> Iterator[Picture]:
    turn = -1
    for picture in pictures:
        if (now := int(picture.media_us / 1e6 / every + 1e-6)) != turn:
            turn = now
            yield picture


def _people_of(truth: ImageTruth) -> Iterator[PersonToLabel]:
    for i, box in enumerate(truth.boxes):
        predicted = truth.predicted_boxes is not None and bool(truth.predicted_boxes[i])
        if predicted or not (truth.ignore[i] or truth.crowd[i]):
            yield PersonToLabel(box, "predicted" if predicted else "gt")


def _rows(
    pixels: Array,
    people: list[PersonToLabel],
    image: CocoImage,
    first_id: int,
    teacher: PoseTeacher,
    plan: PosePlan,
) -> Iterator[CocoAnnotation]:
    ids = count(first_id)
    for person in people:
        if (person.box[2:] - person.box[:2]).max() >= plan.least_px:
            pose = teach(teacher, pixels, person.box)
            row = row_of(person.box, [], image, next(ids), box_label=person.box_label)
            yield with_keypoints(row, pose, person.track, plan)


def with_keypoints(
    row: CocoAnnotation, pose: TaughtPose, track: int | None, plan: PosePlan
) -> CocoAnnotation:
    """Return the row of a person with the keypoints; those outside of the box are not sure."""
    low = np.array(row.bbox[:2])
    high = low + row.bbox[2:]
    edge = OUTSIDE * max(row.bbox[2:])
    inside = ((pose.points >= low - edge) & (pose.points <= high + edge)).all(axis=1)
    scores = np.where(inside, pose.scores, 0.0)
    sure = scores >= plan.sure
    points = np.column_stack([pose.points, np.where(sure, 2, 0)]) * sure[:, None]
    known = {} if track is None else {"track": track}
    return msgspec.structs.replace(
        row,
        score=round(pose.presence, 4),
        keypoints=points.round(2).ravel().tolist(),
        num_keypoints=int(sure.sum()),
        point_scores=scores.round(3).tolist(),
        world=pose.world.round(3).ravel().tolist(),
        presence=round(pose.presence, 4),
        **known,
    )
