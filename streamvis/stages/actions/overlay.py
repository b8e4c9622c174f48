"""Actions on the picture: the most probable action and a bar as long as it is probable.

Ignored actions are not named. A bar without colour means that too few frames have been sampled.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

from streamvis.messages import Actions, Array, Packet, Tracks
from streamvis.stages.overlay import Canvas, Overlay
from streamvis.viz.legend import Entry
from streamvis.viz.style import DARK, GREY, PALE, Colour, Plate, Style, at, on, shade

WHOLE = 0  # the id that stands for the whole frame
UNLIKELY: Colour = (86, 180, 233)  # sky: below `end`
POSSIBLE: Colour = (230, 159, 0)  # orange: between `end` and `begin`
LIKELY: Colour = (213, 94, 0)  # vermilion: from `begin` on


LEGEND = (
    Entry("bar", UNLIKELY, 0, "probability of an action: below the end threshold", place=30),
    Entry("bar", POSSIBLE, 0, "between the end and begin thresholds", place=30),
    Entry("bar", LIKELY, 0, "at or above the begin threshold", place=30),
)


class ActionOverlay(Overlay):
    """Draw a bar and label below each person, and a banner for the whole frame."""

    order: ClassVar[int] = 40

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        actions, tracks = packet.part(Actions), packet.part(Tracks)
        if actions is None:
            return
        canvas.legend += LEGEND
        boxes = {} if tracks is None else dict(zip(tracks.ids.tolist(), tracks.boxes, strict=True))
        people: list[_Person] = []
        rows = zip(actions.ids.tolist(), actions.probabilities, actions.warm.tolist(), strict=True)
        for id_, probabilities, warm in rows:
            label, p = likeliest(actions, probabilities.tolist())
            colour = colour_for(p, actions)
            if id_ == WHOLE:
                _banner(canvas.image, label, p, colour if warm else GREY, canvas.style)
            elif id_ in boxes and np.isfinite(boxes[id_]).all():
                people.append(_Person(boxes[id_], label, p, colour if warm else None))
        _below(canvas, people)


class _Person(NamedTuple):
    """The action of one person."""

    box: Array  # (4,) xyxy, px
    label: str
    p: float
    colour: Colour | None  # None: too few frames have been sampled


def likeliest(actions: Actions, probabilities: Sequence[float]) -> tuple[str, float]:
    """Return the most probable action that is not ignored, and its probability."""
    both = zip(actions.labels, probabilities, strict=True)
    return max(
        ((label, p) for label, p in both if label not in actions.thresholds.ignore),
        key=lambda pair: pair[1],
    )


def colour_for(p: float, actions: Actions) -> Colour:
    if p >= actions.thresholds.begin:
        return LIKELY
    return POSSIBLE if p >= actions.thresholds.end else UNLIKELY


def _below(canvas: Canvas, people: Sequence[_Person]) -> None:
    """Draw all bars, then the labels from `end` on, clear of each other and of the bars."""
    bars = [(person, bar) for person in people if (bar := _bar(canvas, person)) is not None]
    canvas.plates += [bar for _, bar in bars]
    for person, (left, _, _, bottom) in sorted(bars, key=lambda pair: -pair[0].box[3]):
        if person.colour not in (None, UNLIKELY):  # the nearest person's label stays at the bar
            y = bottom + _plate_height(canvas.style)
            canvas.plate(f"{person.label} {person.p:.2f}", left, y, person.colour, below=True)


def _bar(canvas: Canvas, person: _Person) -> Plate | None:
    """Draw a bar below the box, as long as the action is probable; return its area."""
    image, style, (x1, _), (x2, y2) = (
        canvas.image,
        canvas.style,
        at(person.box[:2]),
        at(person.box[2:]),
    )
    height, width = image.shape[:2]
    thick = max(4, style.text // 2)
    below = thick + _plate_height(style) + style.bar  # clear of the caption bar
    top = max(min(y2 + style.line, height - below), 0)
    left, right = max(x1, 0), min(x2, width - 1)
    if right - left < 4:
        return None
    shade(image[top : top + thick, left:right], DARK, 0.65)
    if person.colour is None:
        cv2.rectangle(image, (left, top), (right, top + thick), GREY, 1)
    else:
        end = left + max(1, round(person.p * (right - left)))
        cv2.rectangle(image, (left, top), (end, top + thick - 1), person.colour, cv2.FILLED)
    return left, top, right, top + thick


def _plate_height(style: Style) -> int:
    return style.text + 2 * max(2, style.text // 3)


def _banner(image: Array, label: str, p: float, colour: Colour, style: Style) -> None:
    """Draw the label, its probability and a bar of that length across the top."""
    width = image.shape[1]
    pad = (style.bar - style.text) // 2
    shade(image[: style.bar], DARK, 0.62)
    text = f"{label} {p:.2f}"
    plate = style.width(text) + 2 * pad
    cv2.rectangle(image, (0, 0), (plate - 1, style.bar - 1), colour, cv2.FILLED)
    style.write(image, text, pad, style.bar - pad, on(colour))
    room = width - plate - 2 * pad
    if room > 4 * pad:
        left, top = plate + pad, style.bar // 2 - style.line
        right, bottom = left + room, style.bar // 2 + style.line
        cv2.rectangle(image, (left, top), (right, bottom), PALE, 1)
        cv2.rectangle(image, (left, top), (left + round(p * room), bottom), colour, cv2.FILLED)
