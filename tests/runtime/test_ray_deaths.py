"""Deaths of actors, in texts of Ray 2.60."""

import pytest

from streamvis.runtime.ray_deaths import why_it_ended

DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: Seat
\tactor_id: 013834878cf55475075d885401000000
\tpid: 5546
\tnamespace: b00091f8-ff0c-459c-a74b-59b35b7cb423
\tip: 127.0.0.3
"""
EXIT = DIED + "The actor is dead because its worker process has died. Worker exit type: "
GUESSES = """SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error \
code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer due \
to high memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly"""
RAISED = """\x1b[36mray::Seat.work()\x1b[39m (pid=5668, ip=10.0.0.3, actor_id=fd0d, repr=<ray.Seat>)
           ^^^^^^^^^^^^^^^^
  File "ray.py", line 79, in work
    raise ValueError("torn")
ValueError: torn
at 3"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (EXIT + GUESSES, "on node 127.0.0.3: it was killed, or has crashed; look at its last "),
        (EXIT + "NODE_OUT_OF_MEMORY …", "on node 127.0.0.3: Ray killed it, since the memory of "),
        (
            EXIT + "INTENDED_SYSTEM_EXIT Worker exit detail: Destroying worker since its "
            "placement group was removed. Placement group id: 036b30",
            "on node 127.0.0.3: Ray has taken back its resources",
        ),
        (
            DIED + "The actor died because its node has died. Node Id: a3f4e2\n\tthe actor's node "
            "was terminated unexpectedly: health check failed due to missing too many heartbeats",
            "on node 127.0.0.3: its node is gone, or Ray has heard nothing of it for too long; ",
        ),
        (
            "The actor 02df is unavailable: The actor is temporarily unavailable: RpcError: RPC "
            "error: Socket closed rpc_code: 14. The task may or may not have been executed on it.",
            "its node is gone, or Ray has heard nothing of it",
        ),
        (
            DIED + "The actor is dead because it was killed by `ray.kill`.",
            "on node 127.0.0.3: it was ended by ray.kill",
        ),
        (RAISED, "on node 10.0.0.3: ValueError: torn | at 3"),
        (
            "The actor died because of an error raised in its creation task, "
            + RAISED.replace("work()", "__init__()"),
            "on node 10.0.0.3: ValueError: torn | at 3 (before it began to work)",
        ),
        ("The actor is not schedulable: no such node.", "The actor is not schedulable: no such "),
        ("", "RuntimeError"),
    ],
)
def test_where_what_and_what_to_look_at_are_one_line(text, line):
    said = why_it_ended(RuntimeError(text))
    assert said.startswith(line)
    assert len(said.splitlines()) == 1
    assert len(said) < 220
