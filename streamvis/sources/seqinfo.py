"""The file `seqinfo.ini` of a MOTChallenge sequence: its section [Sequence], read and checked.

A source needs the images and perhaps the frame rate, an evaluation all fields; both read here.
"""

import configparser
import math
from dataclasses import dataclass
from pathlib import Path

from streamvis.errors import StreamvisError
from streamvis.parsing import read_text

LARGEST = 2**53  # integers beyond it are not exact as floating point


@dataclass(frozen=True)
class SeqInfo:
    """The fields of one seqinfo.ini; a field that is absent or wrong raises `error`."""

    path: Path
    fields: dict[str, str]  # by lower-case key
    error: type[StreamvisError]

    def text(self, key: str, default: str = "") -> str:
        """Return a field as it stands."""
        return self.fields.get(key.lower(), default)

    def number(self, key: str) -> float | None:
        """Return a field as a number, which may be NaN; None where it is absent."""
        found = self.fields.get(key.lower())
        if found is None:
            return None
        try:
            return float(found)
        except ValueError:
            raise self._wrong(key, found[:40], "a number above 0") from None

    def positive(self, key: str) -> float:
        """Return a field that has to be there and above 0."""
        value = self.number(key)
        if value is None:
            raise self.error(f"{self.path}: [Sequence] has no {key}; expected {key}=NUMBER")
        if not 0 < value < LARGEST:
            raise self._wrong(key, self.text(key)[:40], "a number above 0")
        return value

    def whole(self, key: str, most: int) -> int:
        """Return a field that has to be a whole number from 1 to `most`."""
        value = self.positive(key)
        if value != math.floor(value) or value > most:
            raise self._wrong(key, f"{value:.10g}", f"a whole number from 1 to {most}")
        return int(value)

    @property
    def name(self) -> str:
        """The name of the sequence: that of its folder where the file has none."""
        return self.text("name", self.path.absolute().parent.name)

    @property
    def video(self) -> Path | None:
        """The video file that the sequence names, whether it exists or not."""
        named = self.text("video")
        return self.path.parent / named if named else None

    @property
    def images(self) -> Path:
        """The directory of the sequence's images, whether it exists or not."""
        return self.path.parent / self.text("imDir", "img1")

    def _wrong(self, key: str, found: str, expected: str) -> StreamvisError:
        return self.error(f"{self.path}: {key}={found}; expected {expected}")


def read_seqinfo(path: Path, error: type[StreamvisError]) -> SeqInfo:
    """Read a seqinfo.ini; `error` when it cannot be read or has no section [Sequence]."""
    parser = configparser.RawConfigParser()
    text = read_text(path, error)
    try:
        parser.read_string(text)
        return SeqInfo(path, dict(parser["Sequence"]), error)
    except KeyError:
        detail = "no section [Sequence]"
    except configparser.Error as failure:
        detail = " ".join(str(failure).split())
    raise error(f"{path} is not a MOTChallenge seqinfo.ini: {detail}")
