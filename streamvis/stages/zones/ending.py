"""The exits that follow if a source ends with the present frame.

While a source goes on, who steps out of a zone may step back within `exit_s`, and a track that no
frame has may come back within `absent_s`. When it ends, neither follows.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

import numpy as np

from streamvis.stages.zones import bodies
from streamvis.stages.zones.arrangement import Arrangement
from streamvis.stages.zones.events import ZoneExit
from streamvis.stages.zones.history import visits
from streamvis.stages.zones.persons import Pair, Persons

UNSEEN_US = 500_000  # detectors miss people for less


class Endings:
    """Finds those who had left before a source that ends now.

    They were outside when they were last detected, or in no frame for `UNSEEN_US`. The exit of each
    is kept for as long as that holds and the history of the track at the zone stays as it is.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], ZoneExit] = {}  # by zone and track

    def forget(self, pairs: Iterable[Pair]) -> None:
        """Forget the exits of tracks whose history has changed."""
        for number, kind, z in pairs:
            if kind == "zone":
                self._kept.pop((z, number), None)

    def exits(
        self,
        persons: Persons,
        shapes: Arrangement,
        inside: Mapping[int, Mapping[int, int]],
        media_us: int,
        name: Callable[[int], str],
    ) -> list[ZoneExit]:
        """Return the exits by zone and track.

        inside: by zone and track, when the visits began that are open; media_us: of the last frame;
        name: of a track in events.
        """
        numbers = np.fromiter(chain.from_iterable(inside.values()), np.int64)
        live = persons.live
        if not len(numbers) or not len(live.ids):
            return []
        zones = np.repeat(np.fromiter(inside, np.int64), [len(own) for own in inside.values()])
        rows = live.ids.searchsorted(numbers).clip(max=len(live.ids) - 1)
        unseen = live.present_us[rows] <= media_us - UNSEEN_US
        over = ((live.inside[rows, zones] == 0) | unseen) & (live.ids[rows] == numbers)
        before, self._kept = self._kept, {}
        for at in np.flatnonzero(over).tolist():
            z, number = int(zones[at]), int(numbers[at])
            found = before.get((z, number))
            if found is None:
                own, _ = visits(
                    persons.runs(number, "zone", z), shapes.timings["zone", z], over=True
                )
                if not own or own[-1].entered_us != inside[z][number]:
                    continue
                if own[-1].reason != "left" and not unseen[at]:
                    continue
                found = bodies.leave(shapes.zones[z].name, name(number), own[-1])
            self._kept[z, number] = found
        return [self._kept[pair] for pair in sorted(self._kept)]
