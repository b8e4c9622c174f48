"""`streamvis eval zones`: counts, dwell and occupancy of zones and lines."""

from typing import Annotated

from typer import Option

from streamvis.cli import options
from streamvis.cli.output import begin, put_result, say


def zones(
    data: options.Data,
    public: Annotated[
        bool | None,
        Option("--public/--own", help="Only det/det.txt, or only our detector; default: both."),
    ] = None,
    count: Annotated[
        int, Option(min=1, max=1000, help="Zones, and lines, of a sequence and seed.")
    ] = 20,
    seeds: Annotated[int, Option(min=1, max=1000, help="How often they are drawn.")] = 5,
    seed: Annotated[int, Option(min=0, help="The first seed.")] = 0,
    peers: Annotated[bool, Option(help="Also supervision on SORT and ByteTrack.")] = True,
    weights: options.DetectorWeights = "person-lite",
    looks: options.Looks = options.LOOKS,
    camera: options.Camera = True,
    set_: options.TrackerSettings = None,
    json: options.Json = False,
) -> None:
    """Score zones and lines, drawn at random where people walk, by ground-truth tracks.

    Counts of crossings and visits, dwell times, events within 0.5 s and the calibration of
    occupancy: ours, and those of supervision on the tracks of SORT and ByteTrack, from the same
    detections.
    """
    from streamvis.benchmarks import zone_accuracy
    from streamvis.config import Jipda
    from streamvis.datasets import motchallenge
    from streamvis.runners import tracking, zone_counts
    from streamvis.runners.settings import configure
    from streamvis.runners.tracker_inputs import cues_for

    begin()
    config = configure(Jipda, {"space": "auto"}, set_ or [])
    sequences = [one for path in data for one in motchallenge.read_sequences(path)]
    tracking.check_sequences(sequences, public is not False, pictures=False)
    if peers and (install := zone_accuracy.missing_peers()):
        say(f"without supervision on SORT and ByteTrack, which are not installed: {install}")
    results = []
    for sequence in sequences:
        cues = cues_for(looks, camera, sequence.video, config)
        layouts = zone_accuracy.layouts_of(sequence, count, range(seed, seed + seeds))
        kinds = {"public": public is not False, "own": public is not True}
        if public is None:
            kinds["public"] = sequence.detections is not None
            kinds["own"] = sequence.video is not None
        for kind in (name for name, wanted in kinds.items() if wanted):
            say(f"{sequence.name}: {sequence.length} frames, {kind} detections")
            frames = zone_counts.inputs_of(
                sequence, cues, weights=weights if kind == "own" else None
            )
            results += zone_accuracy.measure(
                sequence, kind, frames, config, layouts, with_peers=peers
            )
    results = zone_accuracy.with_totals(results)
    put_result(zone_accuracy.report(results), zone_accuracy.tables(results), json=json)
