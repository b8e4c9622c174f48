"""The token that opens the web server to other machines: its file, logins, wrong guesses.

A login gives a cookie `expiry.mac`, whose key is derived from the token: the server stores nothing,
cookies outlive it, and another token ends all of them.
"""

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from streamvis.errors import UsageError

SHORTEST, LONGEST = 16, 256  # characters of a token
SESSION_S = 7 * 24 * 3600
GUESSES = 5  # wrong tokens of an address at once; then one in GUESS_S
GUESS_S = 6.0
ADDRESSES = 4096  # whose guesses are counted; the one that guessed longest ago is forgotten first
_COOKIE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


def read_token(path: Path) -> str:
    """Return the token of a file, which is created when it does not exist.

    Raises UsageError for a file that others may read, or that holds no token.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return _created(path)
    except OSError as error:
        raise UsageError(f"--token-file {path}: {error.strerror}") from None
    try:
        found = os.fstat(fd)
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"--token-file {path} is no file")
        if found.st_uid not in (os.getuid(), 0) or mode & 0o077:
            raise UsageError(
                f"--token-file {path} has mode {mode:03o} and belongs to user {found.st_uid}; "
                f"expected 600, of user {os.getuid()}: chmod 600 {path}"
            )
        text = os.read(fd, LONGEST * 4).decode(errors="replace").strip()
    finally:
        os.close(fd)
    if not SHORTEST <= len(text) <= LONGEST or not re.fullmatch(r"[!-~]+", text):
        raise UsageError(
            f"--token-file {path} holds no token; expected {SHORTEST} to {LONGEST} characters "
            "without spaces. Remove the file, and a new one is written"
        )
    return text


def _created(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"--token-file {path} cannot be created: {error.strerror}") from None
    with os.fdopen(fd, "w") as file:
        file.write(f"{token}\n")
    return token


class Logins:
    """Checks tokens and cookies, and counts wrong tokens by the address that they come from."""

    def __init__(
        self,
        token: str,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Cookies expire by the `wall` clock; guesses wait by `now`, which is never set back."""
        self._token = token.encode()
        self._key = hashlib.blake2b(self._token, person=b"streamvis cookie").digest()
        self._wall = wall
        self._now = now
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when all guesses are there again

    def wait_s(self, address: str) -> float:
        """Return for how long no token of this address is looked at; 0: it may try one."""
        full_at = self._full_at.get(_group(address), 0.0)
        return max(full_at - self._now() - (GUESSES - 1) * GUESS_S, 0.0)

    def is_token(self, given: str, address: str) -> bool:
        """Whether it is the token; a wrong one counts as a guess of the address."""
        if hmac.compare_digest(given.encode(errors="replace"), self._token):
            return True
        group = _group(address)
        full_at = max(self._full_at.pop(group, 0.0), self._now()) + GUESS_S
        self._full_at[group] = full_at
        while len(self._full_at) > ADDRESSES:
            self._full_at.popitem(last=False)
        return False

    def cookie(self) -> str:
        """Return the value of a new cookie."""
        expiry = str(int(self._wall()) + SESSION_S)
        return f"{expiry}.{self._mac(expiry)}"

    def is_cookie(self, value: str) -> bool:
        """Whether the cookie is ours and has not expired."""
        match = _COOKIE.fullmatch(value)
        if match is None:
            return False
        right = hmac.compare_digest(match[2], self._mac(match[1]))
        return right and int(match[1]) > self._wall()

    def _mac(self, expiry: str) -> str:
        return hmac.new(self._key, expiry.encode(), hashlib.sha256).hexdigest()


def _group(address: str) -> str:
    """Return the address, of IPv6 its network: one machine has many addresses there."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if ip.version == 4:
        return str(ip)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))
