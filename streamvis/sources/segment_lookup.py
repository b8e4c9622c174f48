"""Pictures of a recorded segment by the media times that are beside it."""

from bisect import bisect_right
from pathlib import Path

from av.error import FFmpegError

from streamvis.errors import SourceError
from streamvis.recording.picture_times import read_times
from streamvis.sources.container import open_container, video_stream
from streamvis.sources.index import DisorderError, KeyFrames
from streamvis.sources.lookup import FileDecoder, FoundPicture
from streamvis.sources.spec import SourceSpec


class SegmentLookup:
    """An open segment, which may still be written: what is there when it is opened."""

    def __init__(self, path: Path) -> None:
        """Open the file; SourceError when it has no pictures of known times."""
        self._spec = SourceSpec(id="segment", uri=str(path), kind="file")
        times = read_times(path)
        self._keys = KeyFrames()
        try:
            stamps = self._stamps()
        except (DisorderError, FFmpegError, IndexError):
            raise SourceError(f"{path}: its time stamps are in no order") from None
        known = sorted((us, stamps[n]) for n, us in times.items() if n < len(stamps))
        if not known:
            raise SourceError(f"{path} has no picture whose media time is known")
        self._times = [us for us, _ in known]
        self._known = [stamp for _, stamp in known]
        self._media_us = {stamp: us for us, stamp in known}
        self._decoder = FileDecoder(self._spec)

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        """Return the picture of a media time, or the newest before it that can be decoded."""
        place = max(0, bisect_right(self._times, media_us) - 1)
        try:
            frame = self._decoder.frame(self._known[place], self._keys, give_up_s)
            while frame.pts not in self._media_us:  # the run has not decoded it
                place -= 1
                if place < 0:
                    raise DisorderError
                frame = self._decoder.frame(self._known[place], self._keys, give_up_s)
            return FoundPicture(self._media_us[frame.pts], self._decoder.pixels(frame))
        except DisorderError:
            raise SourceError(
                f"{self._spec.uri} has no picture at {media_us} us that can be decoded"
            ) from None

    def close(self) -> None:
        self._decoder.close()

    def _stamps(self) -> list[int]:
        """Return the stamps of the packets, by their number."""
        found = []
        with open_container(self._spec) as container:
            stream = video_stream(container, self._spec.label)
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.pts is None:
                    raise DisorderError
                found.append(packet.pts)
                if packet.is_keyframe:
                    self._keys.add(packet.pts, packet.pts if packet.dts is None else packet.dts)
        return found
