"""A flame graph of a pipeline in all its processes, by py-spy: `bench pipeline --flame FILE.svg`.

python -m streamvis.benchmarks.flame_graph <source> <pipeline as JSON> <placement as JSON>
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import msgspec

from streamvis.benchmarks.pipeline import one_recording
from streamvis.config import Pipeline, Placement
from streamvis.errors import RunError, UsageError

RATE = 100  # samples a second of each process


def draw(path: Path, source: str | None, pipeline: Pipeline, placement: Placement) -> None:
    """Run a pipeline once more under py-spy, and write the graph of its processes, SVG.

    Raises UsageError when py-spy is not installed, RunError when it may not look at processes.
    """
    spy = spy_path()
    options = ["record", "--subprocesses", "--rate", str(RATE), "--format", "flamegraph"]
    run = [sys.executable, "-m", "streamvis.benchmarks.flame_graph", source or ""]
    given = [msgspec.json.encode(one).decode() for one in (pipeline, placement)]
    done = subprocess.run(
        [spy, *options, "--output", str(path), "--", *run, *given],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not path.is_file():
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = lines[-1].strip() if lines else "it said nothing"
        raise RunError(
            f"py-spy has written no {path}: {said}; it needs permission to trace processes: "
            "run it as root, or in a container started with --cap-add SYS_PTRACE"
        )


def spy_path() -> str:
    """Return the path of the py-spy program, beside this Python's or on the PATH."""
    scripts = Path(sysconfig.get_path("scripts"))
    found = shutil.which("py-spy", path=str(scripts)) or shutil.which("py-spy")
    if found is None:
        raise UsageError(
            "--flame draws with py-spy, which is not installed; run: pip install py-spy"
        )
    return found


def main(source: str, pipeline: str, placement: str) -> None:
    """Run a pipeline on a recording, without anything beside it."""
    from streamvis.runtime import launch

    whole = msgspec.json.decode(pipeline, type=Pipeline)
    spec, _ = one_recording(source or None)
    launch.run(whole, msgspec.json.decode(placement, type=Placement), [spec])


if __name__ == "__main__":
    main(*sys.argv[1:])
