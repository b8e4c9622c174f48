"""The record of a training's recipe, data and weights, kept in its directory as `training.json`.

The same command resumes the training. A command with another recipe, other data or other weights
is refused with the differences, unless it may overwrite.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from streamvis.errors import DataError, RunError, WeightsError
from streamvis.files import replace, sha256_of
from streamvis.models.weights import find

NAME = "training.json"
ANNOTATIONS, IMAGES = "annotations.json", "images"
WAYS = "Choose another --out, or start anew with --overwrite, which deletes it"
Kind = Literal["detector", "embedder", "actions", "segmenter", "forecaster", "pose", "lifter"]
READ_WHOLE = {".json", ".csv", ".txt", ".ini"}  # labels: an edit may leave their size as it was
READ_ENDS = {
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"),
    *(".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".onnx"),
}
END = 1 << 16  # bytes read at either end of an image or video
RESULTS = ("last.pt", "fold-*/*.npz", "fold-*/*/*/last.pt", "all/*/*/last.pt")
WEIGHTS = "*.safetensors"
REST = (  # further results that depend on the recipe
    *("log.jsonl", "curves*.png", "fold-*/*.safetensors", "clips/readings-*.npz", "clips/maps-*/*"),
    *("labelled/*.json", "labelled/*/*.png"),
    *(f"{part}/*/{name}" for part in ("fold-*", "all") for name in ("*/log.jsonl", "maps-*/*")),
)
CACHES = (  # made of the data and of other networks, independent of the recipe
    *("people/key.txt", "people/crops.npy", "clips/*.npy"),
    *("maps/*/*.maps", "maps/*/*.grey", "maps/*/*.json"),
)
R = TypeVar("R", bound=msgspec.Struct)
MOST = 6  # differences that a message names


class TrainingInput(msgspec.Struct, frozen=True):
    """Data, or the weights of a network that the training started from or was distilled from."""

    option: str  # of the command line, or the field of the recipe
    name: str
    sha256: str  # empty for weights from an installed package

    @property
    def content(self) -> str:
        """The identity of the input, wherever it is stored."""
        return self.sha256 or self.name

    def __str__(self) -> str:
        return f"{self.name} ({self.sha256[:12]})" if self.sha256 else self.name


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the result of a training depends on."""

    kind: Kind
    recipe: dict[str, Any]
    inputs: list[TrainingInput]
    options: dict[str, Any] = {}
    streamvis: str = ""  # version, for information: another version may resume


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
    """Make `out` the directory of this training; DataError when it belongs to another.

    data, weights: keyed by the option, or the recipe's field, that names them.
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
        replace(out / NAME, msgspec.json.format(msgspec.json.encode(training), indent=1) + b"\n")
    except OSError as error:
        raise RunError(f"{out} cannot be written to: {error.strerror}") from None


def _make_room(
    out: Path, before: TrainingRecord | None, now: TrainingRecord, overwrite: bool
) -> None:
    """Delete from `out` what belongs to another training; DataError where that is not allowed."""
    found = differences(before, now) if before else []
    worth = (*RESULTS, WEIGHTS) if before else RESULTS
    there = any(True for pattern in worth for _ in out.glob(pattern))
    if there and not overwrite:
        if before is None:
            raise DataError(
                f"{out} holds a training without {NAME}, as older versions wrote, so it cannot be "
                f"compared with this one. {WAYS}"
            )
        if found:
            more = f"; {len(found) - MOST} more" if len(found) > MOST else ""
            raise DataError(
                f"{out} holds another training: {'; '.join(found[:MOST])}{more}. {WAYS}"
            )
    if found or (overwrite and (there or before)):
        same = before is not None and _same_inputs(before, now)
        for pattern in (*worth, *REST, *(() if same else CACHES)):
            for path in filter(Path.is_file, list(out.glob(pattern))):
                path.unlink()


def begun_with(out: Path, recipe: type[R]) -> R:
    """Return the recipe of the training in a directory; DataError when it holds none."""
    found = _read(out, recipe, overwrite=False)
    if found is None:
        raise DataError(f"{out} is not the directory of a training: it has no {NAME}")
    try:
        return msgspec.convert(found.recipe, recipe)
    except msgspec.ValidationError as error:
        raise DataError(f"{out / NAME} belongs to another kind of training: {error}") from None


def differences(before: TrainingRecord, now: TrainingRecord) -> list[str]:
    """Return the differences as texts with name, old value and new value."""
    if before.kind != now.kind:
        return [f"kind was {before.kind}, is now {now.kind}"]
    found = list(_fields("", before.recipe, now.recipe))
    found += _fields("", before.options, now.options)
    for option in dict.fromkeys(one.option for one in (*before.inputs, *now.inputs)):
        was, is_ = ([one for one in t.inputs if one.option == option] for t in (before, now))
        named = before.recipe.get(option) == now.recipe.get(option)  # else `found` has it already
        if named and [one.content for one in was] != [one.content for one in is_]:
            found.append(f"{option} was {_listed(was)}, is now {_listed(is_)}")
    return found


def fingerprint(path: Path, out: Path | None = None) -> str:
    """Return the SHA-256 of a file, or of the names, sizes and contents of a folder's data.

    Of images and videos only the first and last 64 KiB are read. The location is not part of it.
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
    """Yield data files by name, in order, without hidden files and directories of trainings."""
    if path.is_file():
        yield "", path
        return
    apart = os.path.realpath(out) if out else None
    seen: set[str] = set()  # symbolic links may form a circle
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
    except WeightsError:  # imagenet and eyes come from packages; others fail where they are loaded
        return ""
    return sha256_of(path)


def _fields(above: str, was: Any, is_: Any) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(is_, dict):
        for key in dict.fromkeys([*was, *is_]):
            name = f"{above}.{key}" if above else key
            yield from _fields(name, was.get(key), is_.get(key))
    elif was != is_:
        yield f"{above} was {_shown(was)}, is now {_shown(is_)}"


def _shown(value: Any) -> str:
    return "absent" if value is None else msgspec.json.encode(value).decode()


def _listed(values: Sequence[TrainingInput]) -> str:
    more = [f"{len(values) - MOST} more"] if len(values) > MOST else []
    return ", ".join([*map(str, values[:MOST]), *more]) or "absent"


def _same_inputs(before: TrainingRecord, now: TrainingRecord) -> bool:
    """Tell whether caches of data and of other networks are still valid."""
    return before.kind == now.kind and not differences(
        msgspec.structs.replace(before, recipe={}), msgspec.structs.replace(now, recipe={})
    )


def _read(out: Path, recipe: type[msgspec.Struct], overwrite: bool) -> TrainingRecord | None:
    """Read the record of a directory; fields that its version did not know get their defaults."""
    try:
        found = msgspec.json.decode((out / NAME).read_bytes(), type=TrainingRecord)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise DataError(f"{out} is a file; --out is a directory") from None
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        if overwrite:
            return None
        raise DataError(f"{out / NAME} cannot be read: {error}. {WAYS}") from None
    try:
        return msgspec.structs.replace(found, recipe=_plain(msgspec.convert(found.recipe, recipe)))
    except msgspec.ValidationError:  # another kind, or a version with other fields
        return found


def _plain(recipe: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a recipe as a file has them."""
    return dict(msgspec.json.decode(msgspec.json.encode(recipe)))
