"""The life of a source: connecting, online, stalled, offline, ended. Pure, as `routing` is.

A file is opened once. A camera or stream that is lost, refused or absent is tried again after a
pause, each time by a decode process of its own, and holds nobody back. With each reconnect begins
a stream epoch; media time goes on near real time.
"""

import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from streamvis.config import StageSpec
from streamvis.messages import Ending, Notice, SourceInfo
from streamvis.runtime import checkpoint, protocol
from streamvis.runtime.flow import Flow
from streamvis.runtime.gaps import Gap, notice_of
from streamvis.runtime.state import (
    InFlightFrame,
    SourceState,
    Stream,
    decoder_name,
    frame_of,
    node_of,
    stages_to_skip,
    too_many_exits,
)
from streamvis.runtime.supervision import Limits, ProcessSlot, advance, kill, record_exit, stop
from streamvis.sources.picture import StreamStats

STEADY_S = 10.0  # after frames for so long, the next pause is the shortest again
LOGGED = (
    "overload",
    "decode",
    "skipped",
    "poison",
    "lost",
)  # reasons of gaps in the operator's log …
BURST_S = 60.0  # … with an entry for each source in so long, which sums them up
FROZEN_S = 10.0  # without a heartbeat of its decode process an online source counts as stalled
SLACK_S = 10.0  # beyond the time-outs of the decode process, which should come first


