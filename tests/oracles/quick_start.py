"""Follow the README word for word in a fresh clone and a fresh environment, and take the times.

    python3.11 tests/oracles/quick_start.py

Installs from the index that pip is set to, so it is run by hand. Every line of the first two blocks
of commands runs as it stands, but for cameras that are not there.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIP = """
import av, sys
with av.open("demo-out/annotated.mp4") as film:
    frames = [f for _, f in zip(range(50), film.decode(video=0))]
for path in sys.argv[1:]:
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 768, 576, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
"""
VIDEOS = ["video.mp4", "cam1.mp4", "cam2.mp4", "recordings/a.mp4", "recordings/b.mp4"]


def main() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    start, use = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[:2]
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        left_out = {"PYTHONPATH", "VIRTUAL_ENV"}
        environment = {k: v for k, v in os.environ.items() if k not in left_out} | {"PATH": path}
        activate, commands = "true", [*start.splitlines(), *use.splitlines()]
        for line in commands:
            if line.startswith(". "):
                activate = line
                (clone / "recordings").mkdir()
                made = [".venv/bin/python", "-c", CLIP, *VIDEOS]
                subprocess.run(made, cwd=clone, env=environment, check=True)
            elif "rtsp:" not in line:
                follow(line, activate, clone, environment)


def follow(line: str, activate: str, clone: Path, environment: dict[str, str]) -> None:
    """Run one line; `events tail` beside a run, since it is for another terminal."""
    script = f"set -e\n{activate}\n{line}"
    if line.startswith("streamvis events tail"):
        script = f"set -e\n{activate}\n{{ {line}\n}} &\nstreamvis run --source video.mp4\nwait $!"
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, env=environment, capture_output=True, text=True
    )
    seconds = time.monotonic() - began
    state = "ok" if not done.returncode else str(done.returncode)
    said = (done.stdout + done.stderr)[-4000:] if done.returncode else ""
    sys.stdout.write(f"{state:>4} {seconds:6.1f} s  {line}\n{said}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
