"""Live pictures for tests of pages: a person on black, and what stands for the server."""

import json
import struct
import time

import cv2
import numpy as np
from web_pages import PATIENCE_MS

HEADER = struct.Struct("<BIQqqHH")
JPEG, TRACKS, MASK = 1, 3, 4
WIDTH, HEIGHT, STEP_US = 640, 480, 40_000


def box_of(n):
    """The box of the person in frame `n`, which moves by more than the width of its outline."""
    left, top = 40.0 + 23 * (n % 20), 60.0 + 11 * (n % 17)
    return left, top, left + 62, top + 140


def picture_of(n):
    """The JPEG of frame `n`, half as large as the source's frame: a white box on black."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top, right, bottom = map(int, box_of(n))
    pixels[top:bottom, left:right] = 255
    half = cv2.resize(pixels, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", half, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class Video:
    """Stands for `/ws/video/SOURCE`: what is sent is up to the test, acknowledgements are kept."""

    def __init__(self, page):
        self.page = page
        self.times = []  # (seq, s) of the acknowledgements
        self.sockets = []
        self.closed = []
        page.route_web_socket("**/ws/video/**", self._open)

    @property
    def acknowledged(self):
        return [seq for seq, _ in self.times]

    def _open(self, socket):
        self.sockets.append(socket)
        socket.on_close(lambda code, reason: self.closed.append(socket))
        socket.on_message(self._take)

    def _take(self, text):
        self.times.append((json.loads(text)["ack"], time.monotonic()))

    def picture(self, n, epoch=1, to=None):
        self._send(JPEG, n, epoch, picture_of(n), to)

    def tracks(self, n, epoch=1, box=None, to=None):
        tracks = [{"id": "cam1:1:4", "box_px": box or box_of(n)}]
        self._send(TRACKS, n, epoch, json.dumps({"tracks": tracks}).encode(), to)

    def mask(self, n, classes, labels):
        words = json.dumps({"labels": labels}).encode()
        png = cv2.imencode(".png", classes)[1].tobytes()
        self._send(MASK, n, 1, struct.pack("<H", len(words)) + words + png, None)

    def _send(self, kind, n, epoch, payload, to):
        head = HEADER.pack(kind, epoch, n, STEP_US * n, 0, WIDTH, HEIGHT)
        (to or self.sockets[-1]).send(head + payload)

    def wait(self, condition):
        """Let the page go on until a condition holds."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not condition():
            assert time.monotonic() < deadline, self.acknowledged
            self.page.wait_for_timeout(20)
