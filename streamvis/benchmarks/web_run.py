"""The run that `bench web` watches: `python -m streamvis.benchmarks.web_run OUT`, until SIGTERM.

Its source costs next to nothing: the pictures of a scene of a few seconds, rendered at the start,
are shown forwards and backwards at their pace.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from streamvis.config import Jipda, MaskRcnn, Pipeline, Placement, Publish, StageSpec, WorkerSpec
from streamvis.messages import SourceInfo
from streamvis.runtime import launch
from streamvis.runtime.control_socket import ControlSettings
from streamvis.sources.picture import Ended, Picture, Waiting
from streamvis.sources.spec import SourceSpec
from streamvis.synthetic.render import SyntheticScene

SIZE, FPS, PEOPLE, SECONDS = (960, 540), 12.0, 6, 4.0
WEIGHTS = "person-lite"
OPENER = "streamvis.benchmarks.web_run:SceneAgain"


class SceneAgain:
    """A scene that is shown again and again, live."""

    def __init__(self, spec: SourceSpec, epoch: int = 1, waiting: Waiting | None = None) -> None:
        scene = SyntheticScene(0, PEOPLE, SIZE, FPS, SECONDS)
        pictures = [scene.picture(n) for n in range(scene.frames)]
        self._pictures = [*pictures, *pictures[-2:0:-1]]
        self.errors = 0
        self.ended: Ended | None = None
        self.info = SourceInfo(
            id=spec.id,
            label=spec.uri,
            width=SIZE[0],
            height=SIZE[1],
            fps=FPS,
            live=True,
            epoch=epoch,
        )

    def __iter__(self) -> Iterator[Picture]:
        began, n = time.monotonic(), 0
        while True:
            media_us = round(n * 1_000_000 / FPS)
            time.sleep(max(0.0, began + media_us / 1e6 - time.monotonic()))
            yield Picture(
                pixels=self._pictures[n % len(self._pictures)],
                n=n,
                media_us=media_us,
                capture_us=time.time_ns() // 1000,
                clock="arrival",
            )
            n += 1

    def close(self) -> None:
        pass


def run(out: Path) -> None:
    """Run until SIGTERM."""
    pipeline = Pipeline(
        [
            StageSpec("detect", MaskRcnn(weights=WEIGHTS)),
            StageSpec("track", Jipda(), after=["detect"]),
            StageSpec("publish", Publish(bind="tcp://127.0.0.1:*"), after=["track"]),
        ]
    )
    launch.run(
        pipeline,
        Placement(workers=[WorkerSpec(["detect"]), WorkerSpec(["track", "publish"])]),
        [SourceSpec(id="cam", uri="scene", kind="url")],
        open_source=OPENER,
        out=out,
        control=ControlSettings(pipeline="bench"),
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
