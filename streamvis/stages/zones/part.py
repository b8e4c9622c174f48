"""The part that the zones stage adds to a frame."""

import msgspec
import numpy as np

from streamvis.stages.zones.events import LineCross, ZoneBody, ZoneExit


class Zones(msgspec.Struct, frozen=True, kw_only=True, tag="zones"):
    """What is known of zones and lines in one frame: of Z zones and L lines, in their order."""

    zones: tuple[str, ...]  # names (Z)
    people: np.ndarray  # (Z,) int32, who have entered and not left
    mean: np.ndarray  # (Z,) float64, expected number of people
    sd: np.ndarray  # (Z,) float64, standard deviation of the number
    p_occupied: np.ndarray  # (Z,) float64, probability that at least one person is inside
    longest_us: np.ndarray  # (Z,) int64, longest stay of those inside; 0 without anyone
    entries: np.ndarray  # (Z,) int64, visits so far, after corrections
    lines: tuple[str, ...]  # names (L)
    in_total: np.ndarray  # (L,) int64, crossings from left to right so far
    out_total: np.ndarray  # (L,) int64, crossings from right to left so far
    events: tuple[ZoneBody, ...] = ()  # of this frame, in order
    due: int = 0  # how many of them were due before this frame; they come first
    at_end: tuple[ZoneExit | LineCross, ...] = ()  # what counts if the source ends with this frame
