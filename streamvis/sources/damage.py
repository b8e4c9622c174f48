"""Find the pictures that lost data may have damaged."""

from typing import NamedTuple

HEAD = 96  # bytes of a parameter set or slice that are parsed
MOST_LOST = 1000  # pictures; a larger gap is no count of pictures
TRIED = 40  # pictures after which a stream that seems to lose every other one is not believed
HIGH = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})  # profiles
SLICES = frozenset({1, 2, 5})  # types of NAL units
IDR, SPS, PPS = 5, 7, 8


class Damage:
    """Says which pictures are suspect: data was lost, and no key frame has come since.

    Packets are counted in decoding order, and those from one key frame to the next are a group. A
    picture is suspect when data was lost before it in its group. Pictures that are decoded after
    a key frame but shown before it also need the group before. So does a whole group whose first
    picture is no key frame, but the beginning of an intra refresh, which takes a group's time.
    """

    def __init__(self) -> None:
        self._number = 0  # packets so far
        self._group = 0
        self._places: dict[int | None, tuple[int, int]] = {}  # pts -> group and number
        self._starts: dict[int, int | None] = {0: None}  # group -> pts of its key frame
        self._since: dict[int, int] = {}  # group -> number of the first damaged packet
        self._refresh: set[int] = set()  # groups that begin with an intra refresh

    def add_packet(self, pts: int | None, *, key: bool, lost: bool) -> None:
        """Record a packet sent to the decoder; `lost`: data before it or of it was lost."""
        self._number += 1
        if key:
            self._group += 1
            self._starts[self._group] = pts
            self._forget()
        if lost:
            self._since.setdefault(self._group, self._number)
        self._places.pop(pts, None)
        self._places[pts] = self._group, self._number

    def lose(self) -> None:
        """Record that packets were not sent to the decoder."""
        self._since.setdefault(self._group, self._number + 1)

    def is_suspect(self, pts: int | None, *, key: bool, corrupt: bool) -> bool:
        """Whether a decoded picture is suspect; `key`: it is a key frame."""
        group, number = self._places.pop(pts, (self._group, self._number))
        if self._starts.get(group) == pts and not key:
            self._refresh.add(group)
        if corrupt:
            self._since[group] = min(number, self._since.get(group, number))
        if group in self._since and self._since[group] <= number:
            return True
        start = self._starts.get(group)
        leading = pts is not None and start is not None and pts < start
        return (leading or group in self._refresh) and group - 1 in self._since

    def _forget(self) -> None:
        """Keep the last groups, and the packets that a decoder may still hold."""
        old = self._group - 4
        self._starts.pop(old, None)
        self._since.pop(old, None)
        self._refresh.discard(old)
        while len(self._places) > MOST_LOST:
            del self._places[next(iter(self._places))]


class _Sequence(NamedTuple):
    """What slices need of a sequence parameter set."""

    bits: int  # of a frame number
    planes: bool  # colour planes are coded apart
    gaps: bool  # frame numbers may be left out


class FrameNumbers:
    """Counts the reference pictures of H.264 that were lost, by their frame numbers.

    Each reference picture has the number of the one before plus one (H.264, 7.4.3), so a picture
    whose number is higher follows on lost ones. FFmpeg's decoder does not tell of them. Packets
    must have start codes, as those from RTP have; others are not looked at.
    """

    def __init__(self, extradata: bytes | None = None) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, int] = {}  # picture parameter set -> sequence parameter set
        self._before: int | None = None  # frame number of the last reference picture
        self._seen = 0  # pictures
        self._gaps = 0
        self.lost_before(extradata or b"")

    def lost_before(self, packet: bytes) -> int:
        """How many reference pictures are missing before that of a packet."""
        at = packet.find(b"\0\0\1")
        while at >= 0 and at + 4 < len(packet):
            nal = packet[at + 3 : at + 3 + HEAD]
            kind = nal[0] & 31
            try:
                if kind in SLICES:
                    return self._slice(nal, kind)
                if kind == SPS:
                    self._sequence(nal)
                if kind == PPS:
                    bits = _Bits(nal[1:])
                    self._pictures[bits.unsigned()] = bits.unsigned()
            except (EOFError, ValueError):  # damaged
                return 0
            at = packet.find(b"\0\0\1", at + 3)
        return 0

    def _slice(self, nal: bytes, kind: int) -> int:
        bits = _Bits(nal[1:])
        bits.unsigned()  # first macroblock
        bits.unsigned()  # type
        sequence = self._sequences.get(self._pictures.get(bits.unsigned(), -1))
        if sequence is None:
            return 0
        bits.take(2 * sequence.planes)
        number = 0 if kind == IDR else bits.take(sequence.bits)
        before, limit = self._before, 1 << sequence.bits
        reference = nal[0] & 0x60 != 0
        if reference:
            self._before = number
        self._seen += 1
        if (
            kind == IDR
            or before is None
            or sequence.gaps
            or number in {before, (before + 1) % limit}
        ):
            return 0
        if not reference:
            self._before = (number - 1) % limit
        self._gaps += 1
        if self._seen >= TRIED and self._gaps > self._seen / 2:  # its numbers mean something else
            return 0
        lost = (number - before - 1) % limit
        return lost if lost <= MOST_LOST else 1

    def _sequence(self, nal: bytes) -> None:
        """Read a sequence parameter set (H.264, 7.3.2.1.1)."""
        profile = nal[1]
        bits = _Bits(nal[4:])
        name = bits.unsigned()
        planes = False
        if profile in HIGH:
            chroma = bits.unsigned()
            planes = chroma == 3 and bits.take(1) == 1
            bits.unsigned(), bits.unsigned(), bits.take(1)  # bit depths, bypass
            if bits.take(1):
                bits.scaling_lists(8 if chroma != 3 else 12)
        size = bits.unsigned() + 4
        order = bits.unsigned()
        if order == 0:
            bits.unsigned()
        elif order == 1:
            bits.take(1), bits.signed(), bits.signed()
            for _ in range(bits.unsigned()):
                bits.signed()
        bits.unsigned()  # reference frames
        if size <= 16:
            self._sequences[name] = _Sequence(size, planes, bits.take(1) == 1)


class _Bits:
    """Reads the bits of a NAL unit, without its bytes of emulation prevention."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._left = 8 * len(data)
        self._value = int.from_bytes(data, "big")

    def take(self, count: int) -> int:
        """The next bits as a number; EOFError after the last."""
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & ((1 << count) - 1)

    def unsigned(self) -> int:
        """The next ue(v), H.264 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """The next se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def scaling_lists(self, count: int) -> None:
        """Pass over the scaling lists (H.264, 7.3.2.1.1.1)."""
        for number in range(count):
            last = following = 8
            for _ in range((16 if number < 6 else 64) if self.take(1) else 0):
                if following:
                    following = (last + self.signed()) % 256
                last = following or last
