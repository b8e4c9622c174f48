"""Plans the jobs of a batch: the directory of each recording, and whether it is processed.

A recording is processed into `<name>-<key>`. The key, 12 hex digits, hashes its content, the
settings of the source (ground plane, rate, options), the pipeline and the weights that this names
by path. So another recording of the same name, or another pipeline, has a directory of its own; a
moved or renamed file keeps its directory; and no directory depends on the rest of the batch.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from streamvis.batch.results import Index, Result, earlier_run
from streamvis.config import Pipeline, Placement
from streamvis.errors import ModelError, SourceError
from streamvis.runtime.output import OnUsed
from streamvis.shipped import HOME
from streamvis.sources.identity import Content, content_of, digest_of_file, settings_of
from streamvis.sources.spec import SourceSpec, plain_id

KEY_DIGITS = 12
NAME_BYTES = 100  # of a directory's name, before the key


class Job(msgspec.Struct, frozen=True):
    """One recording to process; sent to the process of the job as JSON."""

    spec: SourceSpec
    pipeline: Pipeline
    placement: Placement
    out: str
    on_used: OnUsed = "refuse"


class Plan:
    """Decides, recording by recording, what a batch does; copies are recognised by content."""

    def __init__(
        self, pipeline: Pipeline, placement: Placement, out: Path, on_used: OnUsed = "refuse"
    ) -> None:
        self.pipeline = pipeline
        self.placement = placement
        self.out = out
        self.on_used = on_used
        self.index = Index(out)
        self._weights = weights_of(pipeline)
        self._taken: dict[str, Result] = {}  # by key

    def take(self, spec: SourceSpec) -> tuple[Result, Job | None]:
        """Return the initial result and the job of the source; without a job, the result stands."""
        result = Result(file=spec.label, state="failed", path=_path(spec))
        try:
            content = content_of(spec)
        except SourceError as error:
            return replace(result, why=str(error)), None
        key = key_of(content, spec, self.pipeline, self._weights)
        first = self._taken.get(key)
        there = first.directory if first else self.index.directory(key)
        directory = there or directory_name(spec, key)
        result = replace(
            result,
            directory=directory,
            source=source_id(directory, spec.kind),
            size=content.size,
            mtime_ns=content.mtime_ns,
            digest=content.digest,
            pipeline=self.pipeline.hash,
        )
        if first is not None:
            return replace(
                result, state="skipped", why=f"its content is that of {first.file}"
            ), None
        self._taken[key] = result
        return self._decided(result, spec)

    def _decided(self, result: Result, spec: SourceSpec) -> tuple[Result, Job | None]:
        place = self.out / result.directory
        earlier = earlier_run(place, self.pipeline.hash)
        if earlier.state != "nothing" and self.on_used == "refuse":
            why = f"{place} holds a run of it ({earlier.state}); {_WAYS[earlier.state]}"
            return replace(result, state="refused", why=why), None
        if earlier.state == "done" and self.on_used == "resume":
            counts = {"frames": earlier.frames, "frames_promised": earlier.frames_promised}
            why = self.index.why_done(result)
            return replace(result, state="skipped", why=why, **counts), None
        # one attempt: a stream that is lost has failed, and must not hold the batch up for ever
        named = replace(spec, id=result.source, retry_s=0.0)
        nothing_to_resume = earlier.state == "failed" and not earlier.frames
        on_used = "overwrite" if nothing_to_resume else self.on_used
        job = Job(named, self.pipeline, self.placement, str(place), on_used)
        return replace(result, why=self.index.others(result)), job


_WAYS = {
    "done": "--resume skips it, --overwrite processes it again",
    "unfinished": "--resume goes on with it, --overwrite begins anew",
    "failed": "--resume tries it again, --overwrite begins anew",
}


def key_of(
    content: Content, spec: SourceSpec, pipeline: Pipeline, weights: Mapping[str, str]
) -> str:
    """Hash the content, its settings, the pipeline and the weights into hex digits."""
    about = (content.digest, settings_of(spec), pipeline.hash, weights)
    encoded = msgspec.json.encode(about, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=KEY_DIGITS // 2).hexdigest()


def weights_of(pipeline: Pipeline) -> dict[str, str]:
    """Return the hashes of the weights that are named by path, since such files may change.

    Raises ModelError for missing weights, once for the whole batch.
    """
    named: set[str] = set()
    for stage in pipeline.stages:
        weights: str | Sequence[str] = getattr(stage.run, "weights", ())
        named.update([weights] if isinstance(weights, str) else weights)
    own = [name for name in named if not (HOME / f"weights/{name}.safetensors").is_file()]
    return {name: _digest_of_weights(name) for name in own}


def _digest_of_weights(name: str) -> str:
    path = Path(os.path.expanduser(name))
    if not os.path.isfile(path):
        from streamvis.models.weights import find  # imports torch

        path = find(name)  # its error lists the shipped weights
    try:
        return digest_of_file(path)
    except OSError as error:
        raise ModelError(f"weights '{name}' cannot be read: {error.strerror}") from None


def directory_name(spec: SourceSpec, key: str) -> str:
    """Return `<name>-<key>`; letters, digits, '.' and '_' of the name stay, the rest is '-'."""
    text = unicodedata.normalize("NFC", _name(spec))
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c in "._" else "-" for c in text)
    kept = re.sub("-{2,}", "-", kept).strip("-.")
    while len(kept.encode()) > NAME_BYTES:
        kept = kept[:-1]
    return f"{kept.rstrip('-.') or spec.kind}-{key}"


def source_id(directory: str, kind: str) -> str:
    """Return the source id in events: the directory's name in [a-z0-9_-]{1,64}."""
    name, _, key = directory.rpartition("-")
    return f"{plain_id(name)[: 63 - len(key)].rstrip('-') or kind}-{key}"


def _name(spec: SourceSpec) -> str:
    """The file's own name, unless `id=path` or a seqinfo.ini gives another."""
    if spec.kind not in {"file", "images"}:
        return spec.id
    own = Path(spec.uri).stem if spec.kind == "file" else Path(os.path.abspath(spec.uri)).name
    plain = plain_id(own) or spec.kind
    numbered = rf"{re.escape(plain[:60])}.*" if len(plain) > 60 else rf"{re.escape(plain)}(-\d+)?"
    return own if re.fullmatch(numbered, spec.id) else spec.id


def _path(spec: SourceSpec) -> str:
    return os.path.abspath(spec.uri) if spec.kind in {"file", "images"} else spec.label
