"""Labels the keypoints of people in labelled folders and along tracks, into a COCO folder."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

import streamvis
from streamvis.errors import UsageError
from streamvis.runners.tables import Table
from streamvis.training.detector.coco_folder import CocoFolder, LabelOrigin, open_folder
from streamvis.training.detector.pose_teacher import PoseTeacher
from streamvis.training.pose.label_poses import PosePlan, label_clips, label_folder

DESCRIPTION = (
    "keypoints found by streamvis label-poses, not checked by anyone; v is 2 where a point is sure"
)


class PoseCount(msgspec.Struct):
    """The numbers of pictures, people and sure keypoints of one source."""

    source: str
    pictures: int = 0
    people: int = 0
    whole: int = 0  # people of whom at least 13 points are sure
    points: int = 0  # that are sure


WHOLE = 13


def open_labels(
    data: Sequence[Path], out: Path, teacher: Path, plan: PosePlan, *, overwrite: bool
) -> CocoFolder:
    """Open the folder for labels of `data`, new or begun by the same command."""
    names = [folder.resolve().name for folder in data]
    if len(set(names)) < len(names):
        raise UsageError(
            f"two folders have one name in {', '.join(names)}; expected different ones: rename one"
        )
    words = ["streamvis", "label-poses", *map(str, data), "--teacher", str(teacher)]
    words += ["--sure", f"{plan.sure:g}", "--least-px", f"{plan.least_px:g}"]
    origin = LabelOrigin(
        description=DESCRIPTION,
        command=shlex.join([*words, "--every", f"{plan.every:g}"]),
        sources={name: str(folder) for name, folder in zip(names, data, strict=True)},
        weights_sha256=sha256(teacher.read_bytes()).hexdigest(),
        streamvis=streamvis.__version__,
        date_created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return open_folder(out, origin, read=data, overwrite=overwrite)


def label_poses(
    data: Sequence[Path], folder: CocoFolder, teacher: PoseTeacher, plan: PosePlan
) -> list[PoseCount]:
    """Label all of `data`, and save."""
    try:
        for one in data:
            label = label_folder if (one / "annotations.json").is_file() else label_clips
            label(one, folder, teacher, plan)
    finally:
        folder.save()
    return _counts(folder)


def _counts(folder: CocoFolder) -> list[PoseCount]:
    counts: dict[str, PoseCount] = {}
    by_image = {}
    for image in folder.labels.images:
        by_image[image.id] = counts.setdefault(image.source, PoseCount(image.source))
        by_image[image.id].pictures += 1
    for row in folder.labels.annotations:
        count = by_image[row.image_id]
        count.people += 1
        if isinstance(row.num_keypoints, int):
            count.points += row.num_keypoints
            count.whole += row.num_keypoints >= WHOLE
    return list(counts.values())


def tables(counts: Sequence[PoseCount]) -> list[Table]:
    """Return the counts of each source."""
    rows = [msgspec.structs.astuple(count) for count in counts]
    return [Table("", ("source", "pictures", "people", "whole", "sure points"), rows)]
