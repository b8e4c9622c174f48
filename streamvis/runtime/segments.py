"""The shared memory of a run: a segment for each source, and older ones until they are unused."""

from streamvis.runtime.state import Stream
from streamvis.transport.slots import Segment


class Segments:
    """Creates and closes the segments of all sources."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._segments: dict[str, list[Segment]] = {}  # by source, the newest last

    def fit(self, stream: Stream, width: int, height: int) -> list[str] | None:
        """Create slots for pictures of this size; None when the present ones are large enough."""
        size = width * height * 3
        segments = self._segments.setdefault(stream.name, [])
        if segments and segments[-1].size >= size and stream.slots:
            return None  # without slots it is another source of that name, which begins anew
        what = f"source '{stream.name}' ({width}×{height})"
        segment = Segment(self._window, size, what)
        segments.append(segment)
        self.tidy(stream)
        return segment.slots

    def size(self, source: str) -> int:
        """Return the bytes of each slot of the newest segment."""
        return self._segments[source][-1].size

    def tidy(self, stream: Stream) -> None:
        """Close segments without frames in flight: older ones, and all of a finished source."""
        segments = self._segments.get(stream.name, [])
        used = {
            in_flight.frame.slot.partition(":")[0] for in_flight in stream.frames_in_flight.values()
        }
        newest = None if stream.done or not segments else segments[-1]
        for segment in list(segments):
            if segment is not newest and segment.name not in used:
                segments.remove(segment)
                segment.close()

    def close(self) -> None:
        for segments in self._segments.values():
            while segments:
                segments.pop().close()
