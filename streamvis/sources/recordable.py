"""Which sources can be recorded."""

from streamvis.sources.spec import SourceSpec


def not_recordable(spec: SourceSpec) -> str | None:
    """Why a source cannot have the `record` that it has; None if it can, or has none."""
    if spec.record is None:
        return None
    if spec.kind in {"images", "synthetic"}:
        return (
            f"`record` needs the packets of a camera or video, and '{spec.label}' is made "
            "of pictures; remove its `record`"
        )
    if spec.privacy_masks and not spec.record.unmasked:
        return (
            "`record` writes the packets of the camera, in which its `privacy_masks` are not "
            "filled; remove one of them, or set `unmasked: true` in `record`"
        )
    return None


def clips_on(spec: SourceSpec) -> tuple[str, ...]:
    """Types of the events of which a clip is recorded."""
    if spec.record is None or spec.record.clips is None:
        return ()
    return tuple(spec.record.clips.on)
