"""A publisher without a run: its site, what it is given, and what it has logged."""

import msgspec
import numpy as np
from factories import packet, source, tracks

from streamvis.config import Forecaster, Jipda, Segment
from streamvis.events.envelope import Provenance
from streamvis.events.log import LogReader
from streamvis.messages import Notice
from streamvis.stages import event_codec
from streamvis.stages.protocol import Site

EPOCH = "01999c82-3d00-7a54-b1d5-0c6d2a7f9e11"
SEGMENT = Segment()


def site_at(out, epoch=EPOCH, segment=SEGMENT):
    return Site(
        device="cpu",
        pixels=lambda frame: None,
        out=out,
        epoch=epoch,
        pipeline="abc",
        above=(Jipda(), segment, Forecaster()),
    )


def info_of(name):
    return source(name, label=f"{name}.mp4")


def tracks_of(ids, ended=(), **corrections):
    boxes = np.array([[10.0 + i, 20, 30 + i, 80] for i in ids]).reshape(-1, 4)
    return tracks(ids, boxes, scores=0.9, existence=0.97, ended=ended, **corrections)


def packet_of(source, seq, epoch=1, ids=(1,), ended=(), **corrections):
    part = None if ids is None else tracks_of(ids, ended, **corrections)
    return packet(seq, part, source=source, epoch=epoch)


def notice_of(source, kind, reason=""):
    return Notice(source=source, kind=kind, media_us=300_000, reason=reason)


def do(stage, step):
    if isinstance(step, Notice):
        stage.notice(step)
    elif isinstance(step, tuple):
        stage.finish(*step)
    else:
        stage(step)


def logged(out):
    with LogReader(out / "events.db") as log:
        return {
            source: [event_codec().decode(row.payload) for row in log.events(source)]
            for source in log.cursors()
        }


def content(event):
    """The event without what differs between two runs of one file: names, clocks and devices."""
    bare = msgspec.structs.replace(event.time, capture_us=0, emit_us=0)
    prov = Provenance(pipeline=event.prov.pipeline)
    return msgspec.structs.replace(event, id="", epoch="", time=bare, prov=prov, attachments=())


def contents(out):
    return {source: [content(e) for e in events] for source, events in logged(out).items()}
