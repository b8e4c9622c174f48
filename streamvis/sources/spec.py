"""Resolve source arguments to specs.

`resolve` parses command-line arguments without opening sources: paths, globs, directories,
MOTChallenge sequences, camera indexes, URLs and `synthetic:` scenes, each with an optional `id=`
before and `#fps=7&read_s=2` after.
"""

import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from streamvis.errors import SourceError, UsageError
from streamvis.geometry import Homography, read_ground_plane
from streamvis.parsing import read_text
from streamvis.recording.settings import Recording
from streamvis.sources.credentials import (
    ENCODE,
    is_cut,
    password_in,
    redacted,
    warn_if_shared,
    with_credentials,
    without_credentials,
)
from streamvis.sources.listing import (
    IMAGES,
    VIDEOS,
    distinct,
    entries,
    folders,
    images_in,
    images_of,
    matches,
    videos_below,
    videos_in,
    warn,
)
from streamvis.sources.options import (
    CREDENTIALS,
    LEAST_FPS,
    Transport,
    check_settings,
    ffmpeg_options,
    scene_options,
    seconds_of,
)
from streamvis.sources.seqinfo import read_seqinfo
from streamvis.sources.start import CONTAINER, Start, parse_start
from streamvis.zone_layout import ZoneLayout

Kind = Literal["file", "images", "camera", "url", "synthetic"]
Hwaccel = Literal["auto", "none", "cuda", "qsv", "drm"]
Polygons = tuple[tuple[tuple[float, float], ...], ...]
Setting = tuple[str, str]  # name and value, as after '#'

