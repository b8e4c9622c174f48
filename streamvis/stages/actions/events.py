"""The event types of actions, and how they are shown in `events tail` and in CSV."""

from typing import Literal, assert_never

import msgspec

from streamvis.events.envelope import Count
from streamvis.events.family import Cells, EventTypes, members

ActionReason = Literal["over", "lost", "epoch", "eof", "drained", "failed"]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """An action of a tracked person, or of the whole frame."""

    label: str  # name of the action
    p: float  # calibrated probability over the last `window_us`
    window_us: Count  # media time from the first picture of the window to this one
    since_us: int  # media time when `p` reached the threshold `begin`
    track: str | None = None  # track id; null: the whole frame


class EndedAction(msgspec.Struct, frozen=True, kw_only=True):
    """An action that is over, or of which nothing is known any more."""

    label: str  # name of the action
    p: float  # its last calibrated probability
    p_max: float  # the highest since it began
    window_us: Count  # media time from the first picture of the window to this one
    since_us: int  # media time when `p` reached the threshold `begin`
    reason: (
        ActionReason  # over: below the threshold `end`; lost: no longer observed;
        # otherwise as of tracks
    )
    track: str | None = None  # track id; null: the whole frame


class ActionBegin(msgspec.Struct, frozen=True, tag_field="type", tag="action.begin"):
    """An action has been probable for long enough."""

    action: Action  # what is done, by whom


class ActionUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="action.update"):
    """The probability of an open action, at most once in `publish.update_every_s`."""

    action: Action  # what is done, by whom


class ActionEnd(msgspec.Struct, frozen=True, tag_field="type", tag="action.end"):
    """An action is over; it precedes the `track.end` of the same frame."""

    action: EndedAction  # what was done, by whom


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


ACTION_EVENTS = EventTypes(
    (ActionBegin, ActionUpdate, ActionEnd), line, csv_rows, identity=("track", "label")
)
