"""What a training was begun with, kept in its directory as `training.json`.

The same command goes on with what is there. One with another recipe, other data or other weights
is refused, and says what differs, unless it may overwrite.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from streamvis.errors import DataError, RunError, WeightsError
from streamvis.models.weights import find

NAME = "training.json"
ANNOTATIONS, IMAGES = "annotations.json", "images"
WAYS = "Choose another --out, or start anew, and lose what is there, with --overwrite"
Kind = Literal["detector", "embedder", "actions", "segmenter", "forecaster"]
READ_WHOLE = {".json", ".csv", ".txt", ".ini"}  # labels: an edit may leave their size as it was
READ_ENDS = {
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"),
    *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".onnx"),
}
END = 1 << 16  # bytes at the head and at the tail of a picture or video
RESULTS = ("last.pt", "fold-*/*.npz", "fold-*/*/*/last.pt", "all/*/*/last.pt")
WEIGHTS = "*.safetensors"
REST = (  # what is made beside them by the recipe, whose names do not tell which
    *("log.jsonl", "curves*.png", "fold-*/*.safetensors", "clips/readings-*.npz", "clips/maps-*/*"),
    *(f"{part}/*/{name}" for part in ("fold-*", "all") for name in ("*/log.jsonl", "maps-*/*")),
)
CACHES = (  # of data and other networks, whatever the recipe
    *("people.npz", "clips/*.npy", "maps/*/*.maps", "maps/*/*.grey", "maps/*/*.json"),
)
R = TypeVar("R", bound=msgspec.Struct)
MOST = 6  # differences that a message names


class TrainingInput(msgspec.Struct, frozen=True):
    """Data, or the weights of a network that was started from or that taught."""

    option: str  # of the command line, or the field of the recipe
    name: str
    sha256: str  # empty of weights that come with a package

    @property
    def content(self) -> str:
        """The same in another place is the same."""
        return self.sha256 or self.name

    def __str__(self) -> str:
        return f"{self.name} ({self.sha256[:12]})" if self.sha256 else self.name


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what a training becomes."""

    kind: Kind
    recipe: dict[str, Any]
    inputs: list[TrainingInput]
    options: dict[str, Any] = {}
    streamvis: str = ""  # for people: a newer version goes on


