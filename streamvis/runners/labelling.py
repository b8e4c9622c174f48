"""Labels the people of footage with a detector, source by source, into a COCO folder."""

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

import streamvis
from streamvis.config import MaskRcnn
from streamvis.errors import SourceError
from streamvis.models.weights import find
from streamvis.runners.detectors import open_detector
from streamvis.runners.tables import Table
from streamvis.sources import SourceSpec
from streamvis.sources.credentials import redacted
from streamvis.training.detector.annotation import LabelPlan
from streamvis.training.detector.auto_label import Detect, label_source
from streamvis.training.detector.coco_folder import CocoFolder, LabelOrigin, SourceCount
from streamvis.training.detector.ensemble import Ensemble
from streamvis.training.detector.pose_teacher import PoseTeacher
from streamvis.training.detector.relabel import Changes, changes_of, relabel_folder

WEAKEST = 0.05  # least score of a detection that counts for an average


class Labellers(NamedTuple):
    """Who labels, and which labelled folders again."""

    weights: tuple[str, ...]  # of the detectors
    mask_teacher: Path | None = None
    folders: tuple[Path, ...] = ()

    @property
    def fuse(self) -> bool:
        """Whether each picture is looked at in several views."""
        return len(self.weights) > 1 or self.mask_teacher is not None or bool(self.folders)

    def open(self, plan: LabelPlan, device: str) -> Detect:
        """Return one detector, or an ensemble of all."""
        if not self.fuse:
            config = MaskRcnn(weights=self.weights[0], min_score=plan.unsure, masks=plan.masks)
            return open_detector(config, device)
        teacher = PoseTeacher(self.mask_teacher) if self.mask_teacher and plan.masks else None
        configs = [MaskRcnn(weights=w, min_score=WEAKEST, masks=False) for w in self.weights]
        return Ensemble([open_detector(config, device) for config in configs], teacher)


def origin_of(
    videos: Sequence[str], specs: Sequence[SourceSpec], who: Labellers, plan: LabelPlan
) -> LabelOrigin:
    """Record where labels come from: the command, its sources and the weights."""
    words = ["streamvis", "label", *map(redacted, videos)]
    for option, values in (("--relabel", who.folders), ("--weights", who.weights)):
        words += [word for value in values for word in (option, str(value))]
    words += ["--mask-teacher", str(who.mask_teacher)] if who.mask_teacher else []
    files = [find(name) for name in who.weights] + ([who.mask_teacher] if who.mask_teacher else [])
    return LabelOrigin(
        command=shlex.join([*words, *plan.options]),
        sources={spec.id: spec.label for spec in specs},
        weights_sha256="+".join(sha256(path.read_bytes()).hexdigest() for path in files),
        streamvis=streamvis.__version__,
        date_created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def relabel_all(
    who: Labellers, folder: CocoFolder, ensemble: Detect, plan: LabelPlan
) -> list[Changes]:
    """Label all folders again, and save; return how their labels have changed."""
    if isinstance(ensemble, Ensemble):
        try:
            for root in who.folders:
                relabel_folder(root, folder, ensemble, plan)
        finally:
            folder.save()
    return [changes_of(root, folder) for root in who.folders]


def label_all(
    specs: Sequence[SourceSpec],
    folder: CocoFolder,
    detect: Detect,
    plan: LabelPlan,
    on_failure: Callable[[SourceError], None],
) -> int:
    """Label source after source, and save; return how many could not be read."""
    limit = -(-plan.most // len(specs)) if plan.most and specs else None
    failed = 0
    try:
        for spec in specs:
            try:
                label_source(spec, folder, detect, plan, limit)
            except SourceError as error:  # the others go on without it
                failed += 1
                on_failure(error)
    finally:
        folder.save()
    return failed


def tables(counts: Sequence[SourceCount], changes: Sequence[Changes]) -> list[Table]:
    """Return the numbers of pictures and people of each source, and what has changed in folders."""
    rows = [(c.source, c.pictures, c.people, c.in_doubt) for c in counts]
    found = [Table("", ("source", "pictures", "people", "in doubt"), rows)]
    if changes:
        columns = ("folder", *(name.replace("_", " ") for name in Changes.__struct_fields__[1:]))
        found.append(Table("", columns, [msgspec.structs.astuple(one) for one in changes]))
    return found
