"""Chooses what a live decoder skips while the stages are too slow for the source. Pure.

Pictures that are replaced before any stage sees them were decoded in vain. Where more than half of
them are, pictures that no other picture needs are skipped before decoding (`nonref`), then all but
key frames (`nonkey`), but never so many that fewer remain than the stages take. While they take
none at all, as before their networks are ready, nothing is known of their speed: the level stays.
"""

from collections import Counter

from streamvis.sources.picture import Skip

WINDOW_S = 2.0  # over which pictures are counted
TOO_MANY = 0.5  # share of replaced pictures from which more is skipped
FEW = 0.1  # share of replaced pictures below which less is skipped
FIRST_HOLD_S, LONGEST_HOLD_S = 10.0, 300.0  # for which a level is kept before a lower one is tried
SPARE = 1.2  # key frames for each picture that the stages take, so that key frames suffice
LEVELS: tuple[Skip, ...] = ("none", "nonref", "nonkey")


class SkipPolicy:
    """Counts decoded and replaced pictures, and derives the level from them."""

    def __init__(self, now: float) -> None:
        self._level = 0
        self._since = now  # time of the last change of level
        self._lowered = False  # by the last change
        self._window = now
        self._hold_s = FIRST_HOLD_S
        self._counts: Counter[str] = Counter()

    @property
    def level(self) -> Skip:
        return LEVELS[self._level]

    def add(self, *, replaced: bool) -> None:
        """Count a decoded picture: whether the next one came before any stage took it."""
        self._counts["decoded"] += 1
        self._counts["replaced"] += replaced

    def update(self, now: float, key_fps: float) -> Skip:
        """Return the level from now on; `key_fps`: key frames in a second, 0 when unknown."""
        seconds = now - self._window
        if seconds < WINDOW_S:
            return self.level
        decoded, replaced = self._counts["decoded"], self._counts["replaced"]
        share = replaced / decoded if decoded else 0.0
        taken_fps = (decoded - replaced) / seconds
        if share > TOO_MANY and taken_fps and self._may_rise(key_fps, taken_fps):
            if self._lowered and now - self._since < LONGEST_HOLD_S:  # too early
                self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
            self._set(self._level + 1, now)
        elif share < FEW and self._level > 0 and now - self._since >= self._hold_s:
            self._set(self._level - 1, now)
        self._window = now
        self._counts.clear()
        return self.level

    def _may_rise(self, key_fps: float, taken_fps: float) -> bool:
        if LEVELS[self._level] == "none":
            return True
        return LEVELS[self._level] == "nonref" and key_fps > SPARE * taken_fps

    def _set(self, level: int, now: float) -> None:
        self._lowered = level < self._level
        self._level, self._since = level, now
