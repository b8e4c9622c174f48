"""The manifest of a run, `run.json`: its pipeline and sources, written before its first frame."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import streamvis
from streamvis.config import Pipeline, StageSpec
from streamvis.errors import DataError, RunError, SourceError
from streamvis.files import replace
from streamvis.runtime.output import MANIFEST, OVERWRITE
from streamvis.sources.identity import content_of, settings_of
from streamvis.sources.spec import SourceSpec
from streamvis.zone_layout import ZoneLayout

DIGEST_CHARS = 12  # characters of a digest in messages


class ListedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source in the manifest."""

    id: str
    label: str  # without credentials
    content: str  # a digest of its content; empty for live and synthetic sources
    settings: dict[str, str]
    zones: ZoneLayout | None = None  # at the start; they may differ when the run is resumed


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a run: equal manifests, apart from the epoch, give the same events."""

    streamvis: str  # its version
    epoch: str  # uuid7 of the run
    pipeline: str  # hash
    stages: dict[str, Any]  # the pipeline's, by name
    sources: list[ListedSource]
    shard: str = "1/1"  # which share of the sources it has


def manifest_of(
    pipeline: Pipeline, sources: Sequence[SourceSpec], epoch: str, shard: str = "1/1"
) -> Manifest:
    return Manifest(
        streamvis=streamvis.__version__,
        epoch=epoch,
        pipeline=pipeline.hash,
        stages={stage.name: _as_read(stage) for stage in pipeline.stages},
        sources=[_listed(spec) for spec in sources],
        shard=shard,
    )


def _as_read(stage: StageSpec) -> Any:
    """Return what `read` returns of it: JSON has lists where a stage has tuples."""
    return msgspec.json.decode(msgspec.json.encode(stage))


def _listed(spec: SourceSpec) -> ListedSource:
    settings = settings_of(spec)
    settings.pop("zones", None)
    if spec.kind == "url":  # where options may hold credentials
        settings.pop("options", None)
    return ListedSource(
        id=spec.id,
        label=spec.label,
        content=_content(spec),
        settings=settings,
        zones=spec.zones,
    )


def _content(spec: SourceSpec) -> str:
    if spec.kind not in {"file", "images"}:
        return ""
    try:
        return content_of(spec).digest
    except SourceError:  # reported when it is opened; the other sources run
        return ""


def write(manifest: Manifest, out: Path) -> None:
    try:
        replace(out / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    except OSError as error:
        raise RunError(f"{out / MANIFEST} cannot be written: {error.strerror}") from None


def read(out: Path) -> Manifest | None:
    """Read the manifest; None when there is none. Raises DataError when it cannot be read."""
    path = out / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a manifest: {error}. Replace the run with {OVERWRITE}"
        ) from None


def difference(there: Manifest, wanted: Manifest) -> str:
    """Describe the first difference between the present and the wanted run; empty if none."""
    if there.streamvis != wanted.streamvis:
        return f"streamvis was {there.streamvis}, is {wanted.streamvis}"
    if there.shard != wanted.shard:
        return f"it has shard {there.shard} of the sources, not {wanted.shard}"
    theirs, ours = ({s.id: s for s in one.sources} for one in (there, wanted))
    if theirs.keys() != ours.keys():
        return f"its sources are {_names(theirs)}, not {_names(ours)}"
    for name, source in theirs.items():
        if text := _source_difference(source, ours[name]):
            return f"source '{name}' {text}"
    if there.pipeline != wanted.pipeline:
        return _stage_difference(there.stages, wanted.stages)
    return ""


def _source_difference(there: ListedSource, wanted: ListedSource) -> str:
    if there.content != wanted.content:
        return (
            f"was {there.label} with content {there.content[:DIGEST_CHARS] or 'unknown'}, is "
            f"{wanted.label} with {wanted.content[:DIGEST_CHARS] or 'unknown'}"
        )
    if not there.content and there.label != wanted.label:
        return f"was {there.label}, is {wanted.label}"
    if there.settings != wanted.settings:
        return f"had {_settings_text(there.settings)}, has {_settings_text(wanted.settings)}"
    return ""


def _settings_text(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "no settings"


def _stage_difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if there.keys() != wanted.keys():
        return f"its stages are {_names(there)}, not {_names(wanted)}"
    for name, stage in there.items():
        for path, value in _leaves(stage, name).items():
            other = _leaves(wanted[name], name).get(path)
            if value != other:
                return f"{path} was {value!r}, is {other!r}"
    return "its pipeline is different"


def _leaves(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    leaves: dict[str, Any] = {}
    for key, below in value.items():
        leaves |= _leaves(below, path if key == "run" else f"{path}.{key}")
    return leaves


def _names(table: Mapping[str, object]) -> str:
    return ", ".join(table)
