"""Logs that grow while a bridge reads them, and bridges as processes."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import msgspec
from event_logs import track_of
from waiting import PATIENCE_S

from streamvis.events.envelope import Event, FrameRef, Time, encode, event_id, new_epoch
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.events.source_events import Finish, SourceEof, SourceOnline, Stream
from streamvis.stages.track.events import EndedTrack, TrackBegin, TrackEnd, TrackUpdate

BOX = (10.0, 20.0, 30.0, 80.0)
ONLINE = SourceOnline(Stream(label="gate", w=640, h=480))


class GrowingLog:
    """Writes events of several sources, as a publisher does."""

    def __init__(self, path, epoch=None):
        self.writer = LogWriter(path)
        self.epoch = epoch or new_epoch()
        self.next = {}
        self.rows = []

    def write(self, source, *whats, n=None, media_us=None, ending="", stream_epoch=1):
        """Commit these event bodies in one transaction."""
        rows = []
        for what in whats:
            offset = self.next.get(source, 0)
            self.next[source] = offset + 1
            now_us = time.time_ns() // 1000
            number = offset if n is None else n
            event = Event(
                id=event_id(self.epoch, source, offset, now_us),
                source=source,
                epoch=self.epoch,
                tseq=offset + 1,
                offset=offset,
                time=Time(
                    media_us=40_000 * number if media_us is None else media_us, emit_us=now_us
                ),
                frame=FrameRef(n=number, seq=number, w=640, h=480, stream_epoch=stream_epoch),
                what=what,
            )
            media = event.time.media_us
            rows.append(Row(source, offset, offset + 1, event.type, media, encode(event)))
        cursor = Cursor(source, self.epoch, 0, self.next[source], ending, b"")
        self.writer.commit(rows, [cursor])
        self.rows += rows
        return rows

    def walk(self, source, number):
        """A person who comes, walks and leaves, in three transactions."""
        self.write(source, begin(source, number))
        self.write(source, update(source, number), update(source, number))
        self.write(source, end(source, number))

    def finish(self, *sources):
        for source in sources:
            self.write(source, SourceEof(Finish(1)), ending="eof")

    def close(self):
        self.writer.close()


@contextmanager
def growing(path):
    with closing(GrowingLog(path)) as log:
        yield log


def track(source, number, box=BOX):
    return msgspec.structs.replace(track_of(number, box), id=f"{source}:1:{number}")


def begin(source, number, box=BOX):
    return TrackBegin(track(source, number, box))


def update(source, number, box=BOX):
    return TrackUpdate(track(source, number, box))


def end(source, number, into=None):
    ended = EndedTrack(
        id=f"{source}:1:{number}",
        reason="lost",
        box_px=BOX,
        first_seen_us=0,
        last_seen_us=1,
        age_s=0.0,
        into=into,
    )
    return TrackEnd(ended)


class BridgeProcess:
    """`streamvis bridge …` in a process of its own."""

    def __init__(self, *arguments, stdout=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamvis", "bridge", *map(str, arguments)],
            stdout=stdout or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        os.set_blocking(self.process.stderr.fileno(), False)
        self._said = ""

    @property
    def said(self):
        """What it wrote on stderr so far."""
        if not self.process.stderr.closed:
            self._said += (self.process.stderr.read() or b"").decode()
        return self._said

    def wait_for(self, pattern):
        return wait_until(lambda: re.search(pattern, self.said), lambda: self.said)

    def stop(self, signum=signal.SIGTERM):
        """Send the signal, and return the exit code."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self):
        try:
            code = self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            _ = self.said
            self.process.stderr.close()
        return code

    def kill(self):
        return self.stop(signal.SIGKILL)


@contextmanager
def bridge(*arguments, **options):
    running = BridgeProcess(*arguments, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()
        elif not running.process.stderr.closed:
            running.process.stderr.close()


def wait_until(condition, why=lambda: ""):
    deadline = time.monotonic() + PATIENCE_S
    while not (result := condition()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)
    return result


def deduplicated(items):
    """The items without those that are equal to an earlier one."""
    return list(dict.fromkeys(items))
