"""The settings of stages from `--set`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml

from streamvis.config import Jipda, MaskRcnn, Segment
from streamvis.errors import UsageError
from streamvis.parsing import alternatives, convert

S = TypeVar("S", Jipda, MaskRcnn, Segment)


def configure(stage: type[S], fields: Mapping[str, Any], pairs: Sequence[str]) -> S:
    """Return the stage with these fields, overridden by `key=value` texts."""
    given = dict(fields)
    keys, kind = stage.__struct_fields__, stage.__struct_config__.tag
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: expected key=value, and for key {', '.join(keys)}")
        if key not in keys:
            raise UsageError(f"--set {pair}: {kind} has no '{key}'{alternatives(key, keys)}")
        try:
            given[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--set {pair}: the value is not YAML") from None
    return convert({"kind": kind, **given}, stage, f"the settings of {kind}", UsageError)


def segmenter_configs(weights: Sequence[str], pairs: Sequence[str]) -> list[Segment]:
    """Return a segmenter for each weights, all with the same `key=value` settings."""
    return [configure(Segment, {"weights": path}, pairs) for path in weights]


def stage_settings(pairs: Sequence[str]) -> Mapping[str, str]:
    """Return `--set stage.key=value` texts as a mapping."""
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"--set {pair}: expected stage.key=value")
    return dict(pair.split("=", 1) for pair in pairs)
