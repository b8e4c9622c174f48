"""The pace of live streams whose packets come in pieces of seconds, as HLS and DASH."""

IN_PIECES = frozenset({"hls", "dash"})  # FFmpeg's names
MOST_GAP_S = 2.0  # between two packets; more is a jump of the stamps, or a piece that was missed


class Pacer:
    """Says how long each packet waits, so that packets follow each other as their stamps do.

    A packet that comes late is not waited for: those after it are as late. So the delay grows to
    that of the slowest piece, and then no picture has to be left out for another one of its piece.
    """

    def __init__(self) -> None:
        self._zero_s = self._last_s = float("-inf")

    def wait_s(self, stamp_s: float, now_s: float) -> float:
        """Return for how long a packet waits, at most `MOST_GAP_S`."""
        step_s, self._last_s = stamp_s - self._last_s, stamp_s
        due_s = self._zero_s + stamp_s
        if not 0 <= step_s <= MOST_GAP_S or not now_s <= due_s <= now_s + MOST_GAP_S:
            self._zero_s = now_s - stamp_s
            return 0.0
        return due_s - now_s
