"""Labels the people of footage with a detector, source by source, into a COCO folder."""

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256

import streamvis
from streamvis.errors import SourceError
from streamvis.models.weights import find
from streamvis.runners.tables import Table
from streamvis.sources import SourceSpec
from streamvis.sources.credentials import redacted
from streamvis.training.detector.annotation import LabelPlan
from streamvis.training.detector.auto_label import Detect, label_source
from streamvis.training.detector.coco_folder import CocoFolder, LabelOrigin, SourceCount


def origin_of(
    videos: Sequence[str], specs: Sequence[SourceSpec], weights: str, plan: LabelPlan
) -> LabelOrigin:
    """Record where labels come from: the command, its sources and the weights."""
    words = ["streamvis", "label", *map(redacted, videos), "--weights", weights, *plan.options]
    return LabelOrigin(
        command=shlex.join(words),
        sources={spec.id: spec.label for spec in specs},
        weights_sha256=sha256(find(weights).read_bytes()).hexdigest(),
        streamvis=streamvis.__version__,
        date_created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def label_all(
    specs: Sequence[SourceSpec],
    folder: CocoFolder,
    detect: Detect,
    plan: LabelPlan,
    on_failure: Callable[[SourceError], None],
) -> int:
    """Label source after source, and save; return how many could not be read."""
    limit = -(-plan.most // len(specs)) if plan.most else None
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


def table(counts: Sequence[SourceCount]) -> Table:
    """Return the numbers of pictures and people of each source."""
    rows = [(c.source, c.pictures, c.people, c.in_doubt) for c in counts]
    return Table("", ("source", "pictures", "people", "in doubt"), rows)
