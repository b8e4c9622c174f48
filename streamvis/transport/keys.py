"""Files of CURVE keys: who a server is, and whom it serves.

    DIR/server.json         {"public": …, "secret": …}, mode 0600
    DIR/clients/NAME.json   {"public": …}: this client is served, as long as the file is there
    DIR/issued/NAME.json    {"server": …, "public": …, "secret": …}, mode 0600: for the client

Keys are text in Z85, 40 characters, as libzmq takes them. A client may make its own pair, and hand
over the public key alone: only `clients/` decides who is served.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import msgspec
import zmq
from msgspec import Meta

from streamvis.errors import ConfigError, UsageError
from streamvis.logs import warn

if TYPE_CHECKING:
    import zmq.asyncio

KEY = r"^[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}$"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
SERVER, CLIENTS, ISSUED = "server.json", "clients", "issued"
LARGEST = 4096  # bytes of a file of keys
MOST_CLIENTS = 10_000  # files that are read

Key = Annotated[str, Meta(pattern=KEY)]


class ServerKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The key pair of a server."""

    public: Key
    secret: Key


class ClientKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The key pair of a client, and the public key of the server that it talks to."""

    server: Key
    public: Key
    secret: Key

    def use(self, socket: "zmq.Socket[bytes] | zmq.asyncio.Socket") -> None:
        """Encrypt the connections that this socket makes from now on."""
        socket.curve_serverkey = self.server.encode()
        socket.curve_publickey = self.public.encode()
        socket.curve_secretkey = self.secret.encode()


class Client(NamedTuple):
    """A client that is served."""

    name: str
    public: str
    secret_here: bool  # its secret key still lies in DIR/issued


class _Listed(msgspec.Struct):
    """What is read of a file in DIR/clients."""

    public: Key


Keys = TypeVar("Keys", ServerKeys, ClientKeys, _Listed)


def new_server(directory: Path) -> bool:
    """Make the key pair of a server; False when there is one."""
    for path in (directory, directory / CLIENTS, directory / ISSUED):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{path} cannot be made: {error.strerror}") from None
    if (directory / SERVER).exists():
        return False
    public, secret = new_pair()
    _write(directory / SERVER, ServerKeys(public=public, secret=secret), 0o600)
    return True


def new_client(directory: Path, name: str) -> Path:
    """Make the key pair of a client, who is served from now on; return the client's file."""
    server = server_keys(directory)
    listed, issued = directory / CLIENTS / _file(name), directory / ISSUED / _file(name)
    for path in (listed, issued):
        if os.path.lexists(path):
            raise UsageError(
                f"{path} exists: there is a client {name}. Choose another --client, or remove it "
                f"with: streamvis keys revoke {directory} {name}"
            )
    public, secret = new_pair()
    _write(issued, ClientKeys(server=server.public, public=public, secret=secret), 0o600)
    _write(listed, _Listed(public), 0o640)
    return issued


def revoke(directory: Path, name: str) -> None:
    """Serve the client no more, and remove its secret key if it is here."""
    path = directory / CLIENTS / _file(name)
    try:
        path.unlink()
    except OSError as error:
        known = ", ".join(client.name for client in clients(directory)) or "none"
        raise UsageError(f"{path}: {error.strerror}; clients there: {known}") from None
    (directory / ISSUED / _file(name)).unlink(missing_ok=True)


def clients(directory: Path) -> list[Client]:
    """The clients that are served, by name; UsageError when the directory has no keys."""
    if not os.path.isfile(directory / SERVER):
        raise UsageError(f"{directory} has no {SERVER}. Make keys with: {_make(directory)}")
    _check_readable(directory)
    return [
        Client(name, public, os.path.isfile(directory / ISSUED / _file(name)))
        for public, name in sorted(listed(directory).items(), key=lambda item: item[1])
    ]


def server_keys(directory: Path) -> ServerKeys:
    """Read the key pair of the server; ConfigError when keys are absent or unreadable."""
    path = directory / SERVER
    if not os.path.lexists(directory) or (
        os.access(directory, os.X_OK) and not os.path.lexists(path)
    ):
        raise ConfigError(f"{path} is not there. Make keys with: {_make(directory)}")
    _check_readable(directory)
    return _read(path, ServerKeys)


def client_keys(path: Path) -> ClientKeys:
    """Read the file of a client; ConfigError when it is absent or unreadable."""
    if os.path.isdir(path) or not os.path.lexists(path):
        reason = "is a directory" if os.path.isdir(path) else "is not there, or cannot be read"
        raise ConfigError(
            f"{path} {reason}. Expected a client's file, {ISSUED}/NAME.json, as made on the "
            "server by: streamvis keys new DIR --client NAME"
        )
    return _read(path, ClientKeys)


def listed(directory: Path) -> dict[str, str]:
    """Public key -> name of each client that is served; a file that holds none is left out."""
    found: dict[str, str] = {}
    for entry in _entries(directory):
        try:
            public = _read(Path(entry.path), _Listed).public
        except ConfigError as error:
            warn("file of a client's key not used", reason=str(error))
            continue
        found[public] = entry.name.removesuffix(".json")
    return found


def stamp(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """A value that changes whenever a file in DIR/clients does."""
    found = []
    for entry in _entries(directory):
        try:
            status = entry.stat()
        except OSError:  # removed meanwhile
            continue
        found.append((entry.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(sorted(found))


def _check_readable(directory: Path) -> None:
    """Raise ConfigError where no client would be served since the directory cannot be read."""
    try:
        os.scandir(directory / CLIENTS).close()
    except OSError as error:
        raise ConfigError(
            f"{directory / CLIENTS} cannot be read: {error.strerror}. The user of the run needs "
            f"to read {directory}, with {SERVER} and {CLIENTS}"
        ) from None


def _entries(directory: Path) -> Iterator["os.DirEntry[str]"]:
    """The files of clients; none when the directory cannot be read."""
    try:
        with os.scandir(directory / CLIENTS) as entries:
            for count, entry in enumerate(entries):
                if count == MOST_CLIENTS:
                    return
                name = entry.name.removesuffix(".json")
                if name != entry.name and NAME.fullmatch(name):
                    yield entry
    except OSError:
        return


def new_pair() -> tuple[str, str]:
    """Make a key pair, public and secret."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _file(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is no name of a client: expected at most 64 letters, digits, '-', '_', '.'"
        )
    return f"{name}.json"


def _make(directory: Path) -> str:
    return f"streamvis keys new {directory}"


def _write(path: Path, keys: msgspec.Struct, mode: int) -> None:
    """Write a file that is complete when it has its name; it replaces none."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with open(fd, "wb") as file:
                file.write(msgspec.json.encode(keys) + b"\n")
            os.link(draft, path)
        finally:
            draft.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _read(path: Path, kind: type[Keys]) -> Keys:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        keys = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError):  # its text may quote a key
        members = ", ".join(f'"{name}"' for name in kind.__struct_fields__)
        raise ConfigError(
            f"{path} is not a file of keys ({len(data)} bytes): expected a JSON object with "
            f"{members}, each 40 characters of Z85"
        ) from None
    if hasattr(keys, "secret") and mode & 0o077:
        warn("secret key can be read by others", path=str(path), mode=f"{mode:04o}", wanted="0600")
    return keys
