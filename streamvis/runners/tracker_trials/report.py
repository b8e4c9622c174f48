"""Reports of trials: tables of means and paired differences, and the file to compare with later."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from streamvis.errors import DataError, UsageError
from streamvis.evaluation.trials import (
    METRICS,
    HeldOutChoice,
    MeanError,
    Metric,
    TrialScore,
    TrialSummary,
    by_cell,
    by_group,
    differences,
    leave_one_out,
)
from streamvis.runners.tables import Table
from streamvis.runners.tracker_trials.inputs import BOXES, EMBEDDINGS, LEARNT, RECORDED
from streamvis.runners.tracker_trials.trials import Thinning

ALL = "all simulated scenes"


class PairedChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a setting changes, trial by trial, against the first one."""

    groups: list[TrialSummary]
    cells: list[TrialSummary]
    unpaired: int  # trials that only one of the two has


class SettingResult(msgspec.Struct, frozen=True, kw_only=True):
    """All trials of one setting, and their summaries."""

    setting: str
    scores: list[TrialScore]
    groups: list[TrialSummary]
    cells: list[TrialSummary]
    by_embeddings: list[TrialSummary]  # of groups: with embeddings, minus without
    change: PairedChange | None = None  # None: this is the first one


class TrialReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of settings on the same copies of the same inputs."""

    thinning: Thinning
    results: list[SettingResult]
    choice: HeldOutChoice | None = None


def report(
    thinning: Thinning,
    scores: Sequence[tuple[str, list[TrialScore]]],
    metric: Metric = "idf1",
    not_deciding: Sequence[str] = (),
) -> TrialReport:
    """Summarise the scores of settings, each by its name; the first is what others change."""
    first = scores[0][1]
    results = [
        SettingResult(
            setting=name,
            scores=own,
            groups=_groups(own),
            cells=by_cell(own),
            by_embeddings=_groups(by_embeddings(own)),
            change=_change(first, own) if i else None,
        )
        for i, (name, own) in enumerate(scores)
    ]
    choice = leave_one_out(dict(scores), metric, not_deciding) if len(scores) > 2 else None
    return TrialReport(thinning=thinning, results=results, choice=choice)


def by_embeddings(scores: Sequence[TrialScore]) -> list[TrialScore]:
    """Return what embeddings change in each trial, against the same copy without them."""

    def of(kind: str) -> list[TrialScore]:
        return [
            msgspec.structs.replace(one, inputs=one.inputs.removesuffix(f", {kind}"))
            for one in scores
            if one.inputs.endswith(f", {kind}")
        ]

    return differences(of(BOXES), of(EMBEDDINGS))[0]


def read_scores(path: Path, thinning: Thinning) -> tuple[str, list[TrialScore]]:
    """Read the first setting of a report in JSON; errors where its copies are other ones."""
    try:
        read = msgspec.json.decode(path.read_bytes(), type=TrialReport)
    except OSError as error:
        raise UsageError(f"--against {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no report of trials ({error}); write one with: "
            f"streamvis eval tracker-trials --json > {path}"
        ) from None
    if read.thinning != thinning or not read.results:
        was, now = read.thinning, thinning
        raise UsageError(
            f"--against {path}: its trials are of {was.copies} copies, {was.drop:g} dropped, seed "
            f"{was.seed}; these of {now.copies}, {now.drop:g}, {now.seed}. Give the same "
            "--copies, --drop and --seed"
        )
    return path.name, read.results[0].scores


def tables(read: TrialReport, *, cells: bool) -> Iterator[Table | str]:
    """Yield the first setting's scores, what the others change, and the choice among them."""
    first, *others = read.results
    yield _table(f"{first.setting}: groups", first.groups)
    if cells:
        yield _table(f"{first.setting}: sequences", first.cells)
    yield _table(f"{first.setting}: with embeddings, minus without", first.by_embeddings)
    for one in others:
        assert one.change is not None  # only the first has none
        yield _table(f"{one.setting}, minus {first.setting}: groups", one.change.groups)
        if cells:
            yield _table(f"{one.setting}, minus {first.setting}: sequences", one.change.cells)
        yield _table(f"{one.setting}: with embeddings, minus without", one.by_embeddings)
        if one.change.unpaired:
            yield f"{one.change.unpaired} trials are of only one of the two, and left out"
    if read.choice:
        yield from _choice(read.choice)
    elif len(others) > 1:
        yield "no choice: it takes two sequences that may decide; give more DATA or scenes"


def _choice(choice: HeldOutChoice) -> Iterator[Table | str]:
    folds = list(choice.folds.values())
    rows = [[name, mean, folds.count(name)] for name, mean in choice.means.items()]
    yield Table(
        f"Choice by {choice.metric}, each sequence left out once",
        ("candidate", f"mean {choice.metric}", "folds that choose it"),
        rows,
    )
    yield (
        f"chosen on all: {choice.chosen}; on the sequences left out, the folds' choices gain "
        f"{_text(choice.gain, choice.metric)} over the first"
    )


def _change(first: list[TrialScore], own: list[TrialScore]) -> PairedChange:
    changed, unpaired = differences(first, own)
    return PairedChange(groups=_groups(changed), cells=by_cell(changed), unpaired=unpaired)


def _groups(scores: list[TrialScore]) -> list[TrialSummary]:
    """Summarise by group, and all simulated scenes together."""
    simulated = [one for one in scores if one.group not in (RECORDED, LEARNT)]
    together = [msgspec.structs.replace(one, group=ALL) for one in simulated]
    return by_group(scores) + by_group(together)


def _table(title: str, summaries: Iterable[TrialSummary]) -> Table:
    rows = [
        [one.name, one.inputs, one.idf1.n, *(_text(getattr(one, m), m) for m in METRICS)]
        for one in summaries
    ]
    return Table(title, ("name", "inputs", "n", *METRICS), rows)


def _text(value: MeanError, metric: Metric) -> str:
    digits = 1 if metric == "idsw" else 3
    error = "" if value.error is None else f" ± {value.error:.{digits}f}"
    return f"{value.mean:.{digits}f}{error}"
