"""When an action begins and when it is over: hysteresis in probability and in media time. Pure.

An action begins once its probability has been at `begin` or above for `min_us`, and is over once
it has been below `end` for so long. What is not warm decides nothing. Whoever is looked at no
more does nothing that is known: their actions are lost.
"""

from collections.abc import Callable, Iterable

import msgspec

from streamvis.events.schema import (
    Action,
    ActionBegin,
    ActionEnd,
    ActionReason,
    ActionUpdate,
    ActionWhat,
    EndedAction,
)
from streamvis.messages import Actions, Judgement

WHOLE = 0  # instead of a track's number: the whole frame
Name = Callable[[int], str | None]  # of a track's number: its id; None for WHOLE


class OpenAction(msgspec.Struct):
    """An action that may begin, goes on, or may be over."""

    since_us: int  # media time, when its probability came to `begin`
    p: float
    p_max: float
    window_us: int
    told: bool = False
    told_us: int = 0  # when it was last told of
    below_us: int | None = None  # since when it is below `end`


Doing = dict[int, dict[str, OpenAction]]  # track or WHOLE -> label -> action


def judge(
    doing: Doing, name: Name, actions: Actions, media_us: int, every_us: int
) -> list[ActionWhat]:
    """What a frame's actions tell: who is looked at no more, then row by row; changes `doing`."""
    ids = actions.ids.tolist()
    whats: list[ActionWhat] = [
        what for id_ in sorted(doing.keys() - set(ids)) for what in lose(doing, id_, name, "lost")
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
        open_ = doing.setdefault(id_, {})
        for label, p in zip(actions.labels, probabilities, strict=True):
            if label in actions.judgement.ignore:
                continue
            now = (round(p, 4), window_us, media_us)
            whats += _step(open_, label, name(id_), now, actions.judgement, every_us)
        if not open_:
            del doing[id_]
    return whats


def lose(doing: Doing, id_: int, name: Name, reason: ActionReason) -> list[ActionWhat]:
    """Nobody knows what they do from now on: what was told of them ends."""
    return [
        ActionEnd(_ended(label, action, name(id_), reason))
        for label, action in doing.pop(id_, {}).items()
        if action.told
    ]


def lose_all(
    doing: Doing, ids: Iterable[int], name: Name, reason: ActionReason
) -> list[ActionWhat]:
    return [what for id_ in ids for what in lose(doing, id_, name, reason)]


def _step(
    open_: dict[str, OpenAction],
    label: str,
    track: str | None,
    now: tuple[float, int, int],  # probability, window µs, media µs
    rule: Judgement,
    every_us: int,
) -> list[ActionWhat]:
    p, window_us, media_us = now
    action = open_.get(label)
    if action is None:
        if p < rule.begin:
            return []
        action = open_[label] = OpenAction(media_us, p, p, window_us)
    action.p, action.p_max, action.window_us = p, max(p, action.p_max), window_us
    if not action.told:
        if p < rule.begin:
            del open_[label]
            return []
        if media_us - action.since_us < rule.min_us:
            return []
        action.told, action.told_us = True, media_us
        return [ActionBegin(_told(label, action, track))]
    if p >= rule.end:
        action.below_us = None
    elif action.below_us is None:
        action.below_us = media_us
    if action.below_us is not None and media_us - action.below_us >= rule.min_us:
        del open_[label]
        return [ActionEnd(_ended(label, action, track, "over"))]
    if media_us - action.told_us < every_us:
        return []
    action.told_us = media_us
    return [ActionUpdate(_told(label, action, track))]


def _told(label: str, action: OpenAction, track: str | None) -> Action:
    return Action(
        label=label,
        p=action.p,
        window_us=action.window_us,
        since_us=action.since_us,
        track=track,
    )


def _ended(label: str, action: OpenAction, track: str | None, reason: ActionReason) -> EndedAction:
    return EndedAction(
        label=label,
        p=action.p,
        p_max=action.p_max,
        window_us=action.window_us,
        since_us=action.since_us,
        track=track,
        reason=reason,
    )
