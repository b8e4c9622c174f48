"""What a run comes to."""

from streamvis import errors
from streamvis.messages import Ending
from streamvis.runtime.routing import Core
from streamvis.sources.picture import Source


def ending_of(source: Source) -> tuple[Ending, str]:
    """Whether the pictures that stopped mean the end, and otherwise why not."""
    why = {"lost": "was lost", "timeout": "fell silent"}.get(source.ended or "eof")
    return ("failed", f"source '{source.info.label}' {why}") if why else ("eof", "")


def failure(core: Core) -> errors.StreamvisError | None:
    """What the run failed of: itself, or all of its sources."""
    if core.failed is not None:
        return error_of(core.failed.error, core.failed.message)
    streams = list(core.streams.values())
    if all(stream.ending == "failed" for stream in streams):
        return error_of(streams[0].error, streams[0].message)
    return None


def error_of(name: str, message: str) -> errors.StreamvisError:
    """The error of that class in errors.py; RunError for a name that is not there."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.StreamvisError)):
        kind = errors.RunError
    return kind(message)
