"""A soak: cameras that drop their connections all the time, and what the run holds meanwhile.

python tests/soak/soak.py --minutes 120 --reconnects 500    # what `make soak` does

Two to four simulated RTSP cameras, each of which ends its connection after some seconds of
pictures. Every sample reads /proc of the hub and of each of its processes.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

HERE = Path(__file__).parent
TESTS = HERE.parent
sys.path += [str(HERE), str(TESTS), str(TESTS / "sources")]

import films  # noqa: E402
import resources  # noqa: E402
import rtsp_server  # noqa: E402

FPS = 25
CAMERAS = 4
LONGEST_RETRY_S = 0.2  # pauses are short here: what is watched is what a reconnect leaves behind
SETTINGS = f"#retry_s={LONGEST_RETRY_S}&open_s=10&read_s=5&transport=tcp"
HOURS_RECONNECTS = 200  # reconnects that count as one hour: see `equivalent_mb_h`
PATIENCE_S = 60.0


class Stuck(Exception):  # noqa: N818 - of a run, not of the soak
    """Raised when the run ends early, or reconnects no more."""


class Soak(NamedTuple):
    """The result of a soak."""

    samples: list[resources.Sample]
    seconds: float
    reconnects: int
    detector: str

    @property
    def names(self) -> list[str]:
        """The processes that live for all of the run; decode processes live for one connection."""
        last = self.samples[-1].usage
        return [name for name in last if name != resources.DECODE]

    def trends(self) -> dict[str, resources.Trend]:
        return {name: resources.trend(self.samples, name) for name in self.names}


def equivalent_mb_h(trend: resources.Trend) -> float:
    """Growth for each hour in which a camera is lost HOURS_RECONNECTS times.

    Connections are lost here far more often than in an hour of any site, and memory that grows with
    reconnects grows as much faster. So growth is counted by reconnect.
    """
    return trend.mb_per_reconnect * HOURS_RECONNECTS


def soak(
    *,
    reconnects: int,
    minutes: float = 0.0,
    detector: str = "toy",
    every_s: float = 0.5,
) -> Soak:
    """Run until both the reconnects and the time are reached, then drain the run."""
    with ExitStack() as stack:
        out = stack.enter_context(tempfile.TemporaryDirectory())
        if detector == "flicker":
            urls = [f"rtsp://127.0.0.1:9/{n}{SETTINGS}" for n in range(CAMERAS)]
        else:
            urls = served(stack, max(0.6, 60 * minutes * CAMERAS / max(1, reconnects) - 1.0))
        log = stack.enter_context((Path(out) / "log").open("w+"))  # a pipe would fill up
        command = [str(HERE / "live_run.py"), f"{out}/run", detector, *urls]
        hub = stack.enter_context(started(command, log))
        stack.callback(hub.kill)
        try:
            samples = watch(hub, reconnects, 60 * minutes, every_s)
            hub.send_signal(signal.SIGTERM)
            code = hub.wait(PATIENCE_S)
        except (Stuck, subprocess.TimeoutExpired) as error:
            raise Stuck(f"{error}: {tail(log)}") from None
        if code != 0:
            raise Stuck(f"the run ended with code {code}: {tail(log)}")
    return Soak(samples, samples[-1].at_s, connections(samples), detector)


def served(stack: ExitStack, connected_s: float) -> list[str]:
    """Start cameras that end each connection after so many seconds of pictures."""
    film = rtsp_server.encode_film([films.draw(n) for n in range(4 * FPS)], fps=FPS, key_every=FPS)
    camera = rtsp_server.Camera(films=[film], fps=FPS, close_after=round(connected_s * FPS))
    servers = [stack.enter_context(rtsp_server.serving(camera)) for _ in range(CAMERAS)]
    return [f"{server.url}{SETTINGS}" for server in servers]


def started(arguments: list[str], log: IO[str]) -> "subprocess.Popen[bytes]":
    """Start the hub; its processes import the stages from the folders of tests."""
    paths = [str(TESTS / name) for name in ("soak", "reliability", "sources")]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen([sys.executable, *arguments], stderr=log, env=environment)


def tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-2000:]


def watch(
    hub: "subprocess.Popen[bytes]", reconnects: int, seconds: float, every_s: float
) -> list[resources.Sample]:
    """Sample the run until it has had so many reconnects and lasted for so long."""
    began = progressed = time.monotonic()
    samples: list[resources.Sample] = []
    while not samples or connections(samples) < reconnects or samples[-1].at_s < seconds:
        time.sleep(every_s)
        if hub.poll() is not None:
            raise Stuck("the run ended early")
        samples.append(resources.sample(hub.pid, began))
        if len(samples) < 2 or samples[-1].started > samples[-2].started:
            progressed = time.monotonic()
        if time.monotonic() - progressed > max(PATIENCE_S, seconds):
            raise Stuck(f"no reconnect for {PATIENCE_S:g} s; so far {connections(samples)}")
    return samples


def connections(samples: list[resources.Sample]) -> int:
    """How often a decode process was started again."""
    workers = {name for s in samples for name in s.usage} - {resources.HUB, resources.DECODE}
    return max(0, max(s.started for s in samples) - len(workers) - CAMERAS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--reconnects", type=int, default=500)
    parser.add_argument("--detector", choices=["flicker", "toy", "real"], default="toy")
    parser.add_argument("--page", type=Path, default=TESTS.parent / "docs" / "soak.md")
    given = parser.parse_args()
    found = soak(
        reconnects=given.reconnects,
        minutes=given.minutes,
        detector=given.detector,
        every_s=max(0.5, given.minutes * 60 / 1000),
    )
    import page

    page.write(found, given.page)
    sys.exit(page.verdict(found))


if __name__ == "__main__":
    main()
