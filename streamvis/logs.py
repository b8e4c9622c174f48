"""Warnings in the log: on stderr, unless the application has configured structlog."""

import sys


def warn(event: str, **fields: object) -> None:
    """Log a warning; `fields` are its details. Standard output is for data only."""
    import structlog  # 0.25 s to import, and rarely needed

    if structlog.is_configured():
        structlog.get_logger().warning(event, **fields)
    else:
        structlog.wrap_logger(structlog.PrintLogger(sys.stderr)).warning(event, **fields)
