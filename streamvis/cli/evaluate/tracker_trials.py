"""`streamvis eval tracker-trials`: the tracker on many sequences, with standard errors."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli import options
from streamvis.cli.output import begin, put_result, say
from streamvis.cli.progress import progress


class ChosenBy(StrEnum):
    """The score by which candidates are chosen."""

    idf1 = "idf1"
    mota = "mota"
    hota = "hota"
    idsw = "idsw"


def tracker_trials(
    data: Annotated[
        list[Path] | None,
        Argument(help="MOTChallenge sequences, or folders of them; beside simulated scenes."),
    ] = None,
    scenes: Annotated[bool, Option(help="Also the simulated scenes.")] = True,
    only: Annotated[
        list[str] | None, Option(help="Only groups or sequences with this in the name; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        Option("--set", help="key=value to compare: memory_s=1, tracker.acceleration=0.3."),
    ] = None,
    candidate: Annotated[
        list[str] | None,
        Option(help="'key=value …' to choose among, leaving each sequence out once; repeatable."),
    ] = None,
    by: Annotated[ChosenBy, Option(help="The score that chooses.")] = ChosenBy.idf1,
    against: Annotated[
        Path | None, Option(help="Compare with an earlier --json instead of today's settings.")
    ] = None,
    not_deciding: Annotated[
        list[str] | None,
        Option(help="Sequences that choose nothing, for networks learnt from them; repeatable."),
    ] = None,
    copies: Annotated[int, Option(min=1, help="Thinned copies of each sequence.")] = 5,
    drop: Annotated[
        float, Option(min=0, max=0.9, help="Share of the detections that a copy lacks.")
    ] = 0.06,
    seed: Annotated[int, Option(min=0, help="Of the copies.")] = 0,
    weights: options.DetectorWeights = "person-lite",
    looks: Annotated[str, Option(help="Weights of the embedder.")] = options.LOOKS,
    cache: Annotated[
        Path | None,
        Option(help="Where to keep what networks find; default: ~/.cache/streamvis/trials."),
    ] = None,
    jobs: Annotated[int, Option(min=1, help="Processes.")] = 1,
    cells: Annotated[bool, Option("--cells", help="Also each sequence by itself.")] = False,
    json: options.Json = False,
) -> None:
    """Score the tracker on thinned copies of sequences and simulated scenes; compare settings.

    Differences are paired, trial by trial, and have their standard errors (docs/tracker-trials.md).
    """
    from streamvis.datasets import motchallenge
    from streamvis.runners.tracker_trials import report as reports
    from streamvis.runners.tracker_trials.constants import settings_of
    from streamvis.runners.tracker_trials.inputs import TrialNetworks, gather
    from streamvis.runners.tracker_trials.trials import Thinning, run

    begin()
    thinning = Thinning(copies=copies, drop=drop, seed=seed)
    known = reports.read_scores(against, thinning) if against else None
    settings = settings_of(set_ or [], candidate or [], alone=known is not None)
    sequences = [one for path in data or [] for one in motchallenge.read_sequences(path)]
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    unable = not_deciding or ["MOT16-11"]
    inputs = gather(
        sequences,
        TrialNetworks(weights, looks),
        cache or home / "streamvis/trials",
        learnt=unable,
        scenes=scenes,
        only=only or [],
    )
    say(f"{len(inputs)} inputs, {len(settings)} settings, {copies} copies")
    found = run(inputs, settings, thinning, jobs=jobs, progress=progress)
    scores = [(str(one), own) for one, own in zip(settings, found, strict=True)]
    result = reports.report(thinning, [known, *scores] if known else scores, by.value, unable)
    put_result(result, reports.tables(result, cells=cells), json=json)
