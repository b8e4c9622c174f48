"""The topics of the feed, `sv1/<source>/<family>/`."""

SYSTEM = "_sys"  # in place of a source: the publisher itself
SYSTEM_TOPIC = f"sv1/{SYSTEM}/"


def of(source: str, family: str) -> str:
    """The trailing slash is part of it, or the prefix `cam1` would also match `cam10`."""
    return SYSTEM_TOPIC if source == SYSTEM else f"sv1/{source}/{family}/"
