"""Start times of recordings: the wall clock of the first picture of a file."""

from datetime import datetime
from typing import Literal

from streamvis.errors import UsageError

Start = int | Literal["container"]  # µs since 1970, or from the container's metadata
CONTAINER: Literal["container"] = "container"
LATEST_US = 2**53  # the year 2255: JSON readers take no larger numbers exactly


def parse_start(text: str, where: str) -> Start:
    """Parse a start time; `where` names the setting in the error.

    ISO 8601, with or without the T, the seconds and the offset; without an offset, local time.
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
    """The start of a recording by the tags of its container, µs since 1970; None without tags.

    Apple's tag comes first: it is the time of recording, where `creation_time` may be that of a
    copy. Zeros, which mean no time, become 1904 or 1970. FFmpeg 9 joins tags of one name by `;`.
    """
    for tag in ("com.apple.quicktime.creationdate", "creation_time"):
        for text in reversed(metadata.get(tag, "").split(";")):
            tag_us = _iso_us(text)
            if tag_us is not None and 0 < tag_us < LATEST_US:
                return tag_us
    return None


def _iso_us(text: str) -> int | None:
    try:
        redacted = datetime.fromisoformat(text.strip()).astimezone()
        whole = int(redacted.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
    return whole * 1_000_000 + redacted.microsecond
