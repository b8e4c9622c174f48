"""Run toys on a placement and sources, both JSON; the process prints what the run reports.

A process of its own, since Ray leaves threads and descriptors in the one that it is imported in.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import ray_cluster
from waiting import PATIENCE_S


def run(*given, **options):
    """Return the summary and the nodes of each status; an error's class and text in their place."""
    with started(*given, **options) as process:
        said, _ = process.communicate(timeout=2 * PATIENCE_S)
    assert process.returncode == 0
    return json.loads(said)


def started(pipeline, placement, sources, out, *, enter=(), build="toys:build", on_used="refuse"):
    """Start the process; `enter`: words before its command."""
    given = [msgspec.json.encode(one).decode() for one in (pipeline, placement, sources)]
    return subprocess.Popen(
        [*enter, sys.executable, __file__, *given, str(out), build, on_used],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": ray_cluster.TOKEN,
            "RAY_DISABLE_IMPORT_WARNING": "1",
        },
    )


def main(pipeline, placement, sources, out, build, on_used):
    from streamvis.config import Pipeline, Placement
    from streamvis.errors import StreamvisError
    from streamvis.runtime import launch
    from streamvis.sources.spec import SourceSpec

    nodes = []
    try:
        summary = launch.run(
            msgspec.json.decode(pipeline, type=Pipeline),
            msgspec.json.decode(placement, type=Placement),
            msgspec.json.decode(sources, type=list[SourceSpec]),
            build=build,
            open_source="toys:open_toy",
            out=Path(out),
            on_used=on_used,
            on_status=lambda status: nodes.append(msgspec.to_builtins(status.nodes)),
        )
    except StreamvisError as error:
        done = {"error": f"{type(error).__name__}: {error}"}
    else:
        done = {"summary": msgspec.to_builtins(summary), "nodes": nodes, "error": ""}
    sys.stdout.write(json.dumps(done))


if __name__ == "__main__":
    main(*sys.argv[1:])
