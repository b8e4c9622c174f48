"""Media time: a stream's time stamps as strictly increasing microseconds from its first picture."""

STILL = 2  # repetitions of a stamp in a row from which it counts as missing
JITTER_US = 1_000_000  # stamps this far back are out of order; further back, they were reset
LEAP_US = 3_600_000_000  # stamps this far ahead are a fault of the stream, not a pause in it


class MediaClock:
    """Derives strictly increasing media times from time stamps that may be broken.

    Media time is the stamp minus the first stamp. Without a stamp, and where stamps repeat, it
    advances by the picture's nominal duration. A stamp out of order by less than a second gives the
    last media time plus one microsecond. One further back, or an hour ahead, or `restarted`, means
    that stamps were reset: media time advances by the nominal duration, and later stamps count from
    there. Where only some pictures have a stamp (`partial`), it may belong to a neighbour: media
    time advances by the nominal duration until it differs from the stamp by more than that.
    """

    def __init__(self) -> None:
        self.last_us: int | None = None
        self._zero_us: int | None = None  # the stamp of media time 0
        self._stamp_us: int | None = None  # the last one
        self._repeated = 0  # repetitions of it in a row

    def media_us_of(
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


OFF_US = 5_000_000  # stamps of a live source this far from arrival are ignored
AGREED = 3  # … unless this many in a row agree with each other
AGREE_US = 500_000  # tolerance of the agreement: pictures do not arrive evenly
RESTART_US = 60_000_000  # for how long a timeline lasts whose end is a restart of the stream
LATE_US = 1_000_000  # how long a burst of delayed pictures may last
DRIFT = 0.0005  # of two clocks against each other, at most


class LiveClock:
    """Derives the media time of live pictures from their stamps, close to their arrival.

    Cameras and recorders send stamps that jump or repeat. A stamp is used while it is within five
    seconds of the time expected from arrivals; otherwise the arrival replaces it. Three such stamps
    in a row that agree with each other start a new timeline. Delayed pictures that arrive in a
    burst with increasing stamps keep them. The expected time follows the drift of the camera clock.

    A timeline over five seconds further back is a restart of the camera (`restarted`), unless the
    one before lasted less than a minute: recorders jump back every few seconds.
    """

    def __init__(self) -> None:
        self.last_us: int | None = None
        self._zero_us = 0  # the stamp of media time 0; 0 until there is one
        self._origin_us = 0.0  # the arrival of media time 0
        self._began_us = 0  # the first arrival
        self._arrived_us = 0  # the last one
        self._stamp_us: int | None = None  # the last one
        self._repeated = 0  # repetitions of it in a row
        self._other_zero_us = 0  # of a timeline that may be a new one
        self._agreed = 0  # how many stamps in a row speak for it
        self._late_since_us: int | None = None
        self._good_us = 0  # the last stamp that was believed
        self._changed_us: int | None = None  # arrival when a new timeline was last accepted
        self.restarted = False  # with the last picture

    def media_us_of(self, stamp_us: int | None, arrival_us: int, nominal_us: int = 0) -> int:
        """The media time of the next picture, from its stamp and from when it arrived.

        The nominal duration counts only before the first stamp, when a camera begins without one.
        """
        self.restarted = False
        if self.last_us is None:
            self._began_us = self._arrived_us = arrival_us
            self._origin_us = float(arrival_us)
            self._zero_us, self._stamp_us = stamp_us or 0, stamp_us
            self.last_us = 0
            return 0
        pause_us = max(arrival_us - self._arrived_us, 0)
        self._arrived_us = max(arrival_us, self._arrived_us)
        expected = round(self._arrived_us - self._origin_us)
        if self._stamp_us is None and stamp_us is not None:  # the first one
            self._zero_us = stamp_us - max(expected, self.last_us + max(nominal_us, 1))
        placed = self._placed(stamp_us, expected, pause_us)
        self.last_us = max(placed, self.last_us + 1)
        return self.last_us

    def _placed(self, stamp_us: int | None, expected: int, pause_us: int) -> int:
        assert self.last_us is not None
        if stamp_us is None:
            return expected
        before, self._stamp_us = self._stamp_us, stamp_us
        self._repeated = self._repeated + 1 if stamp_us == before else 0
        if self._repeated >= STILL:
            self._zero_us = stamp_us - max(expected, self.last_us + 1)
            return expected
        media_us = stamp_us - self._zero_us
        step_us = 0 if before is None else stamp_us - before
        if self._believed(media_us, expected, step_us, pause_us):
            self._agreed, self._good_us = 0, stamp_us
            return media_us
        return self._off(stamp_us, max(expected, self.last_us + 1))

    def _believed(self, media_us: int, expected: int, step_us: int, pause_us: int) -> bool:
        assert self.last_us is not None
        if media_us <= self.last_us - JITTER_US:
            return False
        joining = self._arrived_us - self._began_us < LATE_US
        if (
            joining and 0 < media_us - self.last_us < JITTER_US
        ):  # what a camera has kept comes at once
            self._origin_us = float(self._arrived_us - media_us)
            return True
        lead_us = media_us - expected
        if abs(lead_us) <= OFF_US:
            most = DRIFT * pause_us
            self._origin_us -= min(max(lead_us, -most), most)
            self._late_since_us = None
            return True
        if lead_us > 0 or not 0 < step_us <= pause_us + JITTER_US:
            return False
        if self._late_since_us is None:
            self._late_since_us = self._arrived_us
        return self._arrived_us - self._late_since_us < LATE_US

    def _off(self, stamp_us: int, media_us: int) -> int:
        """The media time is the expected one; perhaps the stamps count from elsewhere now."""
        zero_us = stamp_us - media_us
        same = self._agreed > 0 and abs(zero_us - self._other_zero_us) <= AGREE_US
        self._agreed = self._agreed + 1 if same else 1
        if not same:
            self._other_zero_us = zero_us
        if self._agreed == AGREED:
            self._accept(stamp_us, zero_us)
        return media_us

    def _accept(self, stamp_us: int, zero_us: int) -> None:
        """Count stamps from `zero_us` as media time 0."""
        since_us = self._changed_us
        lasted = since_us is None or self._arrived_us - since_us >= RESTART_US
        self.restarted = lasted and stamp_us < self._good_us - OFF_US
        self._changed_us, self._good_us = self._arrived_us, stamp_us
        self._zero_us, self._agreed, self._late_since_us = zero_us, 0, None
