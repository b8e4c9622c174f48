"""What a user calls a source, and what it means.

`resolve` turns the texts of a command line into specs, without opening anything: paths, globs,
directories, MOTChallenge sequences, camera indexes, URLs and `synthetic:` scenes, each perhaps
after `id=` and before `#fps=7&read_s=2`.
"""

import configparser
import glob
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

import msgspec

from streamvis.errors import SourceError, UsageError
from streamvis.geometry import Homography, read_ground_plane
from streamvis.sources.credentials import told, without_credentials
from streamvis.sources.options import scene_options

Kind = Literal["file", "images", "camera", "url", "synthetic"]

_VIDEO = (
    "mp4 m4v mov avi mkv webm ts mts m2ts mpg mpeg mjpeg mjpg wmv flv 3gp ogv "
    "h264 264 h265 265 hevc y4m mxf asf vob gif"
)
_IMAGE = "jpg jpeg png bmp tif tiff webp ppm pgm pnm jp2"
VIDEOS = frozenset(f".{name}" for name in _VIDEO.split())
IMAGES = frozenset(f".{name}" for name in _IMAGE.split())
CHECKS = "ground_plane.png"  # `streamvis calibrate` leaves these beside videos: not pictures of it
URLS = frozenset({"rtsp", "rtsps", "http", "https"})
ID = re.compile(r"[a-z0-9_-]{1,64}")


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One source, named but not yet open. It travels to the process that decodes it."""

    id: str  # [a-z0-9_-]{1,64}, unique in the run
    uri: str  # path, glob of images, device, URL with its credentials, or synthetic: scene
    kind: Kind
    ground_plane: Homography | None = None  # foot px -> metres
    fps: float | None = None  # when given, media time counts pictures at this rate
    open_s: float = 10.0  # how long a URL may take to open, seconds
    read_s: float = 5.0  # how long a URL may stay silent, seconds
    options: dict[str, str] = {}  # for the demuxer, as FFmpeg names them

    @property
    def label(self) -> str:
        """The uri without credentials, for logs and events."""
        return without_credentials(self.uri) if self.kind == "url" else self.uri

    def __repr__(self) -> str:  # a spec may end up in a log
        return f"SourceSpec(id={self.id!r}, kind={self.kind!r}, label={self.label!r})"


def resolve(specs: Sequence[str]) -> list[SourceSpec]:
    """The sources that the texts mean, with unique ids. UsageError or SourceError in one line."""
    split = [_split_id(text) for text in specs]
    given_ids = [given for given, _ in split if given is not None]
    for name in given_ids:
        if given_ids.count(name) > 1:
            raise UsageError(f"two sources are called '{name}'; give each its own id")
    taken = set(given_ids)
    out = []
    for given, text in split:
        for number, spec in enumerate(_configured(text)):
            name = given if given and number == 0 else _unique(given or spec.id, taken)
            taken.add(name)
            _check_text(spec.uri)
            out.append(_named(spec, name))
    return out


def _named(spec: SourceSpec, name: str) -> SourceSpec:
    """The spec under its name; what lies in no directory has its plane where we are, by name."""
    plane = spec.ground_plane
    if spec.kind in {"camera", "url"}:
        plane = _plane(Path(f"{name}.ground_plane.json"))
    return msgspec.structs.replace(spec, id=name, ground_plane=plane)


def _check_text(uri: str) -> None:
    """Names go into events and summaries, and these are UTF-8."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        shown = uri.encode(errors="backslashreplace").decode()
        raise SourceError(
            f"source '{shown}': the name holds bytes that are not UTF-8; rename it"
        ) from None


