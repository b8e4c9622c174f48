"""The error that a failed run raises."""

from streamvis import errors
from streamvis.runtime.routing import Core


def failure(core: Core) -> errors.StreamvisError | None:
    """Return the error of the run, if it failed itself or if all of its sources did.

    A service does not fail with its sources: others may be added.
    """
    if core.failed is not None:
        return error_of(core.failed.error, core.failed.message)
    streams = list(core.streams.values())
    if streams and not core.serve and all(stream.ending == "failed" for stream in streams):
        return error_of(streams[0].error, streams[0].message)
    return None


def error_of(name: str, message: str) -> errors.StreamvisError:
    """Return an error of that class in errors.py; a RunError if there is no such class."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.StreamvisError)):
        kind = errors.RunError
    return kind(message)
