"""Which certificates a bridge trusts."""

import ssl
from pathlib import Path

from streamvis.errors import UsageError


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """Trust the certificates of a file in place of the system's; UsageError where it has none."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # SSLError is one
        reason = error.strerror or str(error) or type(error).__name__
        raise UsageError(f"--ca {ca} cannot be read: {reason}") from None
