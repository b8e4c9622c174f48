"""The annotated picture: detections, masks, tracks with their paths, actions, caption and clock.

    picture = annotate(pixels, detections, tracks, trails, caption="cam1", clock="00:01:02.300")
    sheet = contact_sheet([before, after], columns=2, captions=["before", "after"])

Pictures are RGB arrays (H, W, 3) uint8; line widths and text sizes follow the picture's size.
docs/annotated-video.md is the legend.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from streamvis.errors import UsageError
from streamvis.geometry import Regions, paste_mask
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
    Plate,
    Style,
    at,
    colour_of,
    fading_line,
    rectangle,
    shade,
)

MASK_OPACITY = 0.18  # light, so that clothes keep their colour; the outline is opaque
MOST_MOVES = 4  # of a name that would cover another one
LEAST_SCORE = 0.5  # of detections without a track that are drawn


def annotate(
    pixels: Array,
    detections: Detections | None = None,
    tracks: Tracks | None = None,
    trails: Trails | None = None,
    *,
    actions: Actions | None = None,
    regions: Regions = (),
    caption: str = "",
    clock: str = "",
    masks: bool = True,
) -> Array:
    """Return a new picture with masks, trails, boxes, ids, speeds and actions.

    A solid box was detected in this frame, a dashed one is predicted; thin grey boxes are
    detections without a track. Speeds are shown where tracks have a ground plane. `regions` are
    the detection regions, polygons in shares of the picture's width and height.
    """
    image = np.array(pixels, dtype=np.uint8, order="C")
    style = Style.for_size(*image.shape[:2])
    for polygon in regions:
        _region(image, polygon)
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
    """Return the track id for the index of each detection that a track has taken."""
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
        tinted = region.copy()
        shade(tinted, colour, MASK_OPACITY)
        inside = patch.view(np.uint8)
        cv2.copyTo(tinted, inside, region)
        outline, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(region, outline, -1, colour, 1, cv2.LINE_AA)
        image[rows, columns] = region


def _unassigned(
    image: Array, detections: Detections, track_by_detection: dict[int, int], style: Style
) -> None:
    """Draw detections without a track, except weak ones, which only serve the tracker."""
    for i, (box, score) in enumerate(zip(detections.boxes, detections.scores, strict=True)):
        if i in track_by_detection or score < LEAST_SCORE or not np.isfinite(box).all():
            continue
        rectangle(image, box, GREY, max(1, style.line // 2))
        x, y = at(box[:2])
        if y >= 0 and x < image.shape[1]:
            style.label(image, f"{score:.2f}", x, y - 4, PALE)


def _tracks(image: Array, tracks: Tracks, style: Style) -> None:
    sound = np.flatnonzero(np.isfinite(tracks.boxes).all(axis=1))
    nearer_last = sound[np.argsort(tracks.boxes[sound, 3], kind="stable")]
    for i in nearer_last:
        colour = colour_of(int(tracks.ids[i]))
        predicted = bool(tracks.detection[i] < 0)
        rectangle(image, tracks.boxes[i], colour, style.line, dashed=predicted)
    taken: list[Plate] = []
    for i in nearer_last[::-1]:  # the nearest person's name stays at the box, others move up
        x, y = at(tracks.boxes[i, :2])
        if not (-style.text < x < image.shape[1] and y < image.shape[0]):
            continue
        text = _name(tracks, i)
        y = _free(image, text, x, y, taken, style)
        taken.append(style.plate(image, text, x, y, colour_of(int(tracks.ids[i]))))


def _free(image: Array, text: str, x: int, y: int, taken: Sequence[Plate], style: Style) -> int:
    """Return the lower edge for a plate, moved up while it would cover another one."""
    for _ in range(MOST_MOVES):
        x1, y1, x2, y2 = style.place(image, text, x, y)
        tops = [b for a, b, c, d in taken if a < x2 and x1 < c and b < y2 and y1 < d]
        if not tops:
            break
        y = min(tops)
    return y


def _name(tracks: Tracks, i: int) -> str:
    """Return the id, and the speed in m/s where it is known."""
    speed = np.nan if tracks.ground_velocity is None else np.hypot(*tracks.ground_velocity[i])
    return f"{tracks.ids[i]}  {speed:.1f} m/s" if np.isfinite(speed) else str(tracks.ids[i])


def _region(image: Array, polygon: Sequence[tuple[float, float]]) -> None:
    height, width = image.shape[:2]
    corners = (np.array(polygon) * (width - 1, height - 1)).round().astype(np.int32)
    cv2.polylines(image, [corners], True, PALE, 1, cv2.LINE_AA)


def _bar(image: Array, caption: str, clock: str, style: Style) -> None:
    height, width = image.shape[:2]
    pad = (style.bar - style.text) // 2
    shade(image[max(0, height - style.bar) :], DARK, 0.62)
    room = width - 3 * pad - style.width(clock)
    style.write(image, style.ending(caption, room), pad, height - pad, PALE)
    style.write(image, clock, width - pad - style.width(clock), height - pad, PALE)


def contact_sheet(
    images: Sequence[Array],
    columns: int,
    captions: Sequence[str] = (),
    background: Colour = (250, 250, 250),
) -> Array:
    """Arrange pictures in rows, each centred in a cell of the largest, its caption below."""
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
            text = style.ending(captions[i], width)
            style.write(sheet, text, left, top + height + gap + style.text, DARK)
    return sheet
