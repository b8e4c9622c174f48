"""`streamvis eval mot`: the tracker on MOTChallenge sequences."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamvis.cli.options import (
    LOOKS,
    NO_VIDEO,
    Camera,
    Data,
    DetectorWeights,
    Json,
    Looks,
    Scores,
    ScoreScale,
    TrackerSettings,
)
from streamvis.cli.output import (
    check_writable,
    put_json,
    put_table,
    reported_errors,
    say,
    write_png,
)

if TYPE_CHECKING:
    from streamvis.datasets.motchallenge import Sequence as MotSequence
    from streamvis.evaluation.mot import Space
    from streamvis.runners.tracking import TrackingResult

SHOWN = ("hota", "mota", "idf1", "deta", "assa", "motp", "idsw", "frag", "mt", "ml", "fp", "fn")


class DetectionSource(StrEnum):
    """Whose detections are tracked."""

    own = "own"
    public = "public"


class MatchSpace(StrEnum):
    """Where tracks are matched with people."""

    image = "image"
    ground = "ground"


def mot(
    data: Data,
    detections: Annotated[
        DetectionSource, typer.Option(help="Our detector, or det/det.txt.")
    ] = DetectionSource.own,
    space: Annotated[
        MatchSpace, typer.Option(help="ground: matched within 1 m on the ground as well.")
    ] = MatchSpace.image,
    weights: DetectorWeights = "person-lite",
    looks: Looks = LOOKS,
    camera: Camera = True,
    scores: Scores = ScoreScale.auto,
    set_: TrackerSettings = None,
    out: Annotated[Path | None, typer.Option(help="Write each sequence's tracks here.")] = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Write which track was on whom over time, PNG.")
    ] = None,
    switches: Annotated[Path | None, typer.Option(help="Write the id switches, PNG.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace tracks that --out holds already.")
    ] = False,
    json: Json = False,
) -> None:
    """Score the tracker by TrackEval: HOTA, MOTA, IDF1 and their parts; Hz of the tracker alone.

    Appearance embeddings and the camera's motion are measured where there are pictures.
    """
    with reported_errors():
        from streamvis.cli.settings import configure
        from streamvis.config import Jipda
        from streamvis.datasets import motchallenge
        from streamvis.runners import tracking
        from streamvis.runners.tracker_inputs import cues_for
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        for path in filter(None, (timeline, switches)):
            check_writable(path)
        config = configure(Jipda, {"space": "auto"}, set_ or [])
        sequences = [one for path in data for one in motchallenge.read_sequences(path)]
        public = detections is DetectionSource.public
        tracking.check_sequences(sequences, public, pictures=switches is not None)
        written = _result_paths(out, sequences, overwrite=overwrite) if out else {}
        cues = [cues_for(looks, camera, sequence.video, config) for sequence in sequences]
        results = []
        for sequence, has in zip(sequences, cues, strict=True):
            say(f"{sequence.name}: {sequence.length} frames{'' if sequence.video else NO_VIDEO}")
            if public:
                calibrate = scores is ScoreScale.calibrate
                result = tracking.track_public(sequence, config, has, calibrate=calibrate)
            else:
                result = tracking.track_detected(sequence, config, weights, has)
            if result.note:
                say(result.note)
            if out:
                motchallenge.write_results(written[sequence.name], result.run.rows)
            results.append(result)
        _put_results(results, space.value, timeline, switches, json=json)


def _put_results(
    results: "Sequence[TrackingResult]",
    space: "Space",
    timeline: Path | None,
    switches: Path | None,
    *,
    json: bool,
) -> None:
    """Score the tracks, draw them where asked for, and print the scores."""
    from streamvis.runners.tracking import report

    for one in results:
        if space == "ground" and not one.on_ground:
            say(
                f"{one.sequence.name}: no world coordinates in its truth; not matched on the ground"
            )
    rows = report(results, space)
    if timeline or switches:
        _draw(results, space, timeline, switches)
    if json:
        put_json(rows)
    else:
        _put_tables(rows)


def _draw(
    results: "Sequence[TrackingResult]",
    space: "Space",
    timeline: Path | None,
    switches: Path | None,
) -> None:
    from streamvis.runners.sheets.tracking import switch_sheet, timeline_panels
    from streamvis.viz.sheets import timeline as sheet

    traces = [result.trace(space) for result in results]
    if timeline:
        sheet.timeline(timeline, timeline_panels(results, traces))
        say(f"wrote {timeline}")
    if switches:
        write_png(switches, switch_sheet(results, traces))


def _result_paths(
    out: Path, sequences: "Sequence[MotSequence]", *, overwrite: bool
) -> dict[str, Path]:
    """Return each sequence's file of tracks by name; UsageError where it cannot be written."""
    from streamvis.errors import UsageError

    paths = {one.name: out / f"{one.name}.txt" for one in sequences}
    for name, path in paths.items():
        if path.parent != out:
            raise UsageError(
                f"--out: the sequence is called {name}, which cannot be the name of a file"
            )
        check_writable(path)
        if path.exists() and not overwrite:
            raise UsageError(
                f"{path} exists already; choose another --out, or replace it with --overwrite"
            )
    return paths


def _put_tables(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the scores as tables."""
    table = [[row["name"], *(row[key] for key in SHOWN), round(row["hz"])] for row in rows]
    put_table("", ("name", *SHOWN, "hz"), table)
    ground = [(row["name"], row["ground"]) for row in rows if row.get("ground")]
    if ground:
        table = [[name, *(one[key] for key in SHOWN)] for name, one in ground]
        put_table("On the ground: matched within 1 m", ("name", *SHOWN), table)
