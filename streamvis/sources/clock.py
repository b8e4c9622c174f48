"""Media time: a stream's time stamps as strictly increasing microseconds from its first picture."""

STILL = 2  # repetitions of a stamp in a row that show it is never set
JITTER_US = 1_000_000  # stamps this far back are out of order; further back, they were reset
LEAP_US = 3_600_000_000  # stamps this far ahead are a fault of the stream, not a pause in it


class MediaClock:
    """Gives each picture its media time, whatever its stamp is.

    A stamp counts from the first one. Where there is none, time goes on by the picture's nominal
    duration; so it does where stamps stand still. A stamp out of order by less than a second comes
    one microsecond after the last picture. One that goes back further, or an hour ahead, shows
    that stamps were reset: time goes on by the nominal duration, and the stamps that follow count
    from there; so it is where the stamps are known to have `restarted`. Where only some pictures
    have a stamp (`partial`), it may be that of a neighbour: time goes on by the nominal duration,
    until it is off by more than that.
    """

    def __init__(self) -> None:
        self.last_us: int | None = None
        self._zero_us: int | None = None  # the stamp of media time 0
        self._stamp_us: int | None = None  # the last one
        self._repeated = 0  # how often in a row it has come again

    def tell(
        self,
        stamp_us: int | None,
        nominal_us: int,
        *,
        restarted: bool = False,
        partial: bool = False,
    ) -> int:
        """The media time of the next picture, from its stamp and its nominal duration."""
        expected = 0 if self.last_us is None else self.last_us + max(nominal_us, 1)
        if stamp_us is not None and self._zero_us is not None:
            off = stamp_us - self._zero_us - expected
            if restarted and off + nominal_us <= 0:
                self._zero_us = stamp_us - expected
            elif partial and abs(off) < 1.5 * nominal_us:
                stamp_us = None
        self.last_us = self._placed(stamp_us, expected)
        return self.last_us

    def _placed(self, stamp_us: int | None, expected: int) -> int:
        if stamp_us is None:
            return expected
        self._repeated = self._repeated + 1 if stamp_us == self._stamp_us else 0
        self._stamp_us = stamp_us
        if self._zero_us is None or self.last_us is None or self._repeated >= STILL:
            self._zero_us = stamp_us - expected
            return expected
        ahead = stamp_us - self._zero_us - self.last_us
        if -JITTER_US < ahead <= 0:
            return self.last_us + 1
        if 0 < ahead < LEAP_US:
            return self.last_us + ahead
        self._zero_us = stamp_us - expected
        return expected
