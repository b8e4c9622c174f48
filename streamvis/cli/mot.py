"""What `streamvis eval mot` does: sequences followed, scored side by side, and drawn."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamvis.cli.detection import check_writable
from streamvis.cli.output import put_table, say
from streamvis.cli.track import Followed, Scores, follow, public, source_of
from streamvis.datasets import motchallenge
from streamvis.errors import DataError, UsageError
from streamvis.evaluation import identities
from streamvis.evaluation.identities import Switch, Trace
from streamvis.evaluation.mot import Space, evaluate_all
from streamvis.messages import Array

if TYPE_CHECKING:
    from streamvis.cli.pictures import Aids
    from streamvis.config import Jipda
    from streamvis.viz.sheets.switches import Moment, Pair

SHOWN = ("hota", "mota", "idf1", "deta", "assa", "motp", "idsw", "frag", "mt", "ml", "fp", "fn")
MOST_SWITCHES = 60  # on one page


@dataclass(frozen=True)
class Outcome:
    """A sequence and what a tracker made of it."""

    sequence: motchallenge.Sequence
    followed: Followed
    aids: "Aids"

    def trace(self, space: Space) -> Trace:
        """Who followed whom; in the image where the truth has no place on the ground."""
        on = space if _placed(self.sequence) else "image"
        return identities.follow(self.sequence, self.followed.rows, on)


def check(sequences: Sequence[motchallenge.Sequence], public: bool, pictures: bool) -> None:
    """Learn before an hour's work that a sequence cannot be scored, or drawn from its pictures."""
    for one in sequences:
        if one.truth is None:
            raise DataError(f"{one.folder} has no gt/gt.txt; it cannot be scored")
        if not one.truth.counting:
            raise DataError(
                f"{one.folder / 'gt/gt.txt'} has nobody to follow: of its {len(one.truth)} boxes "
                "none is of a pedestrian who is to be scored"
            )
        if one.video is None and (pictures or not public):
            way_out = (
                "leave out --switches" if public else "follow its det/det.txt: --detections public"
            )
            raise DataError(
                f"{one.folder} has neither the video that seqinfo.ini names nor img1/; {way_out}"
            )
    names = [one.name for one in sequences]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two sequences are called {name}; give each one once")


def results(
    out: Path, sequences: Sequence[motchallenge.Sequence], *, overwrite: bool
) -> dict[str, Path]:
    """Where each sequence's tracks are to be written, by name; UsageError where they cannot be."""
    paths = {one.name: out / f"{one.name}.txt" for one in sequences}
    for name, path in paths.items():
        if path.parent != out:
            raise UsageError(f"--out: the sequence is called {name}, which is no name of a file")
        check_writable(path)
        if path.exists() and not overwrite:
            raise UsageError(
                f"{path} is there, of another run; choose another --out, or replace it with "
                "--overwrite"
            )
    return paths


def follow_public(
    sequence: motchallenge.Sequence, config: "Jipda", scores: Scores, aids: "Aids"
) -> Outcome:
    """Follow the people of det/det.txt, and look at them in the pictures."""
    from streamvis.cli import pictures

    if sequence.detections is None:
        raise DataError(f"{sequence.folder} has no det/det.txt, the public detections")
    info = info_of(sequence)
    parts = public(sequence.detections, sequence.length, scores)
    frames = pictures.given(info, sequence.video, parts, aids)
    return Outcome(sequence, follow(source_of(info, sequence.ground_plane), config, frames), aids)


def follow_own(
    sequence: motchallenge.Sequence, config: "Jipda", weights: str, aids: "Aids"
) -> Outcome:
    """Follow the people whom our detector finds in the pictures."""
    from streamvis.cli import pictures
    from streamvis.config import MaskRcnn

    info = info_of(sequence)
    detect = MaskRcnn(weights=weights, masks=False)
    frames = pictures.found(info, sequence.folder, detect, aids)
    return Outcome(sequence, follow(source_of(info, sequence.ground_plane), config, frames), aids)


def info_of(sequence: motchallenge.Sequence) -> motchallenge.SequenceInfo:
    """What its seqinfo.ini says."""
    return motchallenge.SequenceInfo(
        sequence.name,
        sequence.fps,
        sequence.width,
        sequence.height,
        sequence.length,
        sequence.video,
    )


def _placed(sequence: motchallenge.Sequence) -> bool:
    """Whether the truth says where on the ground people are."""
    return sequence.truth is not None and bool(np.isfinite(sequence.truth.world).all())


def report(outcomes: Sequence[Outcome], space: Space) -> list[dict[str, Any]]:
    """Scores of each sequence and of all together: in the image, and on the ground if asked for.

    `hz` is frames per second of the tracker's update alone: no decoding, no detector, no looking.
    """
    from streamvis.cli.pictures import Aids

    scores = evaluate_all([(one.sequence, one.followed.rows) for one in outcomes])
    seconds = [one.followed.seconds for one in outcomes]
    frames = [one.followed.frames for one in outcomes]
    rates = np.divide([*frames, sum(frames)], np.maximum([*seconds, sum(seconds)], 1e-9))
    aids = [one.aids for one in outcomes]
    used = [*aids, aids[0] if len(set(aids)) == 1 else Aids()]  # of all together, what all had
    rows = [
        {**asdict(one), "hz": float(hz), **of._asdict()}
        for one, hz, of in zip(scores, rates, used, strict=True)
    ]
    if space == "ground":
        ground = _on_ground(outcomes)
        rows = [{**row, "ground": ground.get(row["name"])} for row in rows]
    return rows


