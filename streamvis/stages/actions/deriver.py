"""Derive the events of actions by hysteresis in probability and in media time. Pure.

An action begins after its probability has been at least `begin` for `min_us`, and is over after it
has been below `end` for `min_us`. Rows that are not warm change nothing. The actions of a subject
that is no longer observed end as lost.
"""

import msgspec

from streamvis.events.deriver import Draft, FrameEvents, PublishPolicy
from streamvis.events.envelope import EventBody, Reason
from streamvis.messages import (
    Actions,
    ActionThresholds,
    Findings,
    Packet,
    SourceInfo,
    Tracks,
)
from streamvis.stages.actions.events import (
    Action,
    ActionBegin,
    ActionEnd,
    ActionReason,
    ActionUpdate,
    EndedAction,
)
from streamvis.stages.hysteresis import Hysteresis, ended_with_tracks

WHOLE = 0  # instead of a track's number: the whole frame


class OpenAction(msgspec.Struct):
    """An action that may begin, is open, or may end."""

    hysteresis: Hysteresis
    p: float
    p_max: float
    window_us: int
    published_us: int = 0  # when it was last published


class ActionEventState(msgspec.Struct):
    """The state of the action events of one source."""

    source: str
    epoch: int  # stream epoch
    open: dict[int, dict[str, OpenAction]] = {}  # track or WHOLE -> label -> action
    begun: dict[str, int] | None = None  # label -> how often one began; None: no frame had actions


class ActionDeriver:
    """Derives the events of actions of one source, and counts them."""

    def __init__(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> None:
        self.policy = policy
        self._state = (
            ActionEventState(source.id, source.epoch)
            if state is None
            else msgspec.msgpack.decode(state, type=ActionEventState)
        )

    def derive(self, packet: Packet) -> FrameEvents:
        """Return ends with tracks, then ends of subjects no longer observed, then row by row."""
        state, tracks, actions = self._state, packet.part(Tracks), packet.part(Actions)
        state.epoch = packet.frame.epoch
        ends = [] if tracks is None else self._end(ended_with_tracks(tracks), "lost")
        if actions is None:
            return FrameEvents(ends=ends)
        gone = sorted(state.open.keys() - set(actions.ids.tolist()))
        bodies = self._end(gone, "lost") + self._observed(actions, packet.frame.media_us)
        begun = state.begun = {} if state.begun is None else state.begun
        for what in bodies:
            if isinstance(what, ActionBegin):
                begun[what.action.label] = begun.get(what.action.label, 0) + 1
        return FrameEvents(ends=ends, drafts=[Draft(what) for what in bodies])

    def close(self, reason: Reason) -> list[EventBody]:
        """End all open actions."""
        return self._end(sorted(self._state.open), reason)

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings with the number of actions that began."""
        if self._state.begun is None:
            return so_far
        return msgspec.structs.replace(so_far, actions=self._state.begun)

    def state(self) -> bytes:
        """Return open actions and counts."""
        return msgspec.msgpack.encode(self._state)

    def _observed(self, actions: Actions, media_us: int) -> list[EventBody]:
        rows = zip(
            actions.ids.tolist(),
            actions.probabilities.tolist(),
            (actions.warm & actions.sampled).tolist(),
            actions.window_us.tolist(),
            strict=True,
        )
        bodies: list[EventBody] = []
        for id_, probabilities, decides, window_us in rows:
            if not decides:
                continue
            open_labels = self._state.open.setdefault(id_, {})
            for label, p in zip(actions.labels, probabilities, strict=True):
                if label not in actions.thresholds.ignore:
                    now = (round(p, 4), window_us, media_us)
                    bodies += self._step(id_, label, now, actions.thresholds)
            if not open_labels:
                del self._state.open[id_]
        return bodies

    def _step(
        self,
        id_: int,
        label: str,
        now: tuple[float, int, int],  # probability, window µs, media µs
        rule: ActionThresholds,
    ) -> list[EventBody]:
        (p, window_us, media_us), open_labels = now, self._state.open[id_]
        action = open_labels.get(label)
        if action is None:
            if p < rule.begin:
                return []
            action = open_labels[label] = OpenAction(Hysteresis(media_us), p, p, window_us)
        action.p, action.p_max, action.window_us = p, max(p, action.p_max), window_us
        match action.hysteresis.step(
            media_us, rule.min_us, begins=p >= rule.begin, ends=p < rule.end
        ):
            case "dropped":
                del open_labels[label]
            case "begin":
                action.published_us = media_us
                return [ActionBegin(self._as_action(id_, label, action))]
            case "end":
                del open_labels[label]
                return [ActionEnd(self._as_ended(id_, label, action, "over"))]
            case "open" if media_us - action.published_us >= self.policy.every_us:
                action.published_us = media_us
                return [ActionUpdate(self._as_action(id_, label, action))]
        return []

    def _end(self, ids: list[int], reason: ActionReason) -> list[EventBody]:
        """End the open actions of these subjects."""
        return [
            ActionEnd(self._as_ended(id_, label, action, reason))
            for id_ in ids
            for label, action in self._state.open.pop(id_, {}).items()
            if action.hysteresis.begun
        ]

    def _track(self, id_: int) -> str | None:
        """Return the id of a track; None for the whole frame."""
        return None if id_ == WHOLE else f"{self._state.source}:{self._state.epoch}:{id_}"

    def _as_action(self, id_: int, label: str, action: OpenAction) -> Action:
        return Action(
            label=label,
            p=action.p,
            window_us=action.window_us,
            since_us=action.hysteresis.since_us,
            track=self._track(id_),
        )

    def _as_ended(
        self, id_: int, label: str, action: OpenAction, reason: ActionReason
    ) -> EndedAction:
        return EndedAction(
            label=label,
            p=action.p,
            p_max=action.p_max,
            window_us=action.window_us,
            since_us=action.hysteresis.since_us,
            track=self._track(id_),
            reason=reason,
        )
