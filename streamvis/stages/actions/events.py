"""The event types of actions, and how they are shown in `events tail` and in CSV."""

from typing import Literal, assert_never

import msgspec

from streamvis.events.envelope import Count
from streamvis.events.family import Cells, EventTypes, members

ActionReason = Literal["over", "lost", "epoch", "eof", "drained", "failed"]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """An action of a tracked person, or of the whole frame."""

    label: str
    p: float  # calibrated probability, of the window that ends with this picture
    window_us: Count  # media time from the first picture of the window to this one
    since_us: int  # media time when the probability reached `begin`
    track: str | None = None  # track id; null: the whole frame


class EndedAction(msgspec.Struct, frozen=True, kw_only=True):
    """An action that is over, or of which nothing is known any more."""

    label: str
    p: float  # the last value
    p_max: float  # since it began
    window_us: Count
    since_us: int
    reason: ActionReason  # over: below the threshold `end`; lost: no longer observed
    track: str | None = None


class ActionBegin(msgspec.Struct, frozen=True, tag_field="type", tag="action.begin"):
    action: Action


class ActionUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="action.update"):
    action: Action


class ActionEnd(msgspec.Struct, frozen=True, tag_field="type", tag="action.end"):
    """It precedes the `track.end` of the same frame."""

    action: EndedAction


ActionBody = ActionBegin | ActionUpdate | ActionEnd


def line(what: ActionBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case ActionBegin(action) | ActionUpdate(action):
            return f"{action.track or 'frame':<16} {action.label} p={action.p:.2f}"
        case ActionEnd(ended):
            return f"{ended.track or 'frame':<16} {ended.label} ({ended.reason})"
        case _:
            assert_never(what)


def csv_rows(what: ActionBody) -> list[Cells]:
    """Return the row of the event."""
    match what:
        case ActionBegin(action) | ActionUpdate(action):
            return [members(action, "track", "label", "since_us", "p", "window_us")]
        case ActionEnd(ended):
            columns = ("track", "label", "since_us", "p", "window_us", "p_max", "reason")
            return [members(ended, *columns)]
        case _:
            assert_never(what)


ACTION_EVENTS = EventTypes((ActionBegin, ActionUpdate, ActionEnd), line, csv_rows)
