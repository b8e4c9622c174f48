"""Keeping passwords out of logs, events and error messages."""

import re


def without_credentials(url: str) -> str:
    """The URL without user, password and query.

    Passwords may hold any character, '@' and '/' among them, so everything up to the last '@'
    goes; some cameras take the password in the path, which then ends there.
    """
    scheme, _, rest = url.partition("://")
    rest = rest.rpartition("@")[2]
    rest, query, _ = rest.partition("?")
    if secret := re.search(r"(?i)(user|login|pass|pwd|psw|token|secret|auth|key)\w*[=:]", rest):
        return f"{scheme}://{rest[: secret.start()]}…"
    return f"{scheme}://{rest}{'?…' if query else ''}"


def told(text: str) -> str:
    """A source as its user wrote it, `id=` and all, but without credentials if it is a URL."""
    match = re.match(r"([^=:/]*=)?(.*)", text, re.DOTALL)
    assert match is not None  # it matches any text
    name, rest = match.groups(default="")
    return f"{name}{without_credentials(rest)}" if "://" in rest else text
