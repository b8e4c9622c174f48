"""`streamvis label`: people found in footage, as data to correct and to train on."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import Device, Json
from streamvis.cli.output import PARTIAL, put_json, put_table, reported_errors, say

if TYPE_CHECKING:
    from streamvis.sources import SourceSpec
    from streamvis.training.detector.annotation import LabelPlan
    from streamvis.training.detector.auto_label import Detect
    from streamvis.training.detector.coco_folder import CocoFolder, LabelOrigin, SourceCount

# what person-lite's scores mean on PETS09-S2L1, TUD-Campus and Penn-Fudan
SURE = 0.85  # nine detections in ten above it are right
UNSURE = 0.3  # below it not one in twenty is somebody


def label(
    videos: Annotated[
        list[str], typer.Argument(help="Path, glob, directory or synthetic:; id=… names it.")
    ],
    out: Annotated[Path, typer.Option(help="Where annotations.json and images/ go.")],
    weights: Annotated[
        str, typer.Option(help="Who labels: a shipped name, a path, or a YOLOX .onnx.")
    ] = "person-lite",
    every: Annotated[
        float, typer.Option(min=0.001, help="Seconds from one picture to the next.")
    ] = 1.0,
    most: Annotated[
        int | None, typer.Option(min=1, help="Pictures in all; each source has its share.")
    ] = None,
    sure: Annotated[
        float, typer.Option(min=0, max=1, help="Score from which a detection is a person.")
    ] = SURE,
    unsure: Annotated[
        float, typer.Option(min=0, max=1, help="Score from which it is a region to ignore.")
    ] = UNSURE,
    masks: Annotated[bool, typer.Option(help="Outlines too, not only boxes.")] = True,
    device: Device = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, even over labels somebody corrected.")
    ] = False,
    json: Json = False,
) -> None:
    """Label footage in COCO layout; run the same command again to go on where it stopped."""
    with reported_errors():
        from streamvis.config import MaskRcnn
        from streamvis.errors import SourceError
        from streamvis.runners.detectors import open_detector
        from streamvis.runtime.output import make_directory
        from streamvis.runtime.processes import keep_memory
        from streamvis.sources import resolve
        from streamvis.training.detector.annotation import LabelPlan
        from streamvis.training.detector.coco_folder import open_folder

        plan = LabelPlan(every=every, most=most, sure=sure, unsure=unsure, masks=masks)
        specs = resolve(videos)
        origin = _origin(videos, specs, weights, plan)
        make_directory(out)
        keep_memory()
        detect = open_detector(MaskRcnn(weights=weights, min_score=unsure, masks=masks), device)
        folder = open_folder(out, origin, overwrite=overwrite)  # last: it may empty what is there
        try:
            failed = _label_all(specs, folder, detect, plan)
        finally:
            folder.save()
        if json:
            put_json(folder.counts())
        else:
            _put(folder.counts())
        if failed:
            raise typer.Exit(PARTIAL if failed < len(specs) else SourceError.exit_code)


def _origin(
    videos: list[str], specs: "list[SourceSpec]", weights: str, plan: "LabelPlan"
) -> "LabelOrigin":
    from datetime import UTC, datetime
    from hashlib import sha256

    import streamvis
    from streamvis.models.weights import find
    from streamvis.sources.credentials import redacted
    from streamvis.training.detector.coco_folder import LabelOrigin

    words = ["streamvis", "label", *map(redacted, videos), "--weights", weights, *plan.options]
    return LabelOrigin(
        command=shlex.join(words),
        sources={spec.id: spec.label for spec in specs},
        weights_sha256=sha256(find(weights).read_bytes()).hexdigest(),
        streamvis=streamvis.__version__,
        date_created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _label_all(
    specs: "list[SourceSpec]", folder: "CocoFolder", detect: "Detect", plan: "LabelPlan"
) -> int:
    """Label source after source; how many could not be read comes back."""
    from streamvis.errors import SourceError
    from streamvis.training.detector.auto_label import label_source

    limit = -(-plan.most // len(specs)) if plan.most else None
    failed = 0
    for spec in specs:
        try:
            label_source(spec, folder, detect, plan, limit)
        except SourceError as error:  # the others go on without it
            failed += 1
            say(f"streamvis: {error}")
    return failed


def _put(counts: "list[SourceCount]") -> None:
    rows = [(c.source, c.pictures, c.people, c.in_doubt) for c in counts]
    put_table("", ("source", "pictures", "people", "in doubt"), rows)
