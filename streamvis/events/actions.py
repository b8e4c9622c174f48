"""Derive action events by hysteresis in probability and in media time. Pure.

An action begins after its probability has been at least `begin` for `min_us`, and is over after it
has been below `end` for `min_us`. Rows that are not warm change nothing. The actions of a subject
that is no longer observed end as lost.
"""

from collections.abc import Callable, Iterable

import msgspec

from streamvis.events.schema import (
    Action,
    ActionBegin,
    ActionBody,
    ActionEnd,
    ActionReason,
    ActionUpdate,
    EndedAction,
)
from streamvis.messages import Actions, ActionThresholds

WHOLE = 0  # instead of a track's number: the whole frame
TrackNamer = Callable[[int], str | None]  # of a track's number: its id; None for WHOLE


class OpenAction(msgspec.Struct, rename={"begun": "told", "published_us": "told_us"}):
    """An action that may begin, is open, or may end."""

    since_us: int  # media time, when its probability came to `begin`
    p: float
    p_max: float
    window_us: int
    begun: bool = False
    published_us: int = 0  # when it was last published
    below_us: int | None = None  # since when it is below `end`


OpenActions = dict[int, dict[str, OpenAction]]  # track or WHOLE -> label -> action


def derive_action_events(
    open_actions: OpenActions, name: TrackNamer, actions: Actions, media_us: int, every_us: int
) -> list[ActionBody]:
    """Events of a frame: ends of subjects no longer observed, then row by row.

    Updates `open_actions`.
    """
    ids = actions.ids.tolist()
    bodies: list[ActionBody] = [
        what
        for id_ in sorted(open_actions.keys() - set(ids))
        for what in close_track_actions(open_actions, id_, name, "lost")
    ]
    rows = zip(
        ids,
        actions.probabilities.tolist(),
        (actions.warm & actions.sampled).tolist(),
        actions.window_us.tolist(),
        strict=True,
    )
    for id_, probabilities, decides, window_us in rows:
        if not decides:
            continue
        open_labels = open_actions.setdefault(id_, {})
        for label, p in zip(actions.labels, probabilities, strict=True):
            if label in actions.thresholds.ignore:
                continue
            now = (round(p, 4), window_us, media_us)
            bodies += _step(open_labels, label, name(id_), now, actions.thresholds, every_us)
        if not open_labels:
            del open_actions[id_]
    return bodies


def close_track_actions(
    open_actions: OpenActions, id_: int, name: TrackNamer, reason: ActionReason
) -> list[ActionBody]:
    """End the open actions of one track."""
    return [
        ActionEnd(_as_ended_action(label, action, name(id_), reason))
        for label, action in open_actions.pop(id_, {}).items()
        if action.begun
    ]


def close_actions(
    open_actions: OpenActions, ids: Iterable[int], name: TrackNamer, reason: ActionReason
) -> list[ActionBody]:
    return [what for id_ in ids for what in close_track_actions(open_actions, id_, name, reason)]


def _step(
    open_labels: dict[str, OpenAction],
    label: str,
    track: str | None,
    now: tuple[float, int, int],  # probability, window µs, media µs
    rule: ActionThresholds,
    every_us: int,
) -> list[ActionBody]:
    p, window_us, media_us = now
    action = open_labels.get(label)
    if action is None:
        if p < rule.begin:
            return []
        action = open_labels[label] = OpenAction(media_us, p, p, window_us)
    action.p, action.p_max, action.window_us = p, max(p, action.p_max), window_us
    if not action.begun:
        if p < rule.begin:
            del open_labels[label]
            return []
        if media_us - action.since_us < rule.min_us:
            return []
        action.begun, action.published_us = True, media_us
        return [ActionBegin(_as_action(label, action, track))]
    if p >= rule.end:
        action.below_us = None
    elif action.below_us is None:
        action.below_us = media_us
    if action.below_us is not None and media_us - action.below_us >= rule.min_us:
        del open_labels[label]
        return [ActionEnd(_as_ended_action(label, action, track, "over"))]
    if media_us - action.published_us < every_us:
        return []
    action.published_us = media_us
    return [ActionUpdate(_as_action(label, action, track))]


def _as_action(label: str, action: OpenAction, track: str | None) -> Action:
    return Action(
        label=label,
        p=action.p,
        window_us=action.window_us,
        since_us=action.since_us,
        track=track,
    )


def _as_ended_action(
    label: str, action: OpenAction, track: str | None, reason: ActionReason
) -> EndedAction:
    return EndedAction(
        label=label,
        p=action.p,
        p_max=action.p_max,
        window_us=action.window_us,
        since_us=action.since_us,
        track=track,
        reason=reason,
    )
