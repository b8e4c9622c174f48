"""The operator's log: lines on stderr, unless the application has configured structlog.

Standard output is for data only. An entry has an ISO 8601 time in UTC, a level, an event and
fields; user names and passwords in addresses are removed from all of them.
"""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

Level = Literal["info", "warning", "error"]
Format = Literal["console", "json"]

FORMAT = "STREAMVIS_LOG_FORMAT"  # environment variable: the processes of a run inherit it
HIDDEN = "…"
SECRET = r"(?:user|login|pass|pwd|psw|token|secret|auth|key)\w*"
URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*)://(\S+)")
SECRET_IN_PATH = re.compile(rf"(?i){SECRET}[=:]")
SECRET_FIELD = re.compile(r"(?i)(?:pass(?:word)?|pwd|psw|token|secret|auth)$")
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    10: "\\n",
    13: "\\r",
    9: "\\t",
}


def configure(format: Format) -> None:
    """Choose how this process, and those that it starts, write log entries."""
    os.environ[FORMAT] = format


def warn(event: str, **fields: object) -> None:
    """Log a warning; `fields` are its details."""
    log("warning", event, **fields)


def log(level: Level, event: str, **fields: object) -> None:
    """Log an event with its details; a log that cannot be written is no reason to stop."""
    # stderr is gone: a closed terminal or pipe; or no descriptor is left to read a module with
    with suppress(OSError, ValueError, ImportError):
        getattr(_logger(), level)(
            redacted(event), **{name: _without_secrets(name, f) for name, f in fields.items()}
        )


def _logger() -> Any:
    import structlog  # 0.25 s to import, and rarely needed

    if structlog.is_configured():
        return structlog.get_logger()
    processors = _processors(os.environ.get(FORMAT))
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors)


def redacted(text: str) -> str:
    """Return the text with addresses without credentials, and on one line."""
    text = text.encode("utf-8", "backslashreplace").decode()  # paths may have lone surrogates
    return URL.sub(_redacted_url, text).translate(CONTROLS)


def _redacted_url(match: re.Match[str]) -> str:
    """Remove user and password, up to the last `@`, and the query; cut the path at a secret."""
    scheme, rest = match.groups()
    rest = rest.rpartition("@")[2]
    rest, query, _ = rest.partition("?")
    if secret := SECRET_IN_PATH.search(rest):
        return f"{scheme}://{rest[: secret.start()]}{HIDDEN}"
    return f"{scheme}://{rest}{'?' + HIDDEN if query else ''}"


def _without_secrets(name: str, value: object) -> object:
    if isinstance(value, str):
        return HIDDEN if SECRET_FIELD.search(name) else redacted(value)
    if isinstance(value, Mapping):
        return {str(key): _without_secrets(str(key), one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secrets(name, one) for one in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redacted(str(value))


def _processors(format: str | None) -> list[Any]:
    from structlog import dev, processors, stdlib

    renderer: Any
    if format == "json":
        renderer = processors.JSONRenderer(_json)
    else:
        renderer = dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return [stdlib.add_log_level, processors.TimeStamper(fmt="iso", utc=True), renderer]


def _json(entry: dict[str, object], **_: object) -> str:
    """Encode an entry on one line: the time, the level and the event come first."""
    import msgspec

    first = ("timestamp", "level", "event")
    ordered = {name: entry[name] for name in first} | entry
    return msgspec.json.encode(ordered).decode()
