"""Identities over time as a PNG: a row for each person, bars in the colours of their tracks.

    timeline(Path("who.png"), [TimelinePanel("PETS09-S2L1", "11", lives, strays, 795, 7.0)])

A thin line is a person without a track, a black mark an identity switch. Below are the tracks that
match no person. Needs matplotlib.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from streamvis.errors import UsageError
from streamvis.viz.plots import STYLE, plain
from streamvis.viz.style import colour_of, nice_step, on

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bar = tuple[int, int, int]  # first and last frame, track; -1: none

NOBODY = -1
LEGEND = (
    "bar: tracked, with the track's id    thin line: not tracked    black mark: identity switch"
)
WIDTH, DPI = 13.0, 110  # inches, dots in each
ROW = 0.17  # inches
HEAD, FOOT = 0.62, 0.52  # inches, above and beneath a panel's rows
LEFT, RIGHT = 0.75, 0.2  # inches
LETTER = 0.065  # inches, width of a digit
THICK = 0.74  # of a row, a bar; ON_NOBODY of one, a bar of the strays
ON_NOBODY = 0.56


@dataclass(frozen=True)
class TimelinePanel:
    """One sequence."""

    title: str
    note: str
    lives: Mapping[int, Sequence[Bar]]  # person -> bars by time, from the top
    strays: Sequence[Bar]  # tracks on nobody, by time
    frames: int
    fps: float


def timeline(path: Path, panels: Sequence[TimelinePanel]) -> None:
    """Draw the panels below each other."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            f"charts are drawn by matplotlib, which is not installed ({error}). "
            "Install it with: pip install matplotlib"
        ) from None
    lanes = [pack(panel.strays, room=panel.frames / 400) for panel in panels]
    rows = [
        len(p.lives) + (len(own) + 1 if own else 0) for p, own in zip(panels, lanes, strict=True)
    ]
    heights = [HEAD + ROW * max(count, 2) + FOOT for count in rows]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI)
        top = sum(heights)
        for panel, own, count, height in zip(panels, lanes, rows, heights, strict=True):
            area = (
                LEFT / WIDTH,
                (top - height + FOOT) / sum(heights),
                1 - (LEFT + RIGHT) / WIDTH,
                (height - HEAD - FOOT) / sum(heights),
            )
            _draw(figure.add_axes(area), panel, own, max(count, 2))
            top -= height
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")


def pack(bars: Sequence[Bar], room: float = 0) -> list[list[Bar]]:
    """Distribute bars over few lanes without overlap, `room` frames apart, by first fit."""
    lanes: list[list[Bar]] = []
    for bar in sorted(bars):
        free = next((lane for lane in lanes if lane[-1][1] + room < bar[0]), None)
        if free is None:
            lanes.append([bar])
        else:
            free.append(bar)
    return lanes


def _draw(axes: "Axes", panel: TimelinePanel, lanes: Sequence[Sequence[Bar]], rows: int) -> None:
    for row, bars in enumerate(panel.lives.values()):
        _person(axes, row, bars, panel.frames)
    labels = {row: str(person) for row, person in enumerate(panel.lives)}
    if lanes:
        first = len(panel.lives) + 1
        axes.axhline(first - 0.75, color="#888888", linewidth=0.8)
        labels[first] = "nobody"
        for row, bars in enumerate(lanes, first):
            for bar in bars:
                _bar(axes, row, bar, ON_NOBODY, panel.frames)
    axes.set(xlim=(0.5, panel.frames + 0.5), ylim=(rows - 0.4, -0.6))
    axes.set_xlabel(f"frame ({panel.fps:g} frames/s)", labelpad=1)
    axes.set_ylabel("person, numbered as in the ground truth", labelpad=4 if rows > 12 else 2)
    if rows <= 12:
        axes.set_ylabel("person")
    axes.set_yticks(list(labels), list(labels.values()), fontsize=7)
    axes.set_xticks(_frames(panel.frames))
    axes.tick_params(length=0)
    axes.grid(axis="y", visible=False)
    axes.set_axisbelow(True)
    axes.set_title(plain(panel.title), fontweight="bold", pad=7)
    axes.set_title(panel.note, loc="right", fontsize=9, color="#555555", pad=7)
    axes.annotate(
        LEGEND, (1, 0), (0, -26), "axes fraction", "offset points", ha="right", fontsize=8
    ).set_color("#777777")


def _frames(last: int) -> list[float]:
    step = max(1.0, nice_step(last, 12))
    return [1, *(step * i for i in range(1, int(last / step) + 1))]


def _person(axes: "Axes", row: int, bars: Sequence[Bar], frames: int) -> None:
    for bar in bars:
        if bar[2] == NOBODY:
            axes.plot((bar[0] - 0.5, bar[1] + 0.5), (row, row), color="#9a9a9a", linewidth=0.9)
        else:
            _bar(axes, row, bar, THICK, frames)
    followed = [bar for bar in bars if bar[2] != NOBODY]
    for before, after in pairwise(followed):
        if before[2] != after[2]:
            axes.plot(
                (after[0] - 0.5,) * 2,
                (row - 0.5, row + 0.5),
                color="black",
                linewidth=2.2,
                zorder=4,
            )


def _bar(axes: "Axes", row: int, bar: Bar, thick: float, frames: int) -> None:
    first, last, track = bar
    length = last - first + 1
    colour = colour_of(track)
    axes.barh(
        row,
        length,
        thick,
        left=first - 0.5,
        color=_hex(colour),
        edgecolor="white",
        linewidth=0.3 if length > frames / 200 else 0,
        zorder=2,
    )
    if len(str(track)) * LETTER + 0.06 < length / frames * (WIDTH - LEFT - RIGHT):
        place = (first - 0.5 + 0.003 * frames, row)
        text_colour = _hex(on(colour))
        axes.annotate(
            str(track), place, va="center_baseline", fontsize=6.5, color=text_colour, zorder=3
        )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
