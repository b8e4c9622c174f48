"""Settings of detector, tracker, segmenters and zones, given as `key=value`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from streamvis.config import Jipda, MaskRcnn, Segment
from streamvis.errors import UsageError
from streamvis.parsing import alternatives, convert, yaml_value
from streamvis.runners.detectors import Detector, name_of, open_detector
from streamvis.stages.zones import ZoneCounter

LOWEST_SCORE = 0.01  # detections below it are not ranked
S = TypeVar("S", Jipda, MaskRcnn, Segment, ZoneCounter)


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
            given[key] = yaml_value(text)
        except ValueError:
            raise UsageError(f"--set {pair}: the value is not YAML") from None
    return convert({"kind": kind, **given}, stage, f"the settings of {kind}", UsageError)


def segmenter_configs(weights: Sequence[str], pairs: Sequence[str]) -> list[Segment]:
    """Return a segmenter for each weights, all with the same `key=value` settings."""
    return [configure(Segment, {"weights": path}, pairs) for path in weights]


def open_detectors(
    fields: Mapping[str, Any], pairs: Sequence[str], compare: str | None, device: str
) -> dict[str, Detector]:
    """Load our detector, with these fields and settings, and one to compare with, by name."""
    ours = configure(MaskRcnn, {**fields, "min_score": LOWEST_SCORE}, pairs)
    detectors = {name_of(fields["weights"], pairs): open_detector(ours, device)}
    if compare:
        other = MaskRcnn(weights=compare, min_score=LOWEST_SCORE)
        name = name_of(compare, [])
        name = f"{name} (other)" if name in detectors else name
        detectors[name] = open_detector(other, device)
    return detectors
