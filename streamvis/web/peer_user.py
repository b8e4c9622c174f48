"""Which Unix user is at the other end of a TCP connection within this machine.

The kernel lists its TCP sockets with their owners in /proc/net/tcp and tcp6 (proc_pid_net(5)). A
row is `sl local remote state queues timer retransmits uid timeout inode …`, addresses as in memory.
"""

import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

Endpoint = tuple[str, int]  # address and port

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
# ESTABLISHED, FIN_WAIT1, FIN_WAIT2: of the one connection that can have sent something. Of another
# socket with the same endpoints in SYN_SENT, nothing has been received.
CONNECTED = frozenset({0x01, 0x04, 0x05})
ALL_USERS = "0 0 4294967295"  # the map of users where there are no namespaces of them


def user_of(client: Endpoint, server: Endpoint) -> int | None:
    """Return the id of the user who opened the connection from `client` to `server`.

    None where it cannot be told: the client is on another machine or in another network namespace,
    has gone already, or is a user without a number in this namespace of users.
    """
    ends = _plain(client), _plain(server)
    for table in TABLES * 2:  # a row may be left out while others come and go
        with suppress(OSError), table.open(encoding="ascii", errors="replace") as file:
            if (user := find_user(file, *ends)) is not None:
                return None if user == _unmapped() else user
    return None


def find_user(rows: Iterable[str], client: Endpoint, server: Endpoint) -> int | None:
    """Return the owner of the socket with these ends, of the rows of a table; None without one.

    A socket that its process has closed has no inode, and is listed as one of root. It has no
    owner here: any user could send a request, close the connection, and be taken for root.
    """
    ports = f":{client[1]:04X}", f":{server[1]:04X}"
    for row in rows:
        fields = row.split()
        if len(fields) < 10 or not (fields[1].endswith(ports[0]) and fields[2].endswith(ports[1])):
            continue
        if _endpoints(fields) == (client, server) and _is_open(fields):
            return int(fields[7])
    return None


def _is_open(fields: list[str]) -> bool:
    return int(fields[3], 16) in CONNECTED and int(fields[9]) != 0


def _endpoints(fields: list[str]) -> tuple[Endpoint, ...]:
    return tuple(_listed(fields[1:3]))


def _listed(texts: Iterable[str]) -> Iterator[Endpoint]:
    for text in texts:
        address, _, port = text.partition(":")
        words = [address[start : start + 8] for start in range(0, len(address), 8)]
        data = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
        yield _plain((str(ipaddress.ip_address(data)), int(port, 16)))


def _plain(end: Endpoint) -> Endpoint:
    """Return the end with the one spelling of its address, IPv4 within IPv6 as IPv4."""
    ip = ipaddress.ip_address(end[0].partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip), end[1]


def _unmapped() -> int | None:
    """Return the number that all users have who have none in this namespace; None without any."""
    with suppress(OSError, ValueError):
        if " ".join(Path("/proc/self/uid_map").read_text().split()) == ALL_USERS:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    return 65534


def is_owner(user: int | None) -> bool:
    """Whether it is the user of this process, or root."""
    return user is not None and user in (0, os.geteuid())
