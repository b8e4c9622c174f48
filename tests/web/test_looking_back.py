"""From a film to the page: boxes that a run has logged lie on their recorded pictures."""

import sys
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from web_pages import keep, opened
from web_servers import serving
from web_video import HEIGHT, WIDTH, box_of

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "runtime")]

import toys
from test_source_page import PLACES, only

from streamvis.config import Jipda, MaskRcnn, Pipeline, Publish, StageSpec
from streamvis.messages import Detections
from streamvis.runtime import inline
from streamvis.runtime.host import build_stage
from streamvis.sources import resolve
from streamvis.stages import event_codec

FRAMES = 60
GAPS_MS = (40, 7, 93, 20, 250, 33)  # from picture to picture
FILMS = {
    "reordered.mp4": ("libx264", {"bf": "3", "g": "25", "preset": "fast", "qp": "10"}),
    "demo.avi": ("msmpeg4", {"g": "25", "qscale": "2"}),  # as the clip of the demo
}
ID = 4
WHITE = "r > 128 && g > 128 && b > 128 && r === g && g === b"
WHERE = PLACES.replace(WHITE, "Math.min(r, g, b) > 170")  # codecs leave a white with a tint


def filmed(path):
    """A white person on black, at times that vary where the container can say so."""
    codec, options = FILMS[path.name]
    varies = path.suffix == ".mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if varies:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        at_ms = 0
        for n in range(FRAMES):
            pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            left, top, right, bottom = map(int, box_of(n))
            pixels[top:bottom, left:right] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if varies:
                frame.pts, frame.time_base = at_ms, Fraction(1, 1000)
                at_ms += GAPS_MS[n % len(GAPS_MS)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Finder(toys.ToyDetect):
    """Finds what is white."""

    def __call__(self, packets):
        for packet in packets:
            rows, columns = np.nonzero(self.site.pixels(packet.frame).min(axis=2) > 128)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            yield Detections.of(np.array([box], np.float32), [1.0])


class Same(toys.ToyTrack):
    """One track, where the detection is."""

    def __call__(self, packets):
        for packet in packets:
            self.see(packet.frame, ID)
            one = toys.walkers(np.array([ID]), [], 0)
            yield msgspec.structs.replace(one, boxes=packet.part(Detections).boxes)


def built(spec, site):
    if isinstance(spec.run, Publish):
        return build_stage(spec, site)
    return (Finder if isinstance(spec.run, MaskRcnn) else Same)(spec, site)


@pytest.fixture(params=FILMS)
def run(request, tmp_path):
    """A run that is over, and the media time of each box in its log."""
    pipeline = Pipeline(
        [
            StageSpec("detect", MaskRcnn()),
            StageSpec("track", Jipda(), after=["detect"]),
            StageSpec("publish", Publish(bind="none", update_every_s=0.0), after=["track"]),
        ]
    )
    sources = resolve([f"cam1={filmed(tmp_path / request.param)}"])
    inline.run(pipeline, sources, build=built, out=tmp_path / "out")
    with serving(tmp_path / "out") as client:
        raw = client.get("/api/events?source=cam1&types=track.begin,track.update&limit=1000").body
        events = decoded(raw)
        yield client, {one.time.media_us: one.what.track.box_px for one in events}


class Page(msgspec.Struct):
    events: list[msgspec.Raw]


def decoded(raw):
    return [event_codec().decode(bytes(one)) for one in msgspec.json.decode(raw, type=Page).events]


def test_logged_boxes_lie_on_their_recorded_pictures(browser, run):
    client, boxes = run
    assert len(boxes) == FRAMES
    assert WHERE != PLACES
    complaints = []
    page = opened(browser, f"http://{client.host}/source?id=cam1", complaints)
    times = sorted(boxes)
    for media_us in (times[5], times[31], times[30], times[58], times[12], times[13]):
        page.goto(f"http://{client.host}/source?id=cam1&at={media_us}")
        page.locator(f'#picture[data-media-us="{media_us}"]').wait_for()
        only(page, "boxes")
        page.wait_for_function(f"() => ({WHERE})().box[2] > 0")
        found = page.evaluate(WHERE)
        expected = np.array(boxes[media_us]) * found["scale"]
        np.testing.assert_allclose(found["white"], expected, atol=2)
        np.testing.assert_allclose(found["box"], expected + np.array([-1, -1, 1, 1]), atol=2)
    keep(page, "looking-back")
    page.close()
    assert complaints == []
