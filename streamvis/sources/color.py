"""Convert decoded frames to upright RGB pixels, without a copy where possible."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from streamvis.messages import Array


class Converter:
    """Turns frames of one stream into RGB; it keeps swscale's tables between them.

    Range (limited or full) and matrix (BT.601, 709, 2020) are taken from the frame's tags, BT.601
    limited without them, as FFmpeg does.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._matrix: Array | None = None  # display matrix
        self._rotation: int | None = None  # of the frame that it was read from
        self._after_key = False  # whether the frame before was a key frame

    def __call__(self, frame: VideoFrame) -> Array:
        """The frame (H, W, 3) uint8 RGB: a view on memory that the array keeps alive."""
        # one thread: 0.5 ms for 768×576, and decoding has the other cores
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        plane = rgb.planes[0]
        shape, strides = (rgb.height, rgb.width, 3), (plane.line_size, 3, 1)  # lines are padded
        pixels = np.ndarray(shape, np.uint8, memoryview(plane), strides=strides)
        return upright(pixels, self._display_matrix(frame))

    def _display_matrix(self, frame: VideoFrame) -> Array | None:
        """The frame's display matrix, read where the rotation changes and from key frames.

        It is not read from every frame, nor from one key frame after another: PyAV's side data and
        their frame refer to each other, so that each frame that they are read from stays in memory
        until garbage is collected, and the decoder allocates another one.
        """
        after_key, self._after_key = self._after_key, frame.key_frame
        if frame.rotation != self._rotation or (frame.key_frame and not after_key):
            self._matrix, self._rotation = display_matrix(frame), frame.rotation
        return self._matrix


def display_matrix(frame: VideoFrame) -> Array | None:
    """The turning and mirroring part (2, 2) of the frame's display matrix, None without one."""
    try:
        data = cast(Mapping[str, Any], frame.side_data)["DISPLAYMATRIX"]
    except KeyError:
        return None
    except ValueError:  # PyAV 18 lists no frame that has side data newer than it knows (EXIF)
        turns = round(frame.rotation / 90) % 4  # counter-clockwise; a mirror goes unnoticed
        return np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turns)
    return np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2] / 65536  # 16.16 fixed point


def upright(pixels: Array, matrix: Array | None) -> Array:
    """Apply a display matrix (2, 2), as rows [x y] @ matrix, if it keeps pixels on the grid.

    Quarter turns and mirrors are applied; a slanted matrix is left alone.
    """
    if matrix is None or not np.isin(np.abs(matrix), (0, 1)).all():
        return pixels
    flip_x, flip_y = matrix.sum(axis=0) < 0  # whether x' and y' run backwards
    if matrix[0, 0] == 0:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
