"""A feed that says something of each source again and again."""

import itertools
import threading
from contextlib import closing, contextmanager

from streamvis.events.envelope import Event, Time, encode
from streamvis.events.feed import Feed, Message
from streamvis.events.source_events import Gap, SourceGap

EPOCH = "01999c82-3d00-7a54-b1d5-0c6d2a7f9e11"


def event_of(tseq, source="cam1", epoch=EPOCH):
    """Events of the family `source` stand in for all."""
    return Event(
        id=f"{source}-{tseq}",
        source=source,
        epoch=epoch,
        tseq=tseq,
        offset=tseq - 1,
        time=Time(media_us=tseq),
        what=SourceGap(Gap(first=0, last=0, reason="")),
    )


@contextmanager
def publishing(*sources):
    """A feed that says something of each source again and again."""
    stop = threading.Event()
    with closing(Feed("tcp://127.0.0.1:*", epoch=EPOCH)) as feed:
        for source in sources:
            feed.open_source(source)

        def publish():
            for tseq in itertools.count(1):
                for source in sources:
                    payload = encode(event_of(tseq, source))
                    feed.publish([Message(source, "source", tseq, payload)])
                if stop.wait(0.002):
                    return

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield feed.endpoint
        finally:
            stop.set()
            thread.join()
