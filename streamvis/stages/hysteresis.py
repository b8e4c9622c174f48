"""Begin and end something by hysteresis in its value and in media time. Pure."""

from typing import Literal

import msgspec

from streamvis.messages import Array, Tracks

Change = Literal["dropped", "waiting", "begin", "open", "end"]


class Hysteresis(msgspec.Struct):
    """Something that may begin, is open, or may end.

    It begins once its value has been at least the threshold to begin for `min_us`, and ends once it
    has been below the threshold to end for `min_us`. Make one when the value reaches the first.
    """

    since_us: int  # media time when the value reached the threshold to begin
    begun: bool = False
    below_us: int | None = None  # since when the value is below the threshold to end

    def step(self, media_us: int, min_us: int, *, begins: bool, ends: bool) -> Change:
        """Take in the value at `media_us`: whether it is enough to begin, and below the end's.

        Returns `dropped` when it has not begun and is over, else `waiting` until it begins;
        `begin` and `end` once, and `open` in between.
        """
        if not self.begun:
            if not begins:
                return "dropped"
            if media_us - self.since_us < min_us:
                return "waiting"
            self.begun = True
            return "begin"
        if not ends:
            self.below_us = None
        elif self.below_us is None:
            self.below_us = media_us
        if self.below_us is not None and media_us - self.below_us >= min_us:
            return "end"
        return "open"


def ended_with_tracks(tracks: Tracks) -> list[int]:
    """Return the tracks with which all that is open of them ends: split, merged or ended ones.

    Both tracks of a split come first, in the order of `tracks.split`, then the others, ascending.
    """
    mixed = [number for row in _rows(tracks.split) for number in row[:2]]
    gone = [row[0] for row in _rows(tracks.merged) if row[0] != row[1]]
    return [*mixed, *sorted({*tracks.ended.tolist(), *gone})]


def _rows(rows: Array | None) -> list[list[int]]:
    return [] if rows is None else rows.tolist()
