"""A growing folder of annotated images: `images/` and `annotations.json` in COCO layout.

The file is complete at any time. It records the command that made it and a digest of its
annotations, so that the same command can resume and corrected annotations are never overwritten.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec

from streamvis.errors import DataError, RunError, UsageError
from streamvis.files import is_same, replace
from streamvis.messages import Array
from streamvis.parsing import read_text
from streamvis.training.detector.annotation import PERSON, CocoAnnotation, CocoImage

WAYS = "Choose another --out (training takes --data repeatedly), or replace them with --overwrite"
SAVE_EVERY = 20  # pictures; after kill -9, those since the last save are annotated again


class LabelOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of the annotations, which is the `info` of the file."""

    description: str = (
        "people found by streamvis label, not checked by anyone; iscrowd 1: in doubt, to be ignored"
    )
    command: str  # with all options that affect the annotations
    sources: dict[str, str]  # id -> where it came from
    weights_sha256: str
    streamvis: str
    date_created: str = ""
    labels_sha256: str = ""  # digest of images and annotations as written

    def differs(self, other: "LabelOrigin") -> str:
        """Return the difference that keeps `other` from resuming; empty when there is none.

        `other` may have more sources.
        """
        if self.command != other.command:
            return f"by `{self.command}`, and now it is `{other.command}`"
        if self.weights_sha256 != other.weights_sha256:
            return f"with weights {self.weights_sha256[:12]}, now {other.weights_sha256[:12]}"
        if self.streamvis != other.streamvis:
            return f"by streamvis {self.streamvis}, now {other.streamvis}"
        for id_ in self.sources.keys() & other.sources.keys():
            if self.sources[id_] != other.sources[id_]:
                return f"from {self.sources[id_]} as '{id_}', now {other.sources[id_]}"
        return ""


class CocoCategory(msgspec.Struct, frozen=True):
    id: int = PERSON
    name: str = "person"


class CocoFile(msgspec.Struct, kw_only=True):
    """The whole of `annotations.json`."""

    info: LabelOrigin
    categories: tuple[CocoCategory, ...] = (CocoCategory(),)
    images: list[CocoImage] = []
    annotations: list[CocoAnnotation] = []


class SourceCount(msgspec.Struct):
    """The numbers of annotated pictures, people and ignored regions of one source."""

    source: str
    pictures: int = 0
    people: int = 0
    in_doubt: int = 0


class CocoFolder:
    """Annotated images on disk: `add` them, and `save` at the end, also after an error."""

    def __init__(self, root: Path, labels: CocoFile) -> None:
        self.path = root / "annotations.json"
        self.images = root / "images"
        self.labels = labels
        self._names = {image.file_name for image in labels.images}
        self._unsaved = 0
        try:
            self.images.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.images} cannot be made: {error.strerror}") from None

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, file_name: str) -> bool:
        return file_name in self._names

    @property
    def next_image(self) -> int:
        return self.labels.images[-1].id + 1 if self.labels.images else 1

    @property
    def next_annotation(self) -> int:
        return self.labels.annotations[-1].id + 1 if self.labels.annotations else 1

    def add(self, pixels: Array, image: CocoImage, rows: list[CocoAnnotation]) -> None:
        """Write a picture (H, W, 3) RGB, then keep its annotations; RunError when that fails."""
        _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self.put(data.tobytes(), image, rows)

    def put(self, data: bytes, image: CocoImage, rows: list[CocoAnnotation]) -> None:
        """Write the file of a picture, then keep its annotations; RunError when that fails."""
        path = self.images / image.file_name
        with _writing(path):
            path.write_bytes(data)  # one that is cut short is not in the annotations
        self.labels.images.append(image)
        self.labels.annotations.extend(rows)
        self._names.add(image.file_name)
        self._unsaved += 1
        if self._unsaved == SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Replace the file atomically."""
        parts = msgspec.to_builtins([self.labels.images, self.labels.annotations])
        self.labels.info = msgspec.structs.replace(self.labels.info, labels_sha256=_digest(parts))
        with _writing(self.path):
            replace(self.path, msgspec.json.encode(self.labels) + b"\n", durable=False)
        self._unsaved = 0

    def counts(self) -> list[SourceCount]:
        """Count the annotations of each source, in the order of their first pictures."""
        counts: dict[str, SourceCount] = {}
        by_image = {}
        for image in self.labels.images:
            count = by_image[image.id] = counts.setdefault(image.source, SourceCount(image.source))
            count.pictures += 1
        for row in self.labels.annotations:
            by_image[row.image_id].people += 1 - row.iscrowd
            by_image[row.image_id].in_doubt += row.iscrowd
        return list(counts.values())


def open_folder(
    root: Path, origin: LabelOrigin, *, read: Sequence[Path] = (), overwrite: bool = False
) -> CocoFolder:
    """Open a new folder, or one that the same command has begun.

    read: the folders that labels are made of. UsageError where one of them is `root`. DataError
    when its annotations have another origin or were edited, unless `overwrite`.
    """
    if any(is_same(root, one) for one in read):
        raise UsageError(
            f"--out {root}: its labels are what is read, and would be replaced; choose another one"
        )
    path = root / "annotations.json"
    if overwrite or not path.exists():
        folder = CocoFolder(root, CocoFile(info=origin))
        folder.save()
        return folder
    labels = _read(path)
    if difference := labels.info.differs(origin):
        raise DataError(f"{path} was made {difference}. {WAYS}")
    sources = labels.info.sources | origin.sources  # a directory may have lost one since
    labels.info = msgspec.structs.replace(labels.info, sources=sources)
    return CocoFolder(root, labels)


def _read(path: Path) -> CocoFile:
    try:
        raw = msgspec.json.decode(read_text(path, DataError))
        labels = msgspec.convert(raw, CocoFile)
        digest = _digest([raw["images"], raw["annotations"]])
    except (msgspec.DecodeError, KeyError, RecursionError):
        raise DataError(f"{path} was not written by streamvis label. {WAYS}") from None
    if labels.info.labels_sha256 != digest:
        raise DataError(f"{path} was edited since streamvis label wrote it. {WAYS}")
    return labels


def _digest(parts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