def begin(
    out: Path,
    kind: Kind,
    recipe: msgspec.Struct,
    *,
    data: Mapping[str, Sequence[Path]],
    weights: Mapping[str, Sequence[str]],
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Make `out` the directory of this training; DataError when it is already that of another.

    data, weights: by the option, or the field of the recipe, that names them.
    """
    import streamvis

    training = TrainingRecord(
        kind=kind,
        recipe=_plain(recipe),
        inputs=[
            *(
                TrainingInput(o, str(path), fingerprint(path, out))
                for o, some in data.items()
                for path in some
            ),
            *(
                TrainingInput(o, name, _sha256_of(name))
                for o, some in weights.items()
                for name in some
            ),
        ],
        options=dict(options or {}),
        streamvis=streamvis.__version__,
    )
    before = _read(out, type(recipe), overwrite)
    _make_room(out, before, training, overwrite)
    try:
        out.mkdir(parents=True, exist_ok=True)
        beside = out / f"{NAME}.tmp"
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(training), indent=1) + b"\n")
        os.replace(beside, out / NAME)
    except OSError as error:
        raise RunError(f"{out} cannot be written to: {error.strerror}") from None


def _make_room(
    out: Path, before: TrainingRecord | None, now: TrainingRecord, overwrite: bool
) -> None:
    """Leave in `out` only what is of this training, or refuse to."""
    found = differences(before, now) if before else []
    worth = (*RESULTS, WEIGHTS) if before else RESULTS
    there = any(True for pattern in worth for _ in out.glob(pattern))
    if there and not overwrite:
        if before is None:
            raise DataError(
                f"{out} holds a training of an older version, which does not say what it was made "
                f"from. {WAYS}"
            )
        if found:
            more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
            raise DataError(
                f"{out} holds another training: {'; '.join(found[:MOST])}{more}. {WAYS}"
            )
    if found or (overwrite and (there or before)):
        same = before is not None and _same_inputs(before, now)
        for pattern in (*worth, *REST, *(() if same else CACHES)):
            for path in filter(Path.is_file, list(out.glob(pattern))):
                path.unlink()


def begun_with(out: Path, recipe: type[R]) -> R:
    """The recipe of the training in a directory; DataError when it is not that of one."""
    found = _read(out, recipe, overwrite=False)
    if found is None:
        raise DataError(f"{out} is no training's directory: it has no {NAME}")
    try:
        return msgspec.convert(found.recipe, recipe)
    except msgspec.ValidationError as error:
        raise DataError(f"{out / NAME} is of another kind of training: {error}") from None


def differences(before: TrainingRecord, now: TrainingRecord) -> list[str]:
    """What differs, by name, each with what it was and what it is."""
    if before.kind != now.kind:
        return [f"it is of a {before.kind}, and this is of a {now.kind}"]
    found = list(_fields("", before.recipe, now.recipe))
    found += _fields("", before.options, now.options)
    for option in dict.fromkeys(one.option for one in (*before.inputs, *now.inputs)):
        was, is_ = ([one for one in t.inputs if one.option == option] for t in (before, now))
        named = before.recipe.get(option) == now.recipe.get(option)  # else it is in `found` already
        if named and [one.content for one in was] != [one.content for one in is_]:
            found.append(f"{option} was {_listed(was)}, and is {_listed(is_)}")
    return found


def fingerprint(path: Path, out: Path | None = None) -> str:
    """SHA-256 of a file, or of the names, sizes and contents of a folder's data.

    Of pictures and videos the first and last 64 KiB count. Where data lies is not part of it.
    """
    digest = hashlib.sha256()
    try:
        for name, file in _files(path, out):
            digest.update(f"{name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
            with file.open("rb") as opened:
                if file.suffix.lower() in READ_WHOLE:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
                    continue
                digest.update(opened.read(END))
                if file.stat().st_size > 2 * END:
                    opened.seek(-END, os.SEEK_END)
                digest.update(opened.read(END))
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None
    return digest.hexdigest()


def _files(path: Path, out: Path | None) -> Iterator[tuple[str, Path]]:
    """Data by name, in order; without hidden files and the directories of trainings."""
    if path.is_file():
        yield "", path
        return
    apart = os.path.realpath(out) if out else None
    seen: set[str] = set()  # a link may lead round in a circle
    found: list[tuple[str, Path]] = []
    for folder, below, names in os.walk(path, followlinks=True):
        here = Path(folder)
        hidden = here != path and here.name.startswith(".")
        if hidden or (here / NAME).exists() or os.path.realpath(here) == apart:
            below.clear()
            continue
        if here == path and ANNOTATIONS in names:  # COCO's layout: nothing else is read
            below[:], names = [n for n in below if n == IMAGES], [ANNOTATIONS]
        below[:] = [name for name in below if os.path.realpath(here / name) not in seen]
        seen.update(os.path.realpath(here / name) for name in below)
        for name in names:
            file = here / name
            known = file.suffix.lower() in READ_WHOLE | READ_ENDS
            if known and not name.startswith(".") and file.is_file():
                found.append((file.relative_to(path).as_posix(), file))
    yield from sorted(found)


def _sha256_of(name: str) -> str:
    try:
        path = find(name)
    except WeightsError:  # of a package: imagenet, eyes; others are refused where they are loaded
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fields(above: str, was: Any, is_: Any) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(is_, dict):
        for key in dict.fromkeys([*was, *is_]):
            name = f"{above}.{key}" if above else key
            yield from _fields(name, was.get(key), is_.get(key))
    elif was != is_:
        yield f"{above} was {_shown(was)}, and is {_shown(is_)}"


def _shown(value: Any) -> str:
    return "absent" if value is None else msgspec.json.encode(value).decode()


def _listed(values: Sequence[TrainingInput]) -> str:
    more = [f"{len(values) - MOST} more"] if len(values) > MOST else []
    return ", ".join([*map(str, values[:MOST]), *more]) or "absent"


def _same_inputs(before: TrainingRecord, now: TrainingRecord) -> bool:
    """Whether what was made of data and of other networks is still good."""
    return before.kind == now.kind and not differences(
        msgspec.structs.replace(before, recipe={}), msgspec.structs.replace(now, recipe={})
    )


def _read(out: Path, recipe: type[msgspec.Struct], overwrite: bool) -> TrainingRecord | None:
    """What is said there, with the defaults of today for what its version did not know."""
    try:
        found = msgspec.json.decode((out / NAME).read_bytes(), type=TrainingRecord)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise DataError(f"{out} is a file; --out is a directory") from None
    except (OSError, msgspec.DecodeError) as error:
        if overwrite:
            return None
        raise DataError(f"{out / NAME} cannot be read: {error}. {WAYS}") from None
    try:
        return msgspec.structs.replace(found, recipe=_plain(msgspec.convert(found.recipe, recipe)))
    except msgspec.ValidationError:  # of another kind, or of a version with other fields
        return found


def _plain(recipe: msgspec.Struct) -> dict[str, Any]:
    """The fields of a recipe as the file has them."""
    return dict(msgspec.json.decode(msgspec.json.encode(recipe)))
