"""What a run found, from its events alone, with all of them in memory."""

from collections import Counter

from streamvis.stages.track.corrections import Corrections
from streamvis.stages.track.events import TrackBegin, TrackMerge, TrackSplit, TrackUpdate


def counted(events):
    """People, ids, merges, splits, the longest stay, and the busiest moment and when."""
    corrections = Corrections(events)
    sights = [event for event in events if isinstance(event.what, TrackBegin | TrackUpdate)]
    times = {}
    for event in sights:
        times.setdefault(corrections.track_id(event), []).append(event.time.media_us)
    crowds = Counter((e.frame.stream_epoch, e.time.media_us) for e in sights)
    return {
        "people": len(times),
        "tracks": len({e.what.track.id for e in sights if isinstance(e.what, TrackBegin)}),
        "merges": sum(isinstance(event.what, TrackMerge) for event in events),
        "splits": sum(len(e.what.splits) for e in events if isinstance(e.what, TrackSplit)),
        "longest": max(((max(t) - min(t)) / 1e6 for t in times.values()), default=None),
        "busiest": max(crowds.values(), default=None),
        "when": next((k[1] for k, n in crowds.items() if n == max(crowds.values())), None),
    }
