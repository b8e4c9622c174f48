"""`synthetic:` sources: a rendered scene, frame by frame, as a file or at its own pace."""

import time
from collections.abc import Iterator

from streamvis.messages import SourceInfo
from streamvis.sources.options import scene_options
from streamvis.sources.picture import Ended, Picture
from streamvis.sources.spec import SourceSpec
from streamvis.synthetic.render import SyntheticScene


class SyntheticSource:
    """A scene as a source; `live=1` shows it at its own pace, as a camera would."""

    def __init__(self, spec: SourceSpec, epoch: int = 1) -> None:
        options = scene_options(spec.uri)
        self.errors = 0
        self.ended: Ended | None = None
        self.scene = SyntheticScene(
            options.seed, options.people, options.size, spec.fps or options.fps, options.seconds
        )
        self.scene.picture(0)  # the first takes the longest: while the source opens
        self._live = options.live
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=options.size[0],
            height=options.size[1],
            fps=self.scene.fps,
            live=self._live,
            epoch=epoch,
            frames=self.scene.frames,
            promised=self.scene.frames,
            ground_plane=spec.ground_plane or self.scene.homography,
            start_us=spec.start if isinstance(spec.start, int) else None,
        )

    def __iter__(self) -> Iterator[Picture]:
        began = time.monotonic()
        for n in range(self.scene.frames):
            media_us = round(n * 1_000_000 / self.scene.fps)
            pixels = self.scene.picture(n)
            if self._live:
                time.sleep(max(0.0, began + media_us / 1e6 - time.monotonic()))
            yield Picture(
                pixels=pixels,
                n=n,
                media_us=media_us,
                capture_us=time.time_ns() // 1000 if self._live else 0,
                clock="arrival" if self._live else "file",
            )
        self.ended = "eof"

    def close(self) -> None:
        """There are no resources to release."""
