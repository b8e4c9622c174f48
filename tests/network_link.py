"""A link between two network namespaces, whose packets can be dropped.

    unshare --user --map-root-user --net python tests/network_link.py SEED NEAR FAR MORE_NEAR

makes two namespaces with an address each, the near one with a second address, and carries packets
between them. It prints its process id and the descriptors of the namespaces; each line that it
reads is the share of packets to drop. Kernels often lack netem, which does the same.
"""

import contextlib
import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import sys

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x1001
LARGEST = 2**16  # bytes of a packet


class Link:
    """Two namespaces, as the process that keeps them; RuntimeError says why there are none."""

    def __init__(self, near, far, more_near, seed=0):
        command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, __file__]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(
            [*command, str(seed), near, far, more_near],
            text=True,
            bufsize=1,
            process_group=0,  # Ctrl-C reaches only the tests
            **pipes,
        )
        made = self._process.stdout.readline().split()
        if not made:
            raise RuntimeError(self.close().strip().rpartition("\n")[2])
        pid, near_fd, far_fd = made
        enter = ["nsenter", "--preserve-credentials", f"--user=/proc/{pid}/ns/user"]
        self.near = [*enter, f"--net=/proc/{pid}/fd/{near_fd}"]  # before a command
        self.far = [*enter, f"--net=/proc/{pid}/fd/{far_fd}"]

    def drop(self, share):
        """Drop this share of the packets from now on, in both directions."""
        self._process.stdin.write(f"{share}\n")
        assert self._process.stdout.readline() == f"{share}\n"  # from here on

    def close(self):
        """Remove the link, and return what its process said of errors."""
        return self._process.communicate()[1]


def main(seed, near, far, more_near):
    first = namespace("far", near, f"address add {more_near}/32 dev lo")
    second = namespace("near", far)
    say(f"{os.getpid()} {first[0]} {second[0]}\n")
    chance = random.Random(int(seed))
    share = 0.0
    other = {first[1]: second[1], second[1]: first[1]}
    while True:
        ready = select.select([0, *other], [], [])[0]
        for fd in ready:
            if fd:
                packet = os.read(fd, LARGEST)
                if chance.random() >= share:
                    with contextlib.suppress(OSError):  # its queue is full
                        os.write(other[fd], packet)
            elif line := sys.stdin.readline():
                share = float(line)
                say(line)
            else:
                return


def say(line):
    sys.stdout.write(line)
    sys.stdout.flush()


def namespace(name, address, *more):
    """Enter a new network namespace; return descriptors of it and of its end of the link."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_WITHOUT_HEADER))
    for what in ("link set lo up", f"address add {address}/24 dev {name}", f"link set {name} up"):
        subprocess.run(["ip", *what.split()], check=True)
    for what in more:
        subprocess.run(["ip", *what.split()], check=True)
    return own, end


if __name__ == "__main__":
    main(*sys.argv[1:])
