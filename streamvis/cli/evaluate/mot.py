"""`streamvis eval mot`: the tracker on MOTChallenge sequences."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

from streamvis.cli import options
from streamvis.cli.output import begin, check_writable, put_result, say, write_png


class DetectionSource(StrEnum):
    """Whose detections are tracked."""

    own = "own"
    public = "public"


class MatchSpace(StrEnum):
    """Where tracks are matched with people."""

    image = "image"
    ground = "ground"


def mot(
    data: options.Data,
    detections: Annotated[
        DetectionSource, Option(help="Our detector, or det/det.txt.")
    ] = DetectionSource.own,
    space: Annotated[
        MatchSpace, Option(help="ground: matched within 1 m on the ground as well.")
    ] = MatchSpace.image,
    weights: options.DetectorWeights = "person-lite",
    looks: options.Looks = options.LOOKS,
    camera: options.Camera = True,
    scores: options.Scores = options.ScoreScale.auto,
    set_: options.TrackerSettings = None,
    out: Annotated[Path | None, Option(help="Write each sequence's tracks here.")] = None,
    timeline: Annotated[
        Path | None, Option(help="Write which track was on whom over time, PNG.")
    ] = None,
    switches: Annotated[Path | None, Option(help="Write the id switches, PNG.")] = None,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace tracks that --out holds already.")
    ] = False,
    consistency: Annotated[
        bool,
        Option("--consistency", help="Compare covariances and probabilities with the errors too."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Score the tracker by TrackEval: HOTA, MOTA, IDF1 and their parts; Hz of the tracker alone.

    Appearance embeddings and the camera's motion are measured where there are pictures.
    """
    from streamvis.config import Jipda
    from streamvis.datasets import motchallenge
    from streamvis.runners import consistency as agreement
    from streamvis.runners import tracking
    from streamvis.runners.settings import configure
    from streamvis.runners.sheets.tracking import switch_sheet, timeline_panels
    from streamvis.runners.tracker_inputs import cues_for
    from streamvis.viz.sheets.timeline import timeline as draw_timeline

    begin(timeline, switches)
    config = configure(Jipda, {"space": "auto"}, set_ or [])
    sequences = [one for path in data for one in motchallenge.read_sequences(path)]
    public = detections is DetectionSource.public
    tracking.check_sequences(sequences, public, pictures=switches is not None)
    written = tracking.result_paths(out, sequences, overwrite=overwrite) if out else {}
    for path in written.values():
        check_writable(path)
    cues = [cues_for(looks, camera, sequence.video, config) for sequence in sequences]
    results = []
    for sequence, has in zip(sequences, cues, strict=True):
        say(
            f"{sequence.name}: {sequence.length} frames{'' if sequence.video else options.NO_VIDEO}"
        )
        if public:
            calibrate = scores is options.ScoreScale.calibrate
            result = tracking.track_public(sequence, config, has, calibrate=calibrate)
        else:
            result = tracking.track_detected(sequence, config, weights, has)
        if result.note:
            say(result.note)
        if out:
            motchallenge.write_results(written[sequence.name], result.run.rows)
        results.append(result)
    for one in results:
        if space is MatchSpace.ground and not one.on_ground:
            say(
                f"{one.sequence.name}: no world coordinates in its truth; not matched on the ground"
            )
    rows = tracking.report(results, space.value)
    traces = [one.trace(space.value) for one in results] if timeline or switches else []
    if timeline:
        draw_timeline(timeline, timeline_panels(results, traces))
        say(f"wrote {timeline}")
    if switches:
        write_png(switches, switch_sheet(results, traces))
    measured = agreement.measure(results, config) if consistency else {}
    for row in rows:
        if row["name"] in measured:
            row["consistency"] = agreement.as_json(measured[row["name"]])
    text = [*tracking.tables(rows), *(agreement.tables(measured) if measured else [])]
    put_result(rows, text, json=json)
