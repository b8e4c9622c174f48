"""Parameter sets of H.264 and HEVC in a stream with start codes (Annex B)."""

from collections.abc import Iterator

START = b"\0\0\1"
SETS = {"h264": (7, 8), "hevc": (32, 33, 34)}  # NAL unit types: SPS, PPS; VPS, SPS, PPS
LAST_SLICE = {"h264": 5, "hevc": 31}  # types up to this one hold pixels


class ParameterSets:
    """The parameter sets with which the next key frame is decoded.

    They begin as those of the container or SDP, `extradata`; sets in a packet replace those of
    the same type. `extradata` in the layout of MP4 (avcC, hvcC) stays as it is.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec = codec
        self._extradata = extradata
        self._sets: dict[int, list[bytes]] = {}  # by type
        self._with_start_codes = codec in SETS and not extradata.startswith(b"\1")
        if self._with_start_codes:
            self.add(extradata)

    def add(self, data: bytes) -> None:
        """Take over the sets of a packet."""
        if not self._with_start_codes:
            return
        found: dict[int, list[bytes]] = {}
        for kind, unit in head_units(self._codec, data):
            if kind in SETS[self._codec] and unit not in found.setdefault(kind, []):
                found[kind].append(unit)
        self._sets |= found

    @property
    def extradata(self) -> bytes:
        """All sets behind start codes; what the container gave while some are not known."""
        if not self._with_start_codes or not all(kind in self._sets for kind in SETS[self._codec]):
            return self._extradata
        units = [unit for kind in SETS[self._codec] for unit in self._sets[kind]]
        return b"".join(b"\0" + START + unit for unit in units)

    @property
    def missing(self) -> bool:
        """Whether the stream cannot be decoded yet."""
        return self._codec in SETS and not self.extradata


def head_units(codec: str, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of the NAL units before the first slice, without start codes."""
    begin = data.find(START)
    while begin >= 0:
        begin += len(START)
        if begin >= len(data):
            return
        kind = data[begin] & 31 if codec == "h264" else data[begin] >> 1 & 63
        if kind <= LAST_SLICE[codec] and not (codec == "h264" and kind == 0):
            return
        end = data.find(START, begin)
        yield kind, (data[begin:] if end < 0 else data[begin:end]).rstrip(b"\0")
        begin = end


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG image, from its frame header (SOF)."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8:  # padding, or a marker without a length
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), data[at + 7 : at + 9]
            return int.from_bytes(width, "big"), height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
