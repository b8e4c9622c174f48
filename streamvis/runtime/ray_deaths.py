"""Why the process of an actor ended, in one line: Ray's text is long, and guesses at causes."""

import re

ADDRESS = re.compile(r"\bip[:=] ?([0-9a-fA-F.:]*[0-9a-fA-F])")
CAUSES = [
    (
        r"node (has died|was terminated)|is unavailable",
        "its node is gone, or Ray has heard nothing of it for too long; look at its network, and "
        "at the nodes that `ray status` lists",
    ),
    (
        r"NODE_OUT_OF_MEMORY|low on memory",
        "Ray killed it, since the memory of the node was almost full; set fewer `replicas`, a "
        "smaller `batch`, or larger `needs` in the placement",
    ),
    (
        r"placement group was removed",
        "Ray has taken back its resources; look at the nodes that `ray status` lists",
    ),
    (r"killed by `ray.kill`", "it was ended by ray.kill"),
    (
        r"worker process has died",
        "it was killed, or has crashed; look at its last output in the log, and for the kernel's "
        "out-of-memory killer with `dmesg` on the node",
    ),
]
MOST = 500  # characters of what is passed on


def why_it_ended(error: BaseException) -> str:
    """Return where the process ran, what happened to it, and what to look at.

    `error`: what Ray raises for a call to the actor.
    """
    text = str(error)
    address = ADDRESS.search(text)
    where = f"on node {address[1]}: " if address else ""
    raised = _exception(text)
    if raised:
        began = "creation task" in text.partition("\n")[0]
        return f"{where}{raised}"[:MOST] + (" (before it began to work)" if began else "")
    for pattern, cause in CAUSES:
        if re.search(pattern, text):
            return where + cause
    return where + (first_lines(text) or type(error).__name__)


def first_lines(text: str) -> str:
    """Return the first line of a text of Ray, and its last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join([*lines[:1], *lines[1:][-1:]])[:MOST]


def _exception(text: str) -> str:
    """Return the exception that ended the actor: what follows its traceback."""
    if not re.search(r"ray::\S+\(\)", text.partition("\n")[0]):
        return ""
    lines = text.splitlines()
    within = [at for at, line in enumerate(lines) if line.startswith(" ")]
    return " | ".join(lines[within[-1] + 1 :]) if within else ""
