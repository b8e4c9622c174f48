"""The event types of a scene, and how they are shown in `events tail` and in CSV."""

from typing import Literal, assert_never

import msgspec

from streamvis.events.envelope import Box, Mask
from streamvis.events.family import (
    Cells,
    EventTypes,
    box_cells,
    box_text,
    largest_shares,
    members,
    share_rows,
)

SightingReason = Literal["over", "epoch", "eof", "drained", "failed"]
UNKNOWN = "unknown"  # label of out-of-distribution regions in CSV


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A connected piece of a picture that belongs to no class."""

    share: float  # of the picture
    box_px: Box  # left, top, right, bottom in pixels of the source frame
    p: float  # mean out-of-distribution probability of its pixels


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a picture belongs to no class."""

    share: float  # of the picture, in all regions
    largest: Region | None = None  # the largest connected region, or null


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """The classes in one frame."""

    classes: dict[str, float]  # share of the picture, by class; they sum to one
    unknown: Unknown | None = None  # out-of-distribution pixels; null: weights that do not detect
    # them
    mask: Mask | None = None  # the class of every pixel, where masks are attached


class SceneUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="scene.update"):
    """The shares of the semantic classes, at most once in `publish.update_every_s`."""

    scene: Scene  # its classes


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Something is in the picture that belongs to no class: the largest such region."""

    share: float  # of the picture
    box_px: Box  # left, top, right, bottom in pixels of the source frame
    p: float  # mean out-of-distribution probability of its pixels
    since_us: int  # media time when it was large enough first


class EndedSighting(msgspec.Struct, frozen=True, kw_only=True):
    """There is no such thing any more, or nothing is known of it."""

    share: float  # of the picture, the last value
    box_px: Box  # the last one: left, top, right, bottom in pixels of the source frame
    p: float  # the last mean out-of-distribution probability of its pixels
    since_us: int  # media time when it was large enough first
    share_max: float  # the largest share since it was first seen
    reason: SightingReason  # over: gone, or too small; otherwise as of tracks


class UnknownBegin(msgspec.Struct, frozen=True, tag_field="type", tag="unknown.begin"):
    """An out-of-distribution object is in the picture: `scene.update` describes it from then on."""

    unknown: Sighting  # the region


class UnknownEnd(msgspec.Struct, frozen=True, tag_field="type", tag="unknown.end"):
    """The out-of-distribution object is over."""

    unknown: EndedSighting  # its last state


SceneBody = SceneUpdate | UnknownBegin | UnknownEnd


def line(what: SceneBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case SceneUpdate(scene):
            unknown = f"; unknown {scene.unknown.share:.1%}" if scene.unknown else ""
            return largest_shares(scene.classes) + unknown
        case UnknownBegin(sighting):
            return f"{box_text(sighting.box_px)}  p={sighting.p:.2f}"
        case UnknownEnd(ended):
            return f"{box_text(ended.box_px)}  p={ended.p:.2f} ({ended.reason})"
        case _:
            assert_never(what)


def csv_rows(what: SceneBody) -> list[Cells]:
    """Return the row of the event, or one for each class."""
    match what:
        case SceneUpdate(scene):
            rows = share_rows(scene.classes)
            if scene.unknown is None:
                return rows
            largest = scene.unknown.largest
            where = {**box_cells(largest.box_px), "p": largest.p} if largest else {}
            return [*rows, {"label": UNKNOWN, "share": scene.unknown.share, **where}]
        case UnknownBegin(sighting):
            known = members(sighting, "share", "p", "since_us")
            return [{"label": UNKNOWN, **box_cells(sighting.box_px), **known}]
        case UnknownEnd(ended):
            known = members(ended, "share", "p", "since_us", "share_max", "reason")
            return [{"label": UNKNOWN, **box_cells(ended.box_px), **known}]
        case _:
            assert_never(what)


SCENE_EVENTS = EventTypes((SceneUpdate, UnknownBegin, UnknownEnd), line, csv_rows)