def _on_ground(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Scores by name of the sequences whose truth is placed on the ground, and of these in sum."""
    placed = [one for one in outcomes if _placed(one.sequence)]
    for one in outcomes:
        if one not in placed:
            say(
                f"{one.sequence.name}: no world coordinates in its truth; not matched on the ground"
            )
    if not placed:
        raise DataError(
            "no sequence has world coordinates in columns 8-10 of its gt/gt.txt; "
            "match in the image: --space image"
        )
    scores = evaluate_all([(one.sequence, one.followed.rows) for one in placed], "ground")
    return {one.name: asdict(one) for one in scores}


def put(rows: Sequence[dict[str, Any]]) -> None:
    """The scores as tables."""
    table = [[row["name"], *(row[key] for key in SHOWN), round(row["hz"])] for row in rows]
    put_table("", ("name", *SHOWN, "hz"), table)
    ground = [(row["name"], row["ground"]) for row in rows if row.get("ground")]
    if ground:
        table = [[name, *(one[key] for key in SHOWN)] for name, one in ground]
        put_table("On the ground: matched within 1 m", ("name", *SHOWN), table)


def write_timeline(path: Path, outcomes: Sequence[Outcome], traces: Sequence[Trace]) -> None:
    """Write who followed whom over time as a PNG, a panel for each sequence."""
    from streamvis.viz.sheets.timeline import Panel, timeline

    panels = [
        Panel(
            title=one.sequence.name,
            note=_summary(trace),
            lives=trace.lives(),
            strays=trace.strays(),
            frames=one.sequence.length,
            fps=one.sequence.fps,
        )
        for one, trace in zip(outcomes, traces, strict=True)
    ]
    timeline(path, panels)
    say(f"wrote {path}")


def _summary(trace: Trace) -> str:
    missed = int(np.sum(trace.finder == identities.MISSED))
    return (
        f"{len(trace.lives())} people, {len(set(trace.results.ids.tolist()))} tracks; of "
        f"{len(trace.people)} boxes {missed} missed, {len(trace.false)} false, "
        f"{_count(len(trace.switches()), 'switch', 'switches')}"
    )


def write_switches(path: Path, outcomes: Sequence[Outcome], traces: Sequence[Trace]) -> None:
    """Write the id switches as a PNG: the last frame with the old id, the first with the new."""
    import cv2

    from streamvis.viz.sheets.switches import Pair, switch_page

    pairs: list[Pair] = []
    total = 0
    for one, trace in zip(outcomes, traces, strict=True):
        switches = trace.switches()
        total += len(switches)
        pairs += _pairs(one.sequence, trace, switches[: max(0, MOST_SWITCHES - len(pairs))])
    names = ", ".join(one.sequence.name for one in outcomes)
    shown = f", the first {len(pairs)} of them" if len(pairs) < total else ""
    page = switch_page(f"{names}: {_count(total, 'id switch', 'id switches')}{shown}", pairs)
    _, data = cv2.imencode(".png", page[..., ::-1])
    path.write_bytes(data.tobytes())
    say(f"wrote {path}")


def _pairs(
    sequence: motchallenge.Sequence, trace: Trace, switches: Sequence[Switch]
) -> "list[Pair]":
    """What the switches look like; the film is read once, and only crops are kept."""
    from streamvis.viz.sheets.switches import Pair, draw, side_of

    moments = [
        (_moment(trace, one.before, one.old), _moment(trace, one.after, one.new))
        for one in switches
    ]
    wanted: dict[int, list[tuple[int, int]]] = {}  # frame -> (switch, 0 before or 1 after)
    for i, pair in enumerate(moments):
        for j, moment in enumerate(pair):
            wanted.setdefault(moment.frame, []).append((i, j))
    crops: dict[tuple[int, int], Array] = {}
    for number, pixels in _film(sequence, max(wanted, default=0)):
        for i, j in wanted.get(number, ()):
            side = side_of(moments[i], *pixels.shape[:2])
            crops[i, j] = draw(pixels, moments[i][j], side)
    if len(crops) < 2 * len(moments):
        raise DataError(f"{sequence.folder}: the video ends before frame {max(wanted)}")
    return [
        Pair(_lines(sequence, one, *moments[i]), crops[i, 0], crops[i, 1])
        for i, one in enumerate(switches)
    ]


def _moment(trace: Trace, truth: int, found: int) -> "Moment":
    from streamvis.viz.sheets.switches import Moment

    frame = int(trace.truth.frames[truth])
    others = np.flatnonzero(trace.results.frames == frame)
    others = others[others != found]
    return Moment(
        frame=frame,
        person=trace.truth.boxes[truth],
        box=trace.results.boxes[found],
        track=int(trace.results.ids[found]),
        others=trace.results.boxes[others],
        ids=trace.results.ids[others],
    )


def _lines(
    sequence: motchallenge.Sequence, switch: Switch, before: "Moment", after: "Moment"
) -> tuple[str, str]:
    lost = after.frame - before.frame - 1  # frames
    gap = f"lost for {_count(lost, 'frame', 'frames')}, {lost / sequence.fps:.1f} s"
    gap = gap if lost else "at once"
    if before.track in after.ids:
        gap += f"; track {before.track} is elsewhere"
    elif after.track in before.ids:
        gap += f"; track {after.track} came from elsewhere"
    who = f"{sequence.name}, person {switch.person}: track {before.track} -> {after.track}"
    return who, gap


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _film(sequence: motchallenge.Sequence, last: int) -> Iterator[tuple[int, Array]]:
    """Frame numbers from 1 to `last`, and their pixels."""
    from streamvis.sources import open_source, resolve

    if not last:
        return
    (spec,) = resolve([str(sequence.folder)])
    with closing(open_source(spec)) as source:
        for picture in source:
            yield picture.n + 1, picture.pixels
            if picture.n + 1 >= last:
                return
