"""Remove passwords from labels and messages, and detect those that break a URL."""

import re
from typing import Literal

ENCODE = "in a user name or password write %23 for #, %2F for /, %3F for ?, %40 for @, %25 for %"


def is_cut(url: str) -> Literal["no", "perhaps", "yes"]:
    """Whether a user or password contains one of # / ?, which end the authority of a URL.

    `rtsp://joe:a/b@host` has the host `joe`; `http://host:80/@joe` is valid.
    """
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :].rpartition("@")
    if not behind[1]:
        return "no"
    if "#" in behind[0]:  # no host takes part in what follows it
        return "yes"
    host, colon, port = authority.rpartition("@")[2].rpartition(":")
    if not colon or host.startswith("["):
        return "perhaps" if colon or "@" in authority else "no"
    return "perhaps" if port.isdecimal() and int(port) < 2**16 else "yes"


def without_credentials(url: str) -> str:
    """The URL without user, password and query.

    Passwords may contain '@' and '/', so everything up to the last '@' is removed. Some cameras
    take the password in the path, which is cut there.
    """
    scheme, _, rest = url.partition("://")
    rest = rest.rpartition("@")[2]
    rest, query, _ = rest.partition("?")
    if secret := re.search(r"(?i)(user|login|pass|pwd|psw|token|secret|auth|key)\w*[=:]", rest):
        return f"{scheme}://{rest[: secret.start()]}…"
    return f"{scheme}://{rest}{'?…' if query else ''}"


def redacted(text: str) -> str:
    """A source argument as given, with `id=`, without credentials if it is a URL."""
    match = re.match(r"([^=:/]*=)?(.*)", text, re.DOTALL)
    assert match is not None  # it matches any text
    name, rest = match.groups(default="")
    return f"{name}{without_credentials(rest)}" if "://" in rest else text
