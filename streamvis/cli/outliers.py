"""What `streamvis eval outliers` does: things that never were in a scene, pasted in and sought."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamvis.cli.output import put, put_table
from streamvis.cli.scene_networks import Network, eight_bits
from streamvis.cli.segmentation import (
    Streets,
    check_classes,
    nothing_labelled,
    or_dash,
    write_png,
)
from streamvis.datasets.classes import VOID
from streamvis.evaluation.segmentation import Confusion, Outliers
from streamvis.messages import Array
from streamvis.training.scenes.outlier_synthesis import OutlierObject, PastedImage, pasted

if TYPE_CHECKING:
    from streamvis.viz.scene import Row

WORST = 8  # pictures of a sheet
EDGE = (255, 220, 0)  # around what was pasted


@dataclass
class Outcome:
    """How well one network tells what it does not know, and what it knows."""

    plain: Confusion  # of the scenes as they are
    labelled: Outliers = field(default_factory=Outliers)  # what has no class does not count
    everywhere: Outliers = field(default_factory=Outliers)  # it counts as known
    told: Outliers = field(default_factory=Outliers)  # `labelled`, of what other stages are told
    alone: list[float | None] = field(default_factory=list)  # AP of each picture

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        scores = asdict(self.plain.scores())
        del scores["confusion"]
        return {
            **asdict(self.labelled.scores()),
            "void_is_known": asdict(self.everywhere.scores()),
            "as_told": asdict(self.told.scores()) if self.told.pictures else None,
            "without_outliers": scores,
        }

    def worst(self, count: int) -> list[int]:
        """Pictures by rising AP."""
        known = [(ap, i) for i, ap in enumerate(self.alone) if ap is not None]
        return [i for _, i in sorted(known)[:count]]


def shown(
    data: Streets, objects: Sequence[OutlierObject], seed: int
) -> Iterator[tuple[Array, Array, PastedImage]]:
    """Every picture and its truth, and the same with an object in it."""
    scenes, again = tee(data)
    for (pixels, truth), one in zip(scenes, pasted(again, objects, seed), strict=True):
        yield pixels, truth, one


def score(
    data: Streets, objects: Sequence[OutlierObject], networks: Mapping[str, Network], seed: int
) -> dict[str, Outcome]:
    """Show every picture to every network, with and without something that is not of it."""
    for name, network in networks.items():
        check_classes(data, network.names, name)
    found = {name: Outcome(Confusion(data.classes.names, VOID)) for name in networks}
    for pixels, truth, one in shown(data, objects, seed):
        counted = (one.labels != VOID) | one.unknown
        for name, network in networks.items():
            outcome = found[name]
            outcome.plain.add(network.look(pixels).labels, truth)
            look = network.look(one.pixels)
            strange = network.strangeness(look)
            alone = Outliers()
            for outliers in (alone, outcome.labelled):
                outliers.add(strange, one.unknown, counted)
            outcome.everywhere.add(strange, one.unknown)
            if look.seen.unknown.size:
                outcome.told.add(eight_bits(look), one.unknown, counted)
            outcome.alone.append(alone.scores().ap)
    if all(outcome.plain.miou() is None for outcome in found.values()):
        raise nothing_labelled(data)
    return found


def difference(found: Mapping[str, Outcome]) -> float | None:
    """How much more mIoU the first network has than the last, when there is another."""
    ours, *_, other = [outcome.plain.miou() for outcome in found.values()] * 2
    return None if len(found) < 2 or ours is None or other is None else ours - other


def report(
    found: Mapping[str, Outcome], objects: Sequence[OutlierObject], seed: int
) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "objects": len(objects),
        "seed": seed,
        "weights": {name: outcome.report() for name, outcome in found.items()},
        "miou_difference": difference(found),
    }


def put_outcomes(
    data: Streets, found: Mapping[str, Outcome], objects: Sequence[OutlierObject]
) -> None:
    """As people read it."""
    rows = []
    for name, outcome in found.items():
        miou = or_dash(outcome.plain.miou())
        over = {"what has a class": outcome.labelled, "everything": outcome.everywhere}
        if outcome.told.pictures:
            over["as told in 8 bits"] = outcome.told
        for what, outliers in over.items():
            s = outliers.scores()
            rows.append([name, what, *map(or_dash, (s.ap, s.fpr95, s.auroc, s.unknown)), miou])
            name = miou = ""  # said once
    columns = ("weights", "over", "AP", "FPR95", "AUROC", "AP of guessing", "mIoU without")
    title = f"{data.name}: {len(data.scenes)} pictures, {len(objects)} objects"
    put_table(title, columns, rows)
    apart = difference(found)
    if apart is not None:
        name, *_, other = found
        put(f"mIoU of {name} less that of {other}: {100 * apart:+.1f} points")


def write_sheet(
    path: Path,
    data: Streets,
    objects: Sequence[OutlierObject],
    seed: int,
    outcome: Outcome,
    network: Network,
    name: str,
) -> None:
    """Write the pictures whose object was told worst as a PNG."""
    from streamvis.viz.scene import strips

    order = outcome.worst(WORST)
    pictures = {i: one for i, (_, _, one) in enumerate(shown(data, objects, seed)) if i in order}
    rows = [_row(data.scenes[i].name, pictures[i], outcome.alone[i], network) for i in order]
    title = f"{name}: of {len(data.scenes)} pictures of {data.name}, those with the worst AP"
    write_png(path, strips(title, rows, data.classes.names))


def _row(scene: str, one: PastedImage, ap: float | None, network: Network) -> "Row":
    from streamvis.viz.scene import Panel, Row, blended, heat, outlined, palette_of

    look = network.look(one.pixels)
    palette = palette_of(network.names)
    panels = [
        Panel("what was pasted", outlined(one.pixels, one.unknown, EDGE)),
        Panel("unknown", outlined(heat(one.pixels, network.strangeness(look)), one.unknown, EDGE)),
        Panel("classes", blended(one.pixels, look.labels, palette)),
    ]
    return Row(f"{scene}: AP {or_dash(ap)}", panels)
