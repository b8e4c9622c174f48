"""Test videos, encoded here."""

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

Write = Callable[[Path, Sequence[np.ndarray], int], None]


@pytest.fixture(scope="session")
def filmed() -> Write:
    """Write pictures (H, W, 3) uint8 RGB as a video of so many a second."""

    def write(path: Path, pictures: Sequence[np.ndarray], fps: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for pixels in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))

    return write
