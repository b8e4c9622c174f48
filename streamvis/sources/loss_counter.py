"""Match decoded pictures to packets, to find their time stamps and count lost pictures."""

from bisect import insort
from typing import Literal, NamedTuple

MOST_REORDERED = 16  # pictures that H.264 and HEVC may hold back to put them in order
MOST_DUE = 1000  # packets; a decoder that owes more gives nothing at all


class MatchedPacket(NamedTuple):
    """The packet of a decoded picture."""

    stamp: int | None  # ticks
    lost: int  # pictures before it that were not decoded
    restarted: bool  # time stamps restarted since the previous picture


class _Packet(NamedTuple):
    """A packet in the decoder, sorted in output order."""

    generation: int  # restarts of time stamps before it
    stamp: int
    number: int  # in decoding order


class LossCounter:
    """Records the time stamps of packets and matches them to decoded pictures.

    Decoders may drop damaged packets silently, but output pictures in presentation order: a stamp
    that was skipped is a lost picture. Where a packet need not be one picture, or has no stamp, the
    counter is not `trusted` and counts no losses.

    AVI and ASF have no stamps of presentation (`decoding`), and files made from bare streams
    often have those of decoding in their place. A decoder puts pictures, not stamps in order, so
    each picture takes the lowest stamp that is due. Where a decoder reorders, but stamps have only
    grown, that is assumed too, until the order of the pictures shows which it is.
    """

    def __init__(self, *, trusted: bool, decoding: bool = False) -> None:
        self.trusted = trusted
        self.partial = False  # some packets have no stamp
        self._by_dts = decoding
        self._order: Literal["presentation", "decoding", "unknown"] = "unknown"
        self._doubts = 0  # pictures whose stamp was not the lowest, while the order is unknown
        self._due: list[_Packet] = []
        self._keys: dict[int, int] = {}  # pts of packets that need no others -> number
        self._number = 0
        self._generation = 0
        self._highest: int | None = None  # stamp sent in this generation
        self._dts: int | None = None  # last one sent
        self._last: _Packet | None = None  # the last
        self._pts: int | None = None  # of the last picture
        self._overdue = 0

    def add_packet(self, pts: int | None, dts: int | None, *, key: bool = False) -> None:
        """Record a packet sent to the decoder; `key`: it is a key frame."""
        if self._number == 0 and pts is None and dts is not None:
            self._by_dts = True
        stamp = dts if self._by_dts else pts
        if stamp is None:
            self.partial, self.trusted = True, False
            return
        if self._restarts(stamp, dts, key):
            self._generation += 1
            self._highest = None
        elif self._highest is not None and stamp < self._highest and self._order == "unknown":
            self._order = "presentation"
        self._highest = stamp if self._highest is None else max(stamp, self._highest)
        self._dts = dts
        insort(self._due, _Packet(self._generation, stamp, self._number))
        if key and pts is not None:
            self._keys[pts] = self._number
            if len(self._keys) > MOST_DUE:
                del self._keys[next(iter(self._keys))]
        self._number += 1
        if len(self._due) > MOST_DUE:
            del self._due[0]
            self._overdue += 1

    def match_picture(self, pts: int | None, dts: int | None, delay: int) -> MatchedPacket:
        """Match a picture from a decoder that delays output by up to `delay` pictures.

        `pts` is that of its packet; `dts` that of the packet after which it was output, if any.
        """
        before_key = self._before_key(pts)
        if self._by_dts:
            held = sum(packet.stamp <= dts for packet in self._due) if dts is not None else 0
            return self._take(max(held - delay - 1, before_key))
        place = next((i for i, packet in enumerate(self._due) if packet.stamp == pts), None)
        if self._order == "unknown" and delay:
            self._judge(pts, place)
        self._pts = pts
        if self._order == "decoding" or (self._order == "unknown" and self._doubts):
            return self._take(before_key)
        if place is None:
            return MatchedPacket(pts, 0, restarted=False)
        return self._take(place)

    def outstanding(self) -> int:
        """The number of pictures missing after the decoder was flushed."""
        return len(self._due) + self._overdue if self.trusted else 0

    def _restarts(self, stamp: int, dts: int | None, key: bool) -> bool:
        """Whether time stamps restart: a later stamp was already output or sent."""
        came = self._last
        if came and came.generation == self._generation and stamp < came.stamp:
            return True
        return key and dts is not None and self._dts is not None and dts < self._dts

    def _judge(self, pts: int | None, place: int | None) -> None:
        """Infer from the stamp of a picture whether stamps are in decoding order."""
        if pts is None or (place and self._due[place].generation > self._due[0].generation):
            return
        if self._doubts and self._pts is not None and pts < self._pts:
            self._order = "decoding"
        elif self._doubts > MOST_REORDERED:  # what was passed over is lost
            self._order = "presentation"
        elif place or (self._doubts and place is None):
            self._doubts += 1

    def _before_key(self, pts: int | None) -> int:
        """How many packets are due that were sent before the key frame with this stamp, if any."""
        number = 0 if pts is None else self._keys.pop(pts, 0)
        return sum(packet.number < number for packet in self._due)

    def _take(self, place: int) -> MatchedPacket:
        """Give the stamp of a packet that is due to a picture; those before it are lost."""
        if place >= len(self._due):
            return MatchedPacket(None, 0, restarted=False)
        taken, passed = self._due[place], self._due[:place]
        del self._due[: place + 1]
        if self._last is None and not self._by_dts:
            # of what is decoded after the first picture and shown before it, the references
            # lie before the stream: it was cut there, and nothing is damaged
            passed = [packet for packet in passed if packet.number < taken.number]
        lost = len(passed) + self._overdue if self.trusted else 0
        restarted = self._last is not None and taken.generation > self._last.generation
        self._last, self._overdue = taken, 0
        return MatchedPacket(taken.stamp, lost, restarted)
