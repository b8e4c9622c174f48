"""Identify recordings by content, independent of name and place.

Two files are the same when their sizes and the hashes of their first and last MiB agree. A change
in the middle of a file of more than 2 MiB that keeps its size is not detected. It costs reading
2 MiB, regardless of the length of the recording.
"""

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from streamvis.errors import SourceError
from streamvis.sources.listing import images_of
from streamvis.sources.options import CONNECTION
from streamvis.sources.spec import SourceSpec

SECRET = frozenset({"decryption_key"})
EDGE = 1 << 20  # bytes hashed at the head and at the tail


class Content(msgspec.Struct, frozen=True):
    """The identity of a recording; the modification time only detects later writes."""

    size: int  # bytes; 0 for what is not made of files
    mtime_ns: int  # latest modification
    digest: str  # 32 hex digits, of size, head and tail; equal when the content is


def content_of(spec: SourceSpec) -> Content:
    """The identity of a source; SourceError when it cannot be read.

    Image sequences are identified by names and contents, live and synthetic sources by their
    address alone.
    """
    try:
        files = _files(spec)
        parts = [(path.name, *_file(path)) for path in files]
    except OSError as error:
        raise SourceError(f"source '{spec.label}' cannot be read: {error.strerror}") from None
    if not parts:
        return Content(0, 0, _digest([re.sub("://.*@", "://", spec.uri)]))  # without credentials
    size, mtime_ns = sum(part[1] for part in parts), max(part[2] for part in parts)
    if spec.kind == "file":
        return Content(size, mtime_ns, parts[0][3])
    return Content(size, mtime_ns, _digest([f"{name}/{digest}" for name, *_, digest in parts]))


def size_of(spec: SourceSpec) -> Content:
    """The size and the latest modification of a source's files, which are not read: no digest.

    OSError when they are not there.
    """
    found = [os.stat(path) for path in _files(spec)]
    newest = max((one.st_mtime_ns for one in found), default=0)
    return Content(sum(one.st_size for one in found), newest, "")


def settings_of(spec: SourceSpec) -> dict[str, str]:
    """The other settings of a source that results depend on, if not default: names and JSON.

    Keys of encrypted files are left out, as is what says when and how a connection is made, and
    which file zones are from.
    """
    options = {name: value for name, value in spec.options.items() if name not in SECRET}
    spec = msgspec.structs.replace(spec, options=options)
    usual = SourceSpec(id=spec.id, uri=spec.uri, kind=spec.kind)
    return {
        name: msgspec.json.encode(value, order="deterministic").decode()
        for name in spec.__struct_fields__
        if name not in {*CONNECTION, "record_to", "zones_file"}
        and (value := getattr(spec, name)) != getattr(usual, name)
    }


def digest_of_file(path: Path) -> str:
    """The hash of all of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _files(spec: SourceSpec) -> Sequence[Path]:
    if spec.kind == "images":
        return images_of(spec.uri)
    # a pipe would be read by looking at it
    if spec.kind == "file" and stat.S_ISREG(os.stat(spec.uri).st_mode):
        return [Path(spec.uri)]
    return []


def _file(path: Path) -> tuple[int, int, str]:
    """Size, modification time and digest."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        hashed = hashlib.blake2b(str(status.st_size).encode(), digest_size=16)
        hashed.update(file.read(EDGE))
        if status.st_size > EDGE:
            file.seek(max(EDGE, status.st_size - EDGE))
            hashed.update(file.read(EDGE))
    return status.st_size, status.st_mtime_ns, hashed.hexdigest()


def _digest(texts: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()
