"""Long logs of people who come and go, for tests of memory."""

from collections.abc import Iterator
from typing import Any

from zone_logs import SECOND, begin, cross, end, enter, leave, move, update

STAY = 20  # updates of a track
EVENTS = STAY + 6  # of a person


def days(events: int, per_s: float = 5.0) -> Iterator[tuple[int, Any]]:
    """Yield so many events (media µs, body): people who walk through a zone and over a line.

    One after the other, each with EVENTS events; `per_s` events a second.
    """
    spacing_us = round(EVENTS / per_s * SECOND)
    for number in range(events // EVENTS):
        yield from person(number, number * spacing_us)


def person(number: int, start_us: int) -> Iterator[tuple[int, Any]]:
    """The events of one person."""
    name = f"cam1:1:{number + 1}"
    y = 200.0 + number % 200
    yield start_us, begin(name, (10.0, y), speed_px=15.0)
    yield start_us, enter("door", name, start_us)
    for second in range(1, STAY + 1):
        us = start_us + second * SECOND // 10
        yield us, move(name, (10.0 + 30 * second, y), speed_px=15.0 * (second % 2))
    yield us, cross("gate", name, us)
    yield us, leave("door", name, start_us, us)
    yield us, update("door", 0)
    yield us, end(name, us, (610.0, y))
