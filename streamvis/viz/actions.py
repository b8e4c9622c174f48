"""Actions on the picture: the most probable action and a bar as long as it is probable.

Ignored actions are not named. A bar without colour means that too few frames have been sampled.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from streamvis.messages import Actions, Array, Tracks
from streamvis.viz.style import DARK, GREY, PALE, Colour, Style, at, on, shade

WHOLE = 0  # the id that stands for the whole frame
UNLIKELY: Colour = (86, 180, 233)  # sky: below `end`
POSSIBLE: Colour = (230, 159, 0)  # orange: between `end` and `begin`
LIKELY: Colour = (213, 94, 0)  # vermilion: from `begin` on


def draw_actions(image: Array, actions: Actions, tracks: Tracks | None, style: Style) -> None:
    """Draw a bar and label below each person, and a banner for the whole frame."""
    boxes = {} if tracks is None else dict(zip(tracks.ids.tolist(), tracks.boxes, strict=True))
    rows = zip(actions.ids.tolist(), actions.probabilities, actions.warm.tolist(), strict=True)
    for id_, probabilities, warm in rows:
        label, p = likeliest(actions, probabilities.tolist())
        colour = colour_for(p, actions)
        if id_ == WHOLE:
            _banner(image, label, p, colour if warm else GREY, style)
        elif id_ in boxes and np.isfinite(boxes[id_]).all():
            _on_person(image, boxes[id_], (label, p), colour if warm else None, style)


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


def _on_person(
    image: Array, box: Array, what: tuple[str, float], colour: Colour | None, style: Style
) -> None:
    """Draw a bar below the box, as long as the action is probable, and the label from `end` on."""
    (label, p), (x1, _), (x2, y2) = what, at(box[:2]), at(box[2:])
    height, width = image.shape[:2]
    thick = max(4, style.text // 2)
    below = thick + _plate_height(style) + style.bar  # clear of the caption bar
    top = max(min(y2 + style.line, height - below), 0)
    left, right = max(x1, 0), min(x2, width - 1)
    if right - left < 4:
        return
    shade(image[top : top + thick, left:right], DARK, 0.65)
    if colour is None:
        cv2.rectangle(image, (left, top), (right, top + thick), GREY, 1)
        return
    end = left + max(1, round(p * (right - left)))
    cv2.rectangle(image, (left, top), (end, top + thick - 1), colour, cv2.FILLED)
    if colour != UNLIKELY:
        style.plate(image, f"{label} {p:.2f}", left, top + thick + _plate_height(style), colour)


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
