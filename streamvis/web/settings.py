"""How a run is served: the settings, and the address before the server is there."""

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from streamvis.errors import RunError, UsageError
from streamvis.runtime.page_server import parse_address

PORT = 8080


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the run in a directory is served."""

    out: Path
    address: str = f"127.0.0.1:{PORT}"
    run: str | None = None  # process id or --out of the run that is asked; None: that of `out`
    token_file: Path | None = None
    names: Sequence[str] = ()  # host names of this server
    keys: Path | None = None  # of a client, for a feed that asks for them


def check_address(settings: WebSettings, option: str = "--token-file") -> None:
    """Raise UsageError for what is no address, and for one that is open and has no token."""
    host, _ = parse_address(settings.address, "--web", PORT)
    if settings.token_file is None and not ipaddress.ip_address(host).is_loopback:
        raise UsageError(
            f"--web {settings.address} is open to other machines; give it {option} FILE, "
            "which is created if it does not exist, or take 127.0.0.1"
        )


def bound(settings: WebSettings) -> socket.socket:
    """Return a socket at the address; RunError for one in use."""
    host, port = parse_address(settings.address, "--web", PORT)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RunError(
            f"--web {settings.address}: {error.strerror or error}; expected an address of this "
            "machine and a free port"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