def images_of(uri: str) -> list[Path]:
    """The image files of a directory, glob or single path, in natural order: 2 before 10."""
    path = Path(uri)
    if path.is_file():
        return [path] if path.suffix.lower() in IMAGES else []
    found: Iterable[Path] = path.iterdir() if path.is_dir() else map(Path, glob.glob(uri))
    images = (p for p in found if p.suffix.lower() in IMAGES and not p.name.endswith(CHECKS))
    return sorted(images, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", path.name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces] + [(-1, str(path.parent))]


def _configured(text: str) -> Iterator[SourceSpec]:
    """The sources of one text without its id; settings after '#' go into each of them."""
    body, _, tail = text.rpartition("#")
    pairs = parse_qsl(tail, keep_blank_values=True) if re.fullmatch(r"\w+=[^@/]*", tail) else []
    if not body or not pairs or _exists(text):
        yield from _found(text)
        return
    seconds = {key: _positive(text, key, value) for key, value in pairs if key in _SECONDS}
    options = {key: value for key, value in pairs if key not in _SECONDS}
    for spec in _found(body):
        yield msgspec.structs.replace(spec, options=options, **seconds)


_SECONDS = {"fps", "open_s", "read_s"}


def _positive(text: str, key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise UsageError(f"source '{told(text)}': {key}={value} is not a positive number")
    return number


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a name too long for the file system is none of its files
        return False


def _found(text: str) -> list[SourceSpec]:
    try:
        return _meant(text)
    except OSError as error:
        raise SourceError(f"source '{told(text)}' cannot be read: {error.strerror}") from None


def _meant(text: str) -> list[SourceSpec]:
    if not text:
        raise UsageError(
            "a source is empty; expected a path, glob, camera index, URL or synthetic:"
        )
    if camera := re.fullmatch(r"(?:/dev/video)?([0-9]+)", text):
        number = camera.group(1)
        return [_spec(f"camera-{number}", f"/dev/video{number}", "camera")]
    if text.startswith("synthetic:"):
        scene_options(text)
        scene = text.removeprefix("synthetic:").partition("?")[0]
        return [_spec(f"synthetic-{scene}" if scene else "synthetic", text, "synthetic")]
    path = Path(text)
    if _exists(text):
        return _directory(path) if path.is_dir() else [_file(path)]
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", text):
        return [_url(text, scheme.group(1))]
    return _glob(str(path))


def _url(text: str, scheme: str) -> SourceSpec:
    safe = told(text)
    if scheme.lower() not in URLS or not text.startswith(f"{scheme}://"):
        known = ", ".join(f"{name}://" for name in sorted(URLS))
        raise UsageError(
            f"source '{safe}': no such file, and '{scheme}:' is none of {known}, synthetic:"
        )
    if re.match(r"[^:]*://[/?]|[^:]*://$", text):
        raise UsageError(f"source '{safe}' names no host; expected {scheme}://host/path")
    return _spec(safe.partition("://")[2], text, "url")


def _directory(path: Path) -> list[SourceSpec]:
    """A sequence, sequences, videos or images; anything else is told, not guessed."""
    if (path / "seqinfo.ini").is_file():
        return [_sequence(path)]
    entries = sorted(path.iterdir(), key=_natural)
    sequences = [entry for entry in entries if (entry / "seqinfo.ini").is_file()]
    if sequences:
        return [_sequence(entry) for entry in sequences]
    videos = [entry for entry in entries if _is_video(entry)]
    images = images_of(str(path))
    if videos and images:
        raise UsageError(
            f"source '{path}' holds {len(videos)} videos and {len(images)} images; "
            f"say which with a glob, such as '{path}/*{videos[0].suffix}'"
        )
    if images:
        name = path.resolve().name
        beside = path.resolve().parent / f"{name}.ground_plane.json"
        plane = _plane(beside, path / "ground_plane.json")
        return [_spec(name, str(path), "images", plane)]
    if not videos:
        raise SourceError(
            f"source '{path}' is a directory without videos, images or a MOTChallenge seqinfo.ini"
        )
    return [_file(video) for video in videos]


def _sequence(folder: Path) -> SourceSpec:
    """A MOTChallenge folder: its `video=` or its images, at the frame rate of seqinfo.ini.

    The rate of seqinfo.ini goes before the container's: public sequences were often re-wrapped.
    """
    where = folder / "seqinfo.ini"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(where.read_text(encoding="utf-8"))
        info = parser["Sequence"]
        fps = info.getfloat("frameRate", fallback=0.0)
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        detail = " ".join(str(error).split())
        raise SourceError(f"{where} is not a MOTChallenge seqinfo.ini: {detail}") from None
    name = info.get("name", folder.resolve().name)
    plane = _plane(folder / "ground_plane.json")
    rate = fps if 0 < fps < 1e6 else None
    if video := info.get("video"):
        path = folder / video
        if not path.is_file():
            raise SourceError(f"{where} says video={video}, but {path} is not there")
        return _spec(name, str(path), "file", plane, rate)
    pictures = folder / info.get("imDir", "img1")
    if not images_of(str(pictures)):
        raise SourceError(f"{where} has no video= and {pictures} holds no images")
    return _spec(name, str(pictures), "images", plane, rate)


def _file(path: Path) -> SourceSpec:
    own = path.with_name(f"{path.stem}.ground_plane.json")
    if path.suffix.lower() in IMAGES:
        return _spec(path.stem, str(path), "images", _plane(own))
    if (path.parent / "seqinfo.ini").is_file():
        sequence = _sequence(path.parent)
        if Path(sequence.uri) == path:
            return sequence
    # a plane that is not named after the file may be another camera's: take it only when
    # there is no other video that it could belong to
    alone = sum(map(_is_video, path.parent.iterdir())) == 1 and _is_video(path)
    shared = [path.parent / "ground_plane.json"] if alone else []
    return _spec(path.stem, str(path), "file", _plane(own, *shared))


def _glob(pattern: str) -> list[SourceSpec]:
    if not glob.has_magic(pattern):
        raise SourceError(f"source '{pattern}': no such file or directory")
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)), key=_natural)
    videos = [path for path in matches if _is_video(path) or (path / "seqinfo.ini").is_file()]
    images = images_of(pattern)
    if videos and images:
        raise UsageError(
            f"source '{pattern}' matches {len(videos)} videos and {len(images)} images; "
            "say which with a narrower glob"
        )
    if images:
        return [_spec(images[0].resolve().parent.name, pattern, "images")]
    if not videos:
        files = f"{len(matches)} files, none of them video or image" if matches else "nothing"
        raise SourceError(f"source '{pattern}' matches {files}")
    return [_sequence(path) if path.is_dir() else _file(path) for path in videos]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and path.is_file()


def _plane(*paths: Path) -> Homography | None:
    return next((read_ground_plane(path) for path in paths if path.is_file()), None)


def _spec(
    name: str,
    uri: str,
    kind: Kind,
    ground_plane: Homography | None = None,
    fps: float | None = None,
) -> SourceSpec:
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9_-]+", "-", ascii_).strip("-")[:64] or kind
    return SourceSpec(id=plain, uri=uri, kind=kind, ground_plane=ground_plane, fps=fps)


def _split_id(text: str) -> tuple[str | None, str]:
    name, equals, rest = text.partition("=")
    if not equals or _exists(text) or re.search(r"[/\\:?*#\[.]", name):
        return None, text
    if not ID.fullmatch(name):
        raise UsageError(
            f"source id '{name}' in '{told(text)}' is not made of a-z, 0-9, '_' and '-' "
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
