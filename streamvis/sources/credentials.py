"""Put credentials into URLs, remove them from labels and messages, detect those that break a URL.

FFmpeg decodes `%XX` in the user and the password of a URL, for RTSP and HTTP, Basic and Digest.
"""

import os
import re
import stat
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from streamvis.errors import UsageError
from streamvis.sources.listing import warn

UNSAFE = "#%/:?@ "  # what a user name or a password has percent-encoded
LONGEST = {"rtsp": 127, "http": 1023}  # bytes of user:password, encoded, that FFmpeg keeps
SHARED = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP  # modes above 0640
LONGEST_FILE = 4096  # bytes of a file with one password
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
    take the password in the path, which is cut there. Where an '@' may belong to the address or to
    a setting, only the scheme is left.
    """
    scheme, _, rest = url.partition("://")
    if re.search(r"(?is)#(.*&)?(user|password)\w*=.*@", rest):
        return f"{scheme}://…"
    rest = rest.rpartition("@")[2]
    rest, query, _ = rest.partition("?")
    if secret := re.search(r"(?i)(user|login|pass|pwd|psw|token|secret|auth|key)\w*[=:]", rest):
        return f"{scheme}://{rest[: secret.start()]}…"
    return f"{scheme}://{rest}{'?…' if query else ''}"


def redacted(text: str) -> str:
    """A source argument as given, with `id=`, without credentials if it is a URL.

    Slashes that are missing after the scheme make no difference.
    """
    match = re.match(r"([^=:/]*=)?((?i:rtsps?|https?):/*)?(.*)", text, re.DOTALL)
    assert match is not None  # it matches any text
    name, scheme, rest = match.groups(default="")
    if scheme:
        rest = f"{scheme.rstrip(':/')}://{rest}"
    return f"{name}{without_credentials(rest)}" if "://" in rest else text


def with_credentials(url: str, user: str | None, password: str | None, where: str) -> str:
    """The URL with a user and a password, percent-encoded as far as FFmpeg needs it.

    UsageError where they are given twice or cannot be sent. A user in the URL may have its password
    apart.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    own, _, host = authority.rpartition("@")
    if own and user is not None:
        raise UsageError(f"{where} has a user in its address and as `user`; give one of them")
    if ":" in own and password is not None:
        raise UsageError(f"{where} has a password in its address and another as a setting")
    if not own and user is None:
        raise UsageError(f"{where} has a password without a user; add `user`")
    _check_characters(user or "", "user", where, refused=":")
    _check_characters(password or "", "password", where)
    # FFmpeg sends no password where the colon is missing
    name = own.partition(":")[0] if user is None else _encoded(user)
    secret = own.partition(":")[2] if password is None else _encoded(password)
    longest = LONGEST["rtsp" if scheme.lower().startswith("rtsp") else "http"]
    if len(f"{name}:{secret}".encode(errors="surrogateescape")) > longest:
        raise UsageError(
            f"{where}: user and password are longer than FFmpeg can send; together at most "
            f"{longest} bytes, where each of {' '.join(UNSAFE.strip())} takes three"
        )
    return f"{scheme}://{name}:{secret}@{host}{rest[len(authority) :]}"


def password_in(path: Path, where: str) -> str:
    """The password of a file of one line; warns when others than its owner and group may read it.

    UsageError when the file cannot be read, or holds none or more.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        reason = error.strerror if isinstance(error, OSError) else "not the name of a file"
        raise UsageError(f"{where}: {_shown(path, where)}: {reason}") from None
    lines = data.decode("utf-8-sig", errors="surrogateescape").splitlines()
    if len(lines) != 1 or not lines[0] or len(data) > LONGEST_FILE:
        raise UsageError(
            f"{where}: {_shown(path, where)} has {len(lines)} lines and {len(data)} bytes; "
            "expected one line with the password or secret"
        )
    warn_if_shared(path)
    return lines[0]


def _shown(path: Path, where: str) -> str:
    """Name the file, with its setting unless `where` is the option that named it."""
    return str(path) if where.startswith("--") else f"password_file {path}"


def warn_if_shared(path: Path) -> None:
    """Warn of a file with passwords that others than its owner and its group may read."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & SHARED:
        warn(
            f"{path} holds a password and has the mode {mode:04o}; expected 0600 or 0640: "
            f"chmod 600 {path}"
        )


def _encoded(text: str) -> str:
    """Encode what ends a part of a URL, and bytes that are no UTF-8; FFmpeg's buffer is short."""
    return "".join(
        quote(character, safe="", errors="surrogateescape")
        if character in UNSAFE or "\udc80" <= character <= "\udcff"
        else character
        for character in text
    )


def _check_characters(text: str, name: str, where: str, refused: str = "") -> None:
    """UsageError for what FFmpeg cannot send; the text is not shown."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UsageError(f"{where}: `{name}` has a control character, such as a line end")
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise UsageError(f"{where}: `{name}` has half of a surrogate pair; expected text") from None
    if refused and refused in text:
        raise UsageError(f"{where}: `{name}` has a '{refused}', which ends a user name; remove it")
