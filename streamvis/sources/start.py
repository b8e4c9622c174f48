"""The wall clock of recordings: when the first picture of a file was taken."""

from datetime import datetime
from typing import Literal

from streamvis.errors import UsageError

Start = int | Literal["container"]  # µs since 1970, or as the container says
CONTAINER: Literal["container"] = "container"
LATEST_US = 2**53  # the year 2255: JSON readers take no larger numbers exactly


def parse_start(text: str, where: str) -> Start:
    """When the first picture was taken; `where` says what was set, for the error.

    ISO 8601 with or without the T, the seconds and the offset; without an offset the time is that
    of the local time zone.
    """
    if text == CONTAINER:
        return CONTAINER
    start = _iso_us(text)
    if start is None or not 0 < start < LATEST_US:
        raise UsageError(
            f"{where}={text}: expected a time since 1970 in ISO 8601, such as "
            "2026-11-29T08:00:00+01:00 or '2026-11-29 08:00' (local time), or container"
        )
    return start


def container_us(metadata: dict[str, str]) -> int | None:
    """When a recording began by the tags of its container, µs since 1970; None: they do not say.

    Apple's tag goes first: it is the time of the recording where `creation_time` may be that of a
    copy. Zeros, which stand for no time, become 1904 or 1970.
    """
    for tag in ("com.apple.quicktime.creationdate", "creation_time"):
        told_us = _iso_us(metadata.get(tag, ""))
        if told_us is not None and 0 < told_us < LATEST_US:
            return told_us
    return None


def _iso_us(text: str) -> int | None:
    try:
        redacted = datetime.fromisoformat(text.strip()).astimezone()
        whole = int(redacted.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
    return whole * 1_000_000 + redacted.microsecond
