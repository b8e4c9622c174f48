"""Pictures for people to look at: who was found, who is who, and where they have been.

    picture = annotate(pixels, detections, tracks, trails, caption="cam1", clock="00:01:02.300")
    sheet = contact_sheet([before, after], columns=2, captions=["before", "after"])

Everything takes and returns RGB arrays (H, W, 3) uint8; sizes follow the picture.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from streamvis.errors import UsageError
from streamvis.geometry import paste_mask
from streamvis.geometry import paste_masks as paste_masks
from streamvis.messages import Actions, Array, Detections, Tracks
from streamvis.viz.actions import draw_actions
from streamvis.viz.ground_map import Trail as Trail
from streamvis.viz.ground_map import Trails as Trails
from streamvis.viz.style import (
    DARK,
    GREY,
    PALE,
    Colour,
    Style,
    at,
    colour_of,
    fading_line,
    rectangle,
    shade,
)

MASK_OPACITY = 0.42  # opacity of masks
SURE = 0.5  # score from which a detection without a track is drawn


def annotate(
    pixels: Array,
    detections: Detections | None = None,
    tracks: Tracks | None = None,
    trails: Trails | None = None,
    *,
    actions: Actions | None = None,
    caption: str = "",
    clock: str = "",
    masks: bool = True,
) -> Array:
    """A new picture with masks, trails, boxes and ids.

    A solid box was seen in this frame, a dashed one is predicted; thin grey boxes are detections
    that no track took. Actions stand on the people, those of the whole frame above it all.
    """
    image = np.array(pixels, dtype=np.uint8, order="C")
    style = Style.for_size(*image.shape[:2])
    track_by_detection = _track_by_detection(detections, tracks)
    if detections is not None:
        if masks and len(detections.masks):
            _masks(image, detections, track_by_detection)
        _unassigned(image, detections, track_by_detection, style)
    for track, trail in (trails or {}).items():
        fading_line(image, trail.points, 0.9 * trail.strength, colour_of(track), style.line)
    if tracks is not None:
        _tracks(image, tracks, style)
    if actions is not None:
        draw_actions(image, actions, tracks, style)
    if caption or clock:
        _bar(image, caption, clock, style)
    return image


def _track_by_detection(detections: Detections | None, tracks: Tracks | None) -> dict[int, int]:
    """Which track each detection belongs to: index -> id."""
    if detections is None or tracks is None:
        return {}
    pairs = zip(tracks.detection.tolist(), tracks.ids.tolist(), strict=True)
    return {index: id_ for index, id_ in pairs if 0 <= index < len(detections.boxes)}


def _masks(image: Array, detections: Detections, track_by_detection: dict[int, int]) -> None:
    height, width = image.shape[:2]
    for i, (mask, box) in enumerate(zip(detections.masks, detections.boxes, strict=True)):
        colour = colour_of(track_by_detection[i]) if i in track_by_detection else GREY
        rows, columns, patch = paste_mask(mask, box, height, width)
        if not patch.any():
            continue
        region = np.ascontiguousarray(image[rows, columns])
        veiled = region.copy()
        shade(veiled, colour, MASK_OPACITY)
        inside = patch.view(np.uint8)
        cv2.copyTo(veiled, inside, region)
        outline, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(region, outline, -1, colour, 1, cv2.LINE_AA)
        image[rows, columns] = region


def _unassigned(
    image: Array, detections: Detections, track_by_detection: dict[int, int], style: Style
) -> None:
    """Detections that no track took, but for weak ones, which are there for the tracker."""
    for i, (box, score) in enumerate(zip(detections.boxes, detections.scores, strict=True)):
        if i in track_by_detection or score < SURE or not np.isfinite(box).all():
            continue
        rectangle(image, box, GREY, max(1, style.line // 2))
        x, y = at(box[:2])
        if y >= 0 and x < image.shape[1]:
            style.write(image, f"{score:.2f}", x, max(y - 2, style.text), PALE)


def _tracks(image: Array, tracks: Tracks, style: Style) -> None:
    sound = np.flatnonzero(np.isfinite(tracks.boxes).all(axis=1))
    nearer_last = sound[np.argsort(tracks.boxes[sound, 3], kind="stable")]
    for i in nearer_last:
        colour = colour_of(int(tracks.ids[i]))
        predicted = bool(tracks.detection[i] < 0)
        rectangle(image, tracks.boxes[i], colour, style.line, dashed=predicted)
    for i in nearer_last:
        x, y = at(tracks.boxes[i, :2])
        if not (-style.text < x < image.shape[1] and y < image.shape[0]):
            continue
        style.plate(image, str(tracks.ids[i]), x, y, colour_of(int(tracks.ids[i])))


def _bar(image: Array, caption: str, clock: str, style: Style) -> None:
    height, width = image.shape[:2]
    pad = (style.bar - style.text) // 2
    shade(image[max(0, height - style.bar) :], DARK, 0.62)
    room = width - 3 * pad - style.width(clock)
    style.write(image, _fitting(caption, room, style), pad, height - pad, PALE)
    style.write(image, clock, width - pad - style.width(clock), height - pad, PALE)


def _fitting(text: str, room: int, style: Style) -> str:
    """The text, or as much of its end as the room allows: paths differ at their end."""
    if style.width(text) <= room:
        return text
    while text and style.width("..." + text) > room:
        text = text[1:]
    return "..." + text if text else ""


def contact_sheet(
    images: Sequence[Array],
    columns: int,
    captions: Sequence[str] = (),
    background: Colour = (250, 250, 250),
) -> Array:
    """Pictures side by side in rows, each centred in a cell of the largest, its caption beneath."""
    if not images or columns < 1:
        raise UsageError(
            f"a contact sheet of {len(images)} pictures in {columns} columns; expected at least "
            "one of each"
        )
    if captions and len(captions) != len(images):
        raise UsageError(f"{len(captions)} captions for {len(images)} pictures")
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    style = Style.for_size(height, width)
    gap = max(4, style.text // 2)
    foot = style.text + 2 * gap if captions else gap
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.empty((rows * (height + foot) + gap, columns * (width + gap) + gap, 3), np.uint8)
    sheet[:] = background
    for i, image in enumerate(images):
        h, w = image.shape[:2]
        top = gap + i // columns * (height + foot)
        left = gap + i % columns * (width + gap)
        y, x = top + (height - h) // 2, left + (width - w) // 2
        sheet[y : y + h, x : x + w] = image
        if captions:
            text = _fitting(captions[i], width, style)
            style.write(sheet, text, left, top + height + gap + style.text, DARK)
    return sheet
