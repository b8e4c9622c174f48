"""The media time of a source that is connected again: it goes on over stream epochs."""

import time

import msgspec

from streamvis.sources.picture import Picture


class MediaTime:
    """Moves the pictures of one connection to the media time of their source.

    Each connection counts from 0. The first picture is placed where the source would be, had it
    not been lost: after the last picture before it, and at real time.
    """

    def __init__(self, last_us: int = -1, zero_s: float | None = None) -> None:
        """Continue after `last_us`, -1 for none, of a source whose media time 0 was at `zero_s`."""
        self.shift_us = 0  # media time of the source − that of the connection
        self._last_us = last_us
        self._zero_s = zero_s
        self._begun = False

    def continued(self, picture: Picture, arrived_s: float | None = None) -> Picture:
        """Return the picture at the media time of the source; it arrived at `arrived_s`, or now."""
        if not self._begun:
            self._begun = True
            if self._last_us >= 0:
                self.shift_us = self._due_us(arrived_s) - picture.media_us
        if self.shift_us == 0:
            return picture
        return msgspec.structs.replace(picture, media_us=picture.media_us + self.shift_us)

    def _due_us(self, arrived_s: float | None) -> int:
        after_last_us = self._last_us + 1
        if self._zero_s is None:
            return after_last_us
        arrived_s = time.monotonic() if arrived_s is None else arrived_s
        return max(after_last_us, round((arrived_s - self._zero_s) * 1e6))