class LifeCycle:
    """Opens, loses, reopens and ends the sources of a run."""

    def __init__(
        self,
        flow: Flow,
        limits: Limits,
        timed: Sequence[StageSpec],
        chance: random.Random | None = None,
    ) -> None:
        self.skipped: Counter[str] = Counter()  # by stage
        self._flow = flow
        self._streams = flow.streams
        self._limits = limits
        self._timed = timed
        self._waits = [len(group.parents) for group in flow.groups]
        self._chance = chance or random.Random()

    # messages of the decode process

    def opening(self, stream: Stream, at: float) -> None:
        """Have the decode process open the source."""
        reconnect = stream.reconnect
        if reconnect is not None:
            stream.deadline = at + reconnect.open_s + reconnect.read_s + SLACK_S
            if stream.absent_since is None:
                stream.absent_since = at
            stream.state_at = stream.state_at or at
            self._change(stream, "connecting", "", at)
        after_n = min([stream.last_n, *(n - 1 for n in _lost(stream))])
        stream.sent_n = after_n
        order = protocol.OpenSource(
            stream.name, stream.epoch, after_n, _last_us(stream), stream.zero_s
        )
        self._flow.orders.append(order)

    def wait(self, stream: Stream, reason: str, at: float) -> None:
        """Note why a source that is connected has no picture yet."""
        stream.reason = reason
        stream.deadline = at + SLACK_S

    def silence(self, stream: Stream, silence: protocol.Silence, at: float) -> None:
        """Mark the source as stalled, or as online again."""
        if stream.reconnect is None or stream.info is None or stream.finishing:
            return
        if stream.state == "offline":
            return
        if silence.over:
            stream.deadline = float("inf")
            if stream.state == "stalled":
                self._change(stream, "online", "", at, stream.info)
        else:
            stream.deadline = at + 2 * stream.reconnect.read_s + SLACK_S
            reason = f"nothing received for {silence.seconds:.1f} s"
            self._change(stream, "stalled", reason, at)

    def heartbeat(self, stream: Stream, at: float) -> None:
        """Mark a source whose decode process stood still as online again."""
        if stream.frozen:
            stream.frozen = False
            if stream.state == "stalled" and stream.info is not None:
                self._change(stream, "online", "", at, stream.info)

    def opened(self, stream: Stream, info: SourceInfo, at: float) -> None:
        """Begin the source, or its next stream epoch."""
        self._flow.open_queues(stream)
        if stream.known_zones is None:
            stream.known_zones = stream.zones
        known = stream.info
        # a stage without a state gets all since the first opening again, changes of zones included
        first = stream.known_zones if known is None or known.zones is None else known.zones
        stream.info = info = msgspec.structs.replace(info, zones=first)
        stream.open = stream.process.state == "ready"
        stream.deadline = float("inf")
        if stream.epoch != stream.known_epoch:
            self._next_epoch(stream, at)
        if known is not None and stream.state != "online":
            stream.reconnects += stream.reconnect is not None
        stream.absent_since, stream.online_at = None, at
        self._change(stream, "online", "", at, info)

    def admit(
        self, stream: Stream, decoded: protocol.DecodedFrame, at: float, *, draining: bool
    ) -> None:
        """Admit a picture; it was granted the slot it is in, or its process is killed."""
        if stream.ending is not None and not stream.lost:  # it was sent before the process was
            return  # stopped
        if decoded.slot not in stream.granted:
            reason = f"it wrote to slot {decoded.slot!r}, which it was not granted"
            self._flow.orders.append(kill(stream.process, reason))
            return
        if not stream.live:
            stream.sent_n = decoded.n
            if decoded.n <= stream.last_n:
                self._decoded_again(stream, decoded, at)
                return
        for gap in decoded.gaps:
            stream.count(gap)
        stream.granted.remove(decoded.slot)
        stream.errors = decoded.errors
        if draining:  # it was written before the decode process was stopped
            stream.count(Gap("drained", 1, decoded.n, decoded.n))
            return
        if stream.live:
            self._follow(stream, decoded, at)
        # a live source counts by arrival; a file by media time, so that every run is the same
        now_s = at if stream.live else decoded.media_us / 1e6
        self._notify_gaps(stream, stream.gaps.take(now_s), at)
        self._notify_zones(stream, at)
        frame = frame_of(stream, decoded)
        skip = stages_to_skip(stream, self._timed, decoded.media_us, suspect=decoded.suspect)
        if skip:
            self.skipped.update(skip)
        groups = self._flow.groups
        in_flight = InFlightFrame(frame, at, stream.last_us, skip, self._waits.copy(), len(groups))
        in_flight.node = node_of(decoded.slot)
        stream.admitted += 1
        stream.admitted_at = at
        stream.suspect += decoded.suspect
        stream.clock = decoded.clock
        stream.last_n, stream.last_us = decoded.n, decoded.media_us
        checkpoint.schedule(stream, at, self._limits)
        self._flow.admit(stream, in_flight, at)

    def _decoded_again(self, stream: Stream, decoded: protocol.DecodedFrame, at: float) -> None:
        """Use a picture that was admitted before, if a frame in flight has lost its pixels."""
        stream.granted.remove(decoded.slot)
        if not self._flow.restore(stream, decoded, at):
            stream.free.append(decoded.slot)

    def lost(self, stream: Stream, at: float) -> None:
        """Have the pictures decoded again whose pixels are gone; of a live source, give them up."""
        if not stream.lost:
            return
        process = stream.process
        if stream.live or stream.ending in ("failed", "drained"):
            self._give_up_lost(stream, at)
        elif process.state == "gone":
            process.retiring = False
            process.state, process.due = "waiting", at
            self._order(advance(process, at, self._limits))
        elif process.state == "ready" and min(_lost(stream)) <= stream.sent_n:
            self._order(kill(process, "pixels that it has decoded are gone"))

    def _give_up_lost(self, stream: Stream, at: float) -> None:
        for in_flight in [one for one in stream.frames_in_flight.values() if one.lost]:
            self._flow.give_up(in_flight, "lost", at)

    def _follow(self, stream: Stream, decoded: protocol.DecodedFrame, at: float) -> None:
        """Note what has changed within a live stream: its time line or its size."""
        if stream.zero_s is None:
            arrived_s = at if decoded.arrived_s is None else decoded.arrived_s
            stream.zero_s = arrived_s - decoded.media_us / 1e6
        info = stream.known
        if decoded.restarted:
            stream.epoch += 1
            stream.info = info = msgspec.structs.replace(info, epoch=stream.epoch)
            stream.why_epoch = "its time stamps began anew"
            self._next_epoch(stream, at)
            self._log(stream, "source restarted", reason=stream.why_epoch, epoch=stream.epoch)
        if (decoded.width, decoded.height) != (info.width, info.height):
            before = f"{info.width}x{info.height}"
            info = msgspec.structs.replace(info, width=decoded.width, height=decoded.height)
            stream.info = info
            self._notify(stream, "online", "", at, info)
            now = f"{info.width}x{info.height}"
            self._log(stream, "source changed its size", before=before, now=now)

    def measured(self, stream: Stream, stats: StreamStats) -> None:
        stream.stats = stats

    def saved(self, stream: Stream, clip: protocol.ClipSaved, at: float) -> None:
        """Report a clip that is complete, unless the stages have been sent the end."""
        if stream.finishing:
            return
        notice = Notice(
            source=stream.name,
            kind="clip",
            media_us=stream.last_us,
            path=clip.path,
            event=clip.event,
        )
        self._flow.notify(stream, notice, at)

    # failures

    def ended(self, stream: Stream, ended: protocol.SourceEnded, at: float) -> None:
        """End the source, or, if it is connected again when it is lost, this attempt."""
        if stream.lost and not stream.reconnects_when_lost:  # it did not come to them again
            self._give_up_lost(stream, at)
        if stream.ending is not None:
            self._order(stop(stream.process, at, self._limits.decode_stop_s))
            return
        for gap in ended.gaps:
            stream.count(gap)
        stream.errors = max(stream.errors, ended.errors)
        if stream.info is not None and ended.promised is not None:
            stream.info = msgspec.structs.replace(stream.info, promised=ended.promised)
        if ended.ending == "failed" and stream.reconnects_when_lost and _may_recover(ended.error):
            if not self._lost(stream, ended.message, at):
                self._flow.orders.append(kill(stream.process, ""))
            return
        if ended.ending == "failed":
            stream.error, stream.message = ended.error, ended.message
        self._order(stop(stream.process, at, self._limits.decode_stop_s))
        self.close(stream, ended.ending, at)

    def exited(self, stream: Stream, reason: str, at: float) -> None:
        """Plan the next attempt or the next process after the decode process has exited."""
        process = stream.process
        stream.free += sorted(stream.granted)
        stream.granted.clear()
        stream.open = False
        if process.retiring:
            process.state = "gone"
            self.close(stream, "drained", at)
            self.lost(stream, at)
            return
        if stream.reconnects_when_lost:
            self._plan(stream, reason, at)
        elif not record_exit(process, at, self._limits):
            stream.error = "RunError"
            stream.message = f"source '{stream.name}': {too_many_exits(reason, self._limits)}"
            self.close(stream, "failed", at)
            self._give_up_lost(stream, at)
        elif stream.live:
            self._leave_epoch(stream, "its decode process died")
        self._order(advance(process, at, self._limits))

    def _plan(self, stream: Stream, reason: str, at: float) -> None:
        """Plan the next attempt to connect."""
        process, reconnect = stream.process, stream.reconnect
        assert reconnect is not None
        if stream.state != "offline":
            process.restarts += 1
            failed = self._lost(stream, reason or "its decode process ended", at)
            if failed:
                process.state = "gone"
                return
        if stream.info is not None and stream.info.epoch == stream.epoch:
            self._leave_epoch(stream, "reconnected")
        pause_s = 0.0
        if stream.attempts > 0:
            pause_s = reconnect.pause_s(stream.attempts, self._chance.random())
        process.state, process.due = "waiting", at + pause_s

    def _lost(self, stream: Stream, reason: str, at: float) -> bool:
        """Mark the source as offline; True when it is given up."""
        reconnect = stream.reconnect
        assert reconnect is not None
        was_online = stream.state in ("online", "stalled")
        if was_online and stream.admitted_at - stream.online_at >= STEADY_S:
            stream.attempts = 0
        stream.attempts += 1
        stream.open = False
        stream.deadline = float("inf")
        if stream.absent_since is None:
            stream.absent_since = at
        absent_s = at - stream.absent_since
        if reconnect.give_up_s is not None and absent_s >= reconnect.give_up_s:
            stream.error = "SourceError"
            stream.message = f"{reason}; given up after {absent_s:.0f} s"
            self._order(stop(stream.process, at, self._limits.decode_stop_s))
            self.close(stream, "failed", at)
            return True
        self._change(stream, "offline", reason, at)
        return False

    def _leave_epoch(self, stream: Stream, why: str) -> None:
        stream.epoch += 1
        stream.last_n = -1
        stream.why_epoch = why
        stream.past_errors, stream.errors = stream.past_errors + stream.errors, 0
        stream.recorded += stream.stats.recorded_bytes
        stream.stats = StreamStats()

    def _next_epoch(self, stream: Stream, at: float) -> None:
        """Send the stages a notice of the stream epoch that begins."""
        stream.known_epoch = stream.epoch
        stream.turns.clear()
        self._notify_gaps(stream, stream.gaps.take_all(), at)
        self._notify(stream, "epoch", stream.why_epoch, at)

    # requests of the operator

    def add(self, fact: protocol.AddSource) -> Stream | None:
        """Add a source; None while one of this name is in the run."""
        before = self._streams.get(fact.source)
        if before is not None and not (before.done and before.process.state == "gone"):
            return None
        process = ProcessSlot(decoder_name(fact.source))
        stream = Stream(fact.source, process, reconnect=fact.reconnect, label=fact.label)
        stream.state_at = fact.at
        stream.zones = fact.zones
        if before is not None:
            stream.epoch = stream.known_epoch = before.epoch + 1
            stream.last_us, stream.zero_s = before.last_us, before.zero_s
        self._streams[fact.source] = stream
        self._log(stream, "source added", level="info", label=fact.label)
        self._order(advance(process, fact.at, self._limits))
        return stream

    def remove(self, stream: Stream, at: float) -> None:
        """End a source whatever its state; what is in flight is finished."""
        if stream.ending is not None:
            return
        self._log(stream, "source removed", level="info")
        stream.leaving = "removed"
        self.drain(stream, at)

    def drain(self, stream: Stream, at: float) -> None:
        """Stop the decode process; the source ends once it has, and its frames are answered."""
        if stream.ending is not None:
            return
        stream.open = False
        self._order(stop(stream.process, at, self._limits.decode_stop_s))
        if stream.process.state == "gone":
            self.close(stream, "drained", at)

    def restart(self, stream: Stream, fact: protocol.RestartSource) -> None:
        """Connect to a live source again, at once."""
        at = fact.at
        if stream.ending is not None or not stream.reconnects_when_lost:
            return
        if fact.reconnect is not None:
            stream.reconnect, stream.label = fact.reconnect, fact.label
        stream.attempts = 0
        if stream.process.state == "waiting":
            stream.process.due = at
            self._order(advance(stream.process, at, self._limits))
        elif stream.process.alive:
            stream.open = False
            stream.deadline = float("inf")
            self._change(stream, "offline", "restarted on request", at)
            self._flow.orders.append(kill(stream.process, ""))

    # time

    def tick(self, stream: Stream, at: float) -> None:
        """Report the gaps of a source that are due, and end its attempt without progress."""
        if stream.live:
            self._notify_gaps(stream, stream.gaps.take(at), at)
        if at >= self._frozen_due(stream):
            stream.frozen = True
            reason = f"no sign of life from its decode process for {FROZEN_S:g} s"
            self._change(stream, "stalled", reason, at)
        if at >= stream.deadline and stream.process.alive:
            stream.deadline = float("inf")
            reason = f"{stream.state} without progress; its decode process was killed"
            self._flow.orders.append(kill(stream.process, reason))

    def due(self, stream: Stream) -> float:
        """Return the time of the next decision of `tick` about a source."""
        deadline = stream.deadline if stream.process.alive else float("inf")
        gaps = stream.gaps.due_s() if stream.live else float("inf")
        return min(deadline, gaps, self._frozen_due(stream))

    def _frozen_due(self, stream: Stream) -> float:
        """Return the time from which an online source counts as stalled for want of heartbeats."""
        watched = stream.reconnect is not None and stream.state == "online" and not stream.frozen
        if not watched or stream.process.state != "ready":
            return float("inf")
        return stream.process.heartbeat_at + FROZEN_S

    # the end

    def close(self, stream: Stream, ending: Ending, at: float) -> None:
        """Mark the source as ended; `finish` ends it once its frames are answered."""
        if stream.ending is None:
            cut = ending == "eof" and stream.dropped.get("drained", 0) > 0
            stream.ending = "drained" if cut else ending
            if ending == "failed" and stream.reconnect is not None:
                self._log(stream, "source failed", level="error", reason=stream.message)

    def finish(self, stream: Stream, at: float) -> None:
        """Send the end of a source that has ended to all groups, once no frame is open."""
        if stream.ending is None:
            return
        if not stream.lost and not stream.process.retiring:  # it decoded lost pictures again
            self._order(stop(stream.process, at, self._limits.decode_stop_s))
        if not stream.done and not stream.frames_in_flight:
            self._finish(stream, stream.ending, at)

    def _finish(self, stream: Stream, ending: Ending, at: float) -> None:
        if not stream.finishing:
            stream.finishing = True
            if ending == "eof" and not stream.open_notices:
                state = checkpoint.state_of(stream, self._flow.states)
                self._flow.orders.append(protocol.SaveCheckpoint(stream.name, state))
            self._notify_gaps(stream, stream.gaps.take_all(), at)
            if ending != "eof":
                reason = stream.message or stream.leaving or "the run has ended"
                self._flow.open_queues(stream, followers=True)
                self._notify(stream, "offline", reason, at)
            self._flow.end(stream, ending, at)
        if stream.open_notices:
            return
        stream.done = True
        for queue in stream.queues.values():
            queue.replica.sources -= 1
        stream.state, stream.state_at = "ended", at
        stream.reason = stream.message or stream.leaving
        for key in [key for key in self._flow.states if key[1] == stream.name]:
            del self._flow.states[key]

    # notices

    def _change(
        self,
        stream: Stream,
        state: SourceState,
        reason: str,
        at: float,
        info: SourceInfo | None = None,
    ) -> None:
        """Change the state of the source; of one that reconnects, tell the stages and the log."""
        before, since_s = stream.state, at - stream.state_at
        if before != state or not stream.state_at:
            stream.state, stream.state_at = state, at
        stream.reason = reason
        if stream.reconnect is None:
            return
        self._flow.open_queues(stream, followers=True)
        self._notify(stream, state, reason, at, info)
        if state == "online":
            self._log(stream, "source online", level="info", before=before, after_s=round(since_s))
        elif state == "stalled":
            self._log(stream, "source stalled", reason=reason)
        elif state == "offline" and (
            before in ("online", "stalled") or stream.attempts & (stream.attempts - 1) == 0
        ):
            self._log(stream, "source offline", reason=reason, attempts=stream.attempts)

    def _notify(
        self, stream: Stream, kind: str, reason: str, at: float, info: SourceInfo | None = None
    ) -> None:
        notice = Notice(
            source=stream.name,
            kind=kind,  # type: ignore[arg-type]  # never "ended", of which there is an item
            media_us=stream.last_us,
            reason=reason,
            info=info,
        )
        self._flow.notify(stream, notice, at)

    def _notify_gaps(self, stream: Stream, gaps: Sequence[Gap], at: float) -> None:
        for gap in gaps:
            self._flow.notify(stream, notice_of(gap, stream.name, stream.last_us), at)
            if stream.live and gap.reason in LOGGED:
                stream.missing[gap.reason] = stream.missing.get(gap.reason, 0) + gap.count
        if stream.missing and at >= stream.missing_due:
            stream.missing_due = at + BURST_S
            fields = {"source": stream.name, **stream.missing}
            self._flow.orders.append(protocol.LogEntry("frames missing", fields))
            stream.missing = {}

    def _notify_zones(self, stream: Stream, at: float) -> None:
        """Send the stages the zones that were set, before the next frame that is not logged yet."""
        zones, known = stream.zones, stream.known_zones
        if zones is known or stream.admitted <= stream.logged:
            return
        stream.known_zones = zones
        if zones is not None and zones != known:
            notice = Notice(source=stream.name, kind="zones", media_us=stream.last_us, zones=zones)
            self._flow.notify(stream, notice, at)
            stream.save_due = at  # a run that is killed resumes with them

    def _log(
        self, stream: Stream, event: str, *, level: protocol.Level = "warning", **fields: object
    ) -> None:
        entry = protocol.LogEntry(event, {"source": stream.name, **fields}, level)
        self._flow.orders.append(entry)

    def _order(self, order: protocol.Order | None) -> None:
        if order is not None:
            self._flow.orders.append(order)


def _lost(stream: Stream) -> list[int]:
    """Return the numbers of the pictures in flight whose pixels are gone."""
    return [one.frame.n for one in stream.frames_in_flight.values() if one.lost]


def _last_us(stream: Stream) -> int:
    """Return the media time from which a live source goes on; -1 for the first and for files."""
    return stream.last_us if stream.zero_s is not None or (stream.live and stream.admitted) else -1


def _may_recover(error: str) -> bool:
    """Whether an error of this class may be gone at the next attempt."""
    return error == "SourceError"
