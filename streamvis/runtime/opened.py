"""What the sources of a run are, `sources.json`: from where, how read, and what was hidden in them.

Those who look at recorded pictures later need the file of each source, the settings that its media
times depend on, and its privacy masks. A source that comes back as another one has several entries.
The file is for its owner alone. It has no credentials and no keys of encrypted files.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from streamvis.errors import DataError, SourceError
from streamvis.files import replace
from streamvis.logs import warn
from streamvis.sources.identity import SECRET, Content, content_of, size_of
from streamvis.sources.spec import Kind, Polygons, SourceSpec

OPENED = "sources.json"
MODE = 0o600
MOST_ENTRIES = 64  # of a source that comes back as another one again and again

Note = Callable[[SourceSpec, int], None]  # with the stream epoch in which the source is opened


class OpenedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source from a stream epoch on."""

    source: str
    stream_epoch: int  # the first one
    kind: Kind
    uri: str  # absolute path, glob of images or synthetic: scene; empty: an address or a device
    fps: float | None = None
    options: dict[str, str] = {}  # of a file, for the demuxer
    encrypted: bool = False  # its key is not kept
    privacy_masks: Polygons = ()
    content: Content | None = None  # when it was opened; None: not made of files. Images have
    # no digest

    def spec(self) -> SourceSpec:
        """Return the source as it may be opened again; it has no masks, which are applied after."""
        return SourceSpec(
            id=self.source, uri=self.uri, kind=self.kind, fps=self.fps, options=self.options
        )


class OpenedSources(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of a run, in the order in which they were opened."""

    sources: list[OpenedSource]


class OpenedWriter:
    """Writes the file of a run; sources that are opened again as they were change nothing."""

    def __init__(self, out: Path) -> None:
        self._path = out / OPENED
        try:
            self._entries = read(out)
        except DataError:
            self._entries = []

    def note(self, spec: SourceSpec, stream_epoch: int) -> None:
        """Record that a source is about to be opened."""
        entry = _entry(spec, stream_epoch)
        own = [one for one in self._entries if one.source == spec.id]
        if own and msgspec.structs.replace(own[-1], stream_epoch=stream_epoch) == entry:
            return
        surplus = own[: max(0, len(own) - MOST_ENTRIES + 1)]
        self._entries = [one for one in self._entries if one not in surplus] + [entry]
        try:
            data = msgspec.json.encode(OpenedSources(sources=self._entries))
            replace(self._path, data, mode=MODE, durable=False)  # the hub waits for it
        except OSError as error:
            with suppress(OSError):  # nothing is shown by masks that may have been others
                self._path.unlink()
            warn(
                "recorded pictures cannot be looked at",
                path=str(self._path),
                reason=error.strerror or str(error),
            )


def writer_of(out: Path | str | None) -> Note:
    """Return what records the sources of a run with this output directory, if there is one."""
    if out is None:
        return lambda spec, stream_epoch: None
    return OpenedWriter(Path(out)).note


def read(out: Path) -> list[OpenedSource]:
    """Return the sources of a run, none where they are not known; DataError for another file."""
    path = out / OPENED
    try:
        return msgspec.json.decode(path.read_bytes(), type=OpenedSources).sources
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"{path} does not list the sources of a run: {error}") from None


def _entry(spec: SourceSpec, stream_epoch: int) -> OpenedSource:
    files = spec.kind in {"file", "images"}
    content = None
    with suppress(SourceError, OSError):  # it is reported when the source is opened
        if files:  # of which images may be many
            content = content_of(spec) if spec.kind == "file" else size_of(spec)
    options = spec.options if files else {}
    return OpenedSource(
        source=spec.id,
        stream_epoch=stream_epoch,
        kind=spec.kind,
        uri=os.path.abspath(spec.uri) if files else spec.uri if spec.kind == "synthetic" else "",
        fps=spec.fps,
        options={name: value for name, value in options.items() if name not in SECRET},
        encrypted=not SECRET.isdisjoint(options),
        privacy_masks=spec.privacy_masks,
        content=content,
    )
