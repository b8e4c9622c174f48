"""Warnings in the log: on stderr, unless whoever embeds streamvis has configured structlog."""

import sys


def warn(event: str, **fields: object) -> None:
    """Log a warning; `fields` say where and what. Standard output is left to data."""
    import structlog  # a quarter of a second to import, and hardly ever needed

    if structlog.is_configured():
        structlog.get_logger().warning(event, **fields)
    else:
        structlog.wrap_logger(structlog.PrintLogger(sys.stderr)).warning(event, **fields)
