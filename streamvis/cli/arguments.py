"""Hide credentials in the arguments of this process, which every local user can list."""

import ctypes
import sys
from pathlib import Path

NO_END = b"\0"


def hide_arguments(stat: Path = Path("/proc/self/stat")) -> None:
    """Remove users, passwords and queries of addresses from what `ps` shows of this process.

    The kernel reads /proc/PID/cmdline from the memory where it put the arguments; that is written
    over. `sys.argv` keeps them. Without /proc nothing is done.
    """
    if not any("://" in argument or ":/" in argument for argument in sys.argv):
        return
    from streamvis.sources.credentials import redacted  # NumPy comes with it

    try:
        fields = stat.read_text().rpartition(") ")[2].split()
    except OSError:
        return
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, 48 and 49 in proc(5)
    if not 0 < start < end:
        return
    arguments = ctypes.string_at(start, end - start).split(NO_END)
    ours = [argument.decode(errors="surrogateescape") for argument in arguments]
    if ours[-1 - len(sys.argv[1:]) : -1] != sys.argv[1:]:  # not the arguments as they were given
        return
    shown = [_shown(argument, redacted(argument)) for argument in ours]
    data = NO_END.join(argument.encode(errors="surrogateescape") for argument in shown)
    ctypes.memmove(start, data.ljust(end - start, NO_END)[: end - start], end - start)


def _shown(argument: str, redacted: str) -> str:
    """The argument without credentials, which is never longer."""
    return argument if redacted == argument else redacted.replace("…", "")