LAST_CAMERA = 255  # Linux has no more
URLS = frozenset({"rtsp", "rtsps", "http", "https"})
ID = re.compile(r"[a-z0-9_-]{1,64}")


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One source that is not open yet; it is sent to the process that decodes it."""

    id: str  # [a-z0-9_-]{1,64}, unique in the run
    uri: str  # path, glob of images, device, URL with its credentials, or synthetic: scene
    kind: Kind
    ground_plane: Homography | None = None  # foot px -> metres
    record: Recording | None = None
    record_to: str = ""  # absolute path of the output directory; empty: nothing is recorded
    fps: float | None = None  # when given, media time counts pictures at this rate
    open_s: float = 10.0  # connection timeout, seconds
    read_s: float = 5.0  # read timeout, seconds
    stall_s: float | None = None  # silence after which it counts as stalled; None: read_s / 2
    retry_s: float = 30.0  # longest pause between two attempts to connect; 0: one attempt only
    options: dict[str, str] = {}  # for the demuxer, as FFmpeg names them
    start: Start | None = None  # of a file: when its first picture was taken
    hwaccel: Hwaccel | None = None  # device that decodes; auto: one that is there, or else the CPU;
    # None: as the placement says, else the CPU
    privacy_masks: Polygons = ()  # areas filled before pixels are used: corners [x, y] in pixels
    # of the upright picture, or in shares of its size where all of a polygon's are at most 1
    zones: ZoneLayout | None = None  # its zones and lines; None: those of the pipeline
    zones_file: str = ""  # absolute path of the file that they are from; empty: from none

    @property
    def label(self) -> str:
        """The uri without credentials, for logs and events."""
        return without_credentials(self.uri) if self.kind == "url" else self.uri

    @property
    def reconnects(self) -> bool:
        """Whether the source is connected again when it is lost; an HTTP file is not."""
        return self.kind in {"camera", "url"} and self.retry_s > 0

    @property
    def may_be_live(self) -> bool:
        """Whether the source is live, or turns out to be when it is open; HTTP gives both.

        No for a scene that only the run's own opener knows.
        """
        try:
            return self.kind == "url" or _is_live(self)
        except UsageError:
            return False

    def __repr__(self) -> str:  # a spec may end up in a log
        return f"SourceSpec(id={self.id!r}, kind={self.kind!r}, label={self.label!r})"


class Unusable(NamedTuple):
    """An argument, or a file of one, that is no source."""

    label: str
    error: SourceError


def resolve(
    specs: Sequence[str], *, recursive: bool = False, unusable: list[Unusable] | None = None
) -> list[SourceSpec]:
    """The sources of the arguments, with unique ids. UsageError or SourceError in one line.

    `unusable` receives what has a SourceError; the first is raised only where no source is left.

    A directory means the videos or sequences in it; with `recursive`, those in all directories
    below it too. Without, a warning says how many lie below. A glob or directory gives
    each real file once, whatever links lead to it, and not again what another text without an id
    gives. `@FILE` stands for the lines of a file, each with one source.
    """
    split = [_split_id(text) for text in _listed(specs)]
    given_ids = [given for given, _ in split if given is not None]
    for name in given_ids:
        if given_ids.count(name) > 1:
            raise UsageError(f"two sources have the id '{name}'; give each its own")
    taken = set(given_ids)
    seen = {os.path.realpath(text) for given, text in split if given is None and _is_file(text)}
    out: list[SourceSpec] = []
    refused: list[Unusable] = []
    for given, text in split:
        found: Iterable[SourceSpec] = ()
        with _collected(redacted(text), refused):
            found = list(_configured(text, recursive))
        if given is None and not _is_file(text):
            found = _unseen(found, seen)
        for number, spec in enumerate(found):
            name = given if given and number == 0 else _unique(given or spec.id, taken)
            taken.add(name)
            with _collected(spec.label, refused):
                _check_text(spec)
                out.append(_named(spec, name))
    if refused and (unusable is None or not out):
        raise refused[0].error
    if unusable is not None:
        unusable += refused
    return out


@contextmanager
def _collected(label: str, refused: list[Unusable]) -> Iterator[None]:
    """A SourceError is appended to the list."""
    try:
        yield
    except SourceError as error:
        refused.append(Unusable(_shown(label), error))


def _listed(texts: Iterable[str]) -> Iterator[str]:
    """The texts, with the lines of FILE in the place of `@FILE`: a password is in no argument."""
    for text in texts:
        if not text.startswith("@") or _exists(text):
            yield text
            continue
        path = Path(text[1:])
        lines = [line.strip() for line in read_text(path, UsageError).split("\n")]
        sources = [line for line in lines if line and line != "#" and not line.startswith("# ")]
        if not sources:
            raise UsageError(f"{path} has no sources; expected one in each line")
        if any(source.startswith("@") for source in sources):
            raise UsageError(f"{path} names a file of sources in a line; expected sources alone")
        if any(redacted(source) != source for source in sources):
            warn_if_shared(path)
        yield from sources


def starting(specs: Sequence[SourceSpec], text: str, *, at_once: bool = True) -> list[SourceSpec]:
    """The sources with this start time, but for those that have one of their own.

    `at_once`: they may have been recorded at the same time, by several cameras.
    """
    start = parse_start(text, "--start-time")
    count = sum(spec.start is None for spec in specs)
    if count > 1 and start != CONTAINER and not at_once:
        raise UsageError(
            f"--start-time {text}: {count} files would begin at the same time; give each its own "
            f"with FILE#start_time=TIME, or --start-time {CONTAINER}: as the files say"
        )
    return [
        spec if spec.start is not None else _started(spec, start, "--start-time") for spec in specs
    ]


def _started(spec: SourceSpec, start: Start, setting: str) -> SourceSpec:
    """The spec with its start time; UsageError for live sources, and without a container."""
    if _is_live(spec):
        raise UsageError(
            f"source '{spec.label}': {setting} is for recordings, and this source is live: its "
            "pictures have the time of their arrival; give the recordings their own with "
            "FILE#start_time=TIME"
        )
    if start == CONTAINER and spec.kind in {"images", "synthetic"}:
        raise UsageError(
            f"source '{spec.label}': {setting}={CONTAINER}, but only video files say when they "
            "were recorded; give a time, such as 2026-11-29T08:00:00+01:00"
        )
    return msgspec.structs.replace(spec, start=start)


def _is_live(spec: SourceSpec) -> bool:
    """Whether a source is certainly live; for HTTP this is known once it is open."""
    if spec.kind == "synthetic":
        return scene_options(spec.uri).live
    return spec.kind == "camera" or spec.uri.lower().startswith(("rtsp:", "rtsps:"))


def _unseen(found: Iterable[SourceSpec], seen: set[str]) -> Iterator[SourceSpec]:
    """The sources without files in `seen`; adds their files to it."""
    for spec in found:
        path = os.path.realpath(spec.uri) if spec.kind == "file" else None
        if path is None or path not in seen:
            yield spec
        if path is not None:
            seen.add(path)


def _is_file(text: str) -> bool:
    """Whether a text names one file, not a directory or glob."""
    body, _ = _without_settings(text)
    return _exists(body) and not Path(body).is_dir()


def is_source(text: str) -> bool:
    """Whether an argument is a source and no other file, for commands that take both."""
    body, _ = _without_settings(_split_id(text)[1])
    return bool(
        Path(body).suffix.lower() in VIDEOS | IMAGES
        or (_exists(body) and Path(body).is_dir())
        or re.fullmatch(r"[0-9]+|/dev/video[0-9]+", body)
        or re.match(r"synthetic:|[A-Za-z][A-Za-z0-9+.-]*://", body)
        or (glob.has_magic(body) and not _exists(body))
    )


def _named(spec: SourceSpec, name: str) -> SourceSpec:
    """The spec under its name; what lies in no directory has its plane where we are, by name."""
    plane = spec.ground_plane
    if spec.kind in {"camera", "url"}:
        plane = _plane(Path(f"{name}.ground_plane.json"))
    return msgspec.structs.replace(spec, id=name, ground_plane=plane)


def _check_text(spec: SourceSpec) -> None:
    """Names go into events and summaries, settings to other processes, and these are UTF-8."""
    try:
        spec.uri.encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"source '{_shown(spec.label)}': the name has bytes that are not UTF-8; rename the file"
        ) from None
    for name, value in spec.options.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            text = f"source '{spec.label}': {name} has bytes that are not UTF-8"
            raise UsageError(text) from None


def _shown(label: str) -> str:
    """The label as UTF-8 text: other bytes, and halves of surrogate pairs, as escapes."""
    try:
        text = label.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # a half that stands for no byte
        text = label.encode(errors="backslashreplace")
    return text.decode(errors="backslashreplace")


def _configured(text: str, recursive: bool) -> Iterator[SourceSpec]:
    """The sources of one text without its id; settings after '#' go into each of them."""
    body, pairs = _without_settings(text)
    for spec in _found(body, recursive):
        yield _with_settings(spec, pairs, f"source '{redacted(body)}'", Path())


def source_of(text: str, settings: Sequence[Setting], base: Path) -> SourceSpec:
    """The one source of a text without an id, with settings that may also follow its '#'.

    Relative paths start at `base`. UsageError or SourceError in one line.
    """
    body, pairs = _without_settings(_based(text, base))
    where = f"source '{redacted(body)}'"
    if twice := {name for name, _ in pairs} & {name for name, _ in settings}:
        raise UsageError(f"{where} has '{min(twice)}' twice, after '#' and as a setting of its own")
    found = _found(body, recursive=False)
    if len(found) != 1:
        raise UsageError(f"{where} is {len(found)} sources; expected one")
    spec = _with_settings(found[0], [*pairs, *settings], where, base)
    _check_text(spec)
    return spec


def _based(text: str, base: Path) -> str:
    """The text with its path from `base`, if it is a relative path."""
    if "://" in text or not text:
        return text
    path = str(base / text)
    if _exists(_without_settings(path)[0]):
        return path
    if re.match(r"[0-9]+(#|$)|[A-Za-z][A-Za-z0-9+.-]*:", text):
        return text
    return os.path.join(glob.escape(str(base)), text) if glob.has_magic(text) else path


def _with_settings(
    spec: SourceSpec, pairs: Sequence[Setting], where: str, base: Path
) -> SourceSpec:
    """The spec with settings, names and values; UsageError for those that it does not have."""
    seconds = seconds_of(pairs, where)
    check_settings(_transport(spec), pairs, where)
    given = dict(pairs)
    spec = msgspec.structs.replace(
        spec,
        uri=_with_credentials(spec.uri, given, where, base),
        options=ffmpeg_options(given, where, base),
        hwaccel=given.get("hwaccel"),
        **seconds,
    )
    if "start_time" not in given:
        return spec
    return _started(spec, parse_start(given["start_time"], "start_time"), "start_time")


def _with_credentials(uri: str, given: dict[str, str], where: str, base: Path) -> str:
    user, password, file = (given.get(name) for name in CREDENTIALS)
    if file is not None:
        if password is not None:
            raise UsageError(f"{where} has both password and password_file; give one of them")
        password = password_in(base / file, where)
    if user is None and password is None:
        return uri
    return with_credentials(uri, user, password, where)


def _transport(spec: SourceSpec) -> Transport:
    """The kind of a source, of URLs that of their scheme."""
    if spec.kind != "url":
        return spec.kind
    return "rtsp" if spec.uri.lower().startswith("rtsp") else "http"


def _without_settings(text: str) -> tuple[str, list[tuple[str, str]]]:
    body, _, tail = text.rpartition("#")
    plain = tail.replace("+", "%2B")  # a plus is a plus: of a time zone, say
    settings = r"\w+=[^@]*" if "://" in body else r"\w+=[^@/]*"  # a path may go on after a '#'
    pairs = parse_qsl(plain, keep_blank_values=True) if re.fullmatch(settings, tail) else []
    return (body, pairs) if body and pairs and not _exists(text) else (text, [])


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a name too long for the file system is none of its files
        return False


def _found(text: str, recursive: bool) -> list[SourceSpec]:
    try:
        return _meant(text, recursive)
    except OSError as error:
        raise SourceError(f"source '{redacted(text)}' cannot be read: {error.strerror}") from None


def _meant(text: str, recursive: bool) -> list[SourceSpec]:
    if not text:
        raise UsageError(
            "a source is empty; expected a path, glob, camera index, URL or synthetic:"
        )
    if camera := re.fullmatch(r"/dev/video([0-9]+)", text):
        return [_spec(f"camera-{camera.group(1)}", text, "camera")]
    path = Path(text)
    if _exists(text):
        return _directory(path, recursive) if path.is_dir() else [_file(path)]
    if re.fullmatch(r"[0-9]+", text):
        return [_camera(text)]
    if text.startswith("synthetic:"):
        scene_options(text)
        scene = text.removeprefix("synthetic:").partition("?")[0]
        return [_spec(f"synthetic-{scene}" if scene else "synthetic", text, "synthetic")]
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text):
        return [_url(text, scheme.group(1))]
    return _glob(str(path), redacted(text))


def _hint(path: str) -> str:
    """Advice for a path that does not exist, but exists up to its '#'."""
    body = path.rpartition("#")[0]
    if not (body and _exists(body)):
        return ""
    return f". Settings of {body} are written #name=value&name=value, with %2F for / and %40 for @"


def _camera(number: str) -> SourceSpec:
    if len(number) > 3 or int(number) > LAST_CAMERA:
        raise SourceError(
            f"source '{number}': no such file or directory, and cameras have the numbers "
            f"0 to {LAST_CAMERA}"
        )
    return _spec(f"camera-{number}", f"/dev/video{number}", "camera")


def _url(text: str, scheme: str) -> SourceSpec:
    safe = redacted(text)
    if scheme.lower() not in URLS or not text.startswith(f"{scheme}://"):
        known = ", ".join(f"{name}://" for name in sorted(URLS))
        raise UsageError(
            f"source '{safe}': no such file, and '{scheme}:' is none of {known}, synthetic:"
        )
    if re.match(r"[^:]*://[/?]|[^:]*://$", text):
        raise UsageError(f"source '{safe}' names no host; expected {scheme}://host/path")
    if is_cut(text) == "yes":
        raise UsageError(
            f"source '{safe}': its password has a character that is not allowed in a URL; {ENCODE}"
        )
    if "#" in text:
        raise UsageError(
            f"source '{safe}': what follows '#' is not made of settings, name=value&name=value; "
            "there and in the address write %23 for #, in a setting %40 for @ and %26 for &"
        )
    return _spec(safe.partition("://")[2], text, "url")


def _directory(path: Path, recursive: bool) -> list[SourceSpec]:
    """The sequences and videos of a directory, or its images; UsageError when it has both."""
    inside = entries(path)
    looked_in = list(folders(path)) if recursive else [path, *filter(_is_sequence, inside)]
    videos = [video for folder in looked_in for video in _videos_or_sequence(folder)]
    images = images_in(inside)
    if videos and images and not recursive and not _is_sequence(path):
        raise UsageError(
            f"source '{path}' holds {len(videos)} videos and {len(images)} images; "
            f"say which with a glob, such as '{path}/*{videos[0].suffix or '/'}'"
        )
    if videos:
        if not recursive and not _is_sequence(path):
            _warn_of_videos_below(path)
        return [_video_or_sequence(video) for video in distinct(videos)]
    if recursive:
        pictured = [folder for folder in looked_in if images_in(entries(folder))]
    else:
        pictured = [path] if images else []
    if not pictured:
        raise SourceError(
            f"source '{path}' is a directory without videos, images or a MOTChallenge "
            f"seqinfo.ini{_hint_below(path)}"
        )
    return [_pictures(folder) for folder in pictured]


def _videos_or_sequence(folder: Path) -> list[Path]:
    return [folder] if _is_sequence(folder) else videos_in(entries(folder))


def _video_or_sequence(path: Path) -> SourceSpec:
    return _sequence(path) if path.is_dir() else _file(path)


def _pictures(folder: Path) -> SourceSpec:
    name = folder.resolve().name
    beside = folder.resolve().parent / f"{name}.ground_plane.json"
    return _spec(name, str(folder), "images", _plane(beside, folder / "ground_plane.json"))


def _hint_below(folder: Path) -> str:
    """A hint about videos in directories below `folder`; empty without any."""
    below, all_seen = videos_below(folder)
    if not below:
        return ""
    count = f"{'' if all_seen else 'at least '}{len(below)}"
    return (
        f"; videos in directories below it: {count}. Take them with a glob such as "
        f"'{folder}/**/*{below[0].suffix}', or all of them with `batch --recursive`"
    )


def _warn_of_videos_below(folder: Path) -> None:
    if hint := _hint_below(folder):
        warn(f"source '{folder}': only its own videos{hint}")


def _is_sequence(folder: Path) -> bool:
    return (folder / "seqinfo.ini").is_file()


def _sequence(folder: Path) -> SourceSpec:
    """A MOTChallenge folder: its `video=` or its images, at the frame rate of seqinfo.ini.

    The rate of seqinfo.ini goes before the container's: public sequences were often re-wrapped.
    """
    info = read_seqinfo(folder / "seqinfo.ini", SourceError)
    name = info.text("name", folder.resolve().name)
    fps = info.number("frameRate") or 0.0
    rate = fps if LEAST_FPS <= fps < 1e6 else None
    plane = _plane(folder / "ground_plane.json")
    if video := info.video:
        if not video.is_file():
            raise SourceError(f"{info.path} says video={info.text('video')}, but {video} is absent")
        return _spec(name, str(video), "file", plane, rate)
    if not images_of(str(info.images)):
        raise SourceError(f"{info.path} has no video= and {info.images} holds no images")
    return _spec(name, str(info.images), "images", plane, rate)


def _file(path: Path) -> SourceSpec:
    own = path.with_name(f"{path.stem}.ground_plane.json")
    if path.suffix.lower() in IMAGES:
        return _spec(path.stem, str(path), "images", _plane(own))
    if _is_sequence(path.parent):
        sequence = _sequence(path.parent)
        if Path(sequence.uri) == path:
            return sequence
    shared = path.parent / "ground_plane.json"
    # a plane that is not named after the file may be another camera's: take it only when
    # there is no other video that it could belong to
    alone = shared.is_file() and videos_in(entries(path.parent)) == [path]
    return _spec(path.stem, str(path), "file", _plane(own, *([shared] if alone else [])))


def _glob(pattern: str, shown: str) -> list[SourceSpec]:
    if not glob.has_magic(pattern):
        raise SourceError(f"source '{shown}': no such file or directory{_hint(pattern)}")
    found = matches(pattern)
    videos = distinct(p for p in found if _is_sequence(p) or videos_in([p]))
    images = images_in(found)
    if videos and images:
        raise UsageError(
            f"source '{shown}' matches {len(videos)} videos and {len(images)} images; "
            "say which with a narrower glob"
        )
    if images:
        return [_spec(images[0].resolve().parent.name, pattern, "images")]
    if not videos:
        files = f"{len(found)} files, none of them video or image" if found else "nothing"
        raise SourceError(f"source '{shown}' matches {files}")
    return [_video_or_sequence(path) for path in videos]


def _plane(*paths: Path) -> Homography | None:
    return next((read_ground_plane(path) for path in paths if path.is_file()), None)


def _spec(
    name: str,
    uri: str,
    kind: Kind,
    ground_plane: Homography | None = None,
    fps: float | None = None,
) -> SourceSpec:
    id_ = plain_id(name) or kind
    return SourceSpec(id=id_, uri=uri, kind=kind, ground_plane=ground_plane, fps=fps)


def plain_id(name: str) -> str:
    """The name as an id; empty when nothing of it is left, as of names in other scripts."""
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_-]+", "-", ascii_).strip("-")[:64]


def _split_id(text: str) -> tuple[str | None, str]:
    name, equals, rest = text.partition("=")
    if not equals or _exists(text) or re.search(r"[/\\:?*#\[.]", name):
        return None, text
    if not ID.fullmatch(name):
        raise UsageError(
            f"source id '{name}' in '{redacted(text)}' is not made of a-z, 0-9, '_' and '-' "
            "(1 to 64 of them)"
        )
    return name, rest


def _unique(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while (numbered := f"{name[: 63 - len(str(number))]}-{number}") in taken:
        number += 1
    return numbered
