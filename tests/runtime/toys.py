"""Cheap stages and sources for tests; worker processes import this module by its name.

A toy's behaviour hangs on the stage's name, so that nothing but the pipeline is needed:
`crash-<n>` raises at picture n, `kill-<n>` dies at it, `slow` sleeps, …
"""

import os
import signal
import time
from pathlib import Path

import msgspec
import numpy as np

from streamvis.config import Jipda, MaskRcnn
from streamvis.errors import DataError, DeviceError, RunError, SourceError, WeightsError
from streamvis.messages import Detections, Receipt, SourceInfo, Tracks
from streamvis.runtime.host import build_stage
from streamvis.sources.picture import Picture
from streamvis.stages.protocol import StatefulStage

WIDTH, HEIGHT = 32, 16


class ToySource:
    """`toy:<frames>`: picture n is filled with n; options inject faults."""

    def __init__(self, spec, epoch=1):
        self.options = spec.options
        if "refuse" in self.options:
            raise SourceError(f"{spec.label}: nobody there")
        self.frames = int(spec.uri.removeprefix("toy:"))
        self.errors = 0
        self.given = 0
        self.ended = None
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=WIDTH,
            height=HEIGHT,
            fps=25.0,
            live="live" in self.options,
            epoch=epoch,
            frames=self.frames,
            start_us=spec.start,
        )

    def __iter__(self):
        for n in range(self.frames):
            if n == int(self.options.get("jump", -1)):
                self.errors += 1
                continue
            if n == int(self.options.get("fail", -1)):
                raise SourceError(f"toy: torn at {n}")
            grown = n >= int(self.options.get("grow", 1 << 30))
            time.sleep(float(self.options.get("pause", 0)))
            shape = (HEIGHT * (1 + grown), WIDTH * (1 + grown), 3)
            self.given += 1
            yield Picture(pixels=np.full(shape, n % 251, np.uint8), n=n, media_us=n * 40_000)
        self.ended = "eof"

    def close(self):
        pass


def open_toy(spec, epoch=1, waiting=None):
    return ToySource(spec, epoch)


def open_hasty(spec, epoch=1, waiting=None):
    """Open a real source, whose recording is tried again soon after a full disk."""
    from streamvis.recording import segments
    from streamvis.sources import open_source

    segments.RETRY_S = 2.0
    return open_source(spec, epoch, waiting)


def open_counted(spec, epoch=1, waiting=None):
    """Open a toy whose option `encoded` names a file that grows by a byte with each JPEG."""
    import cv2

    encode = cv2.imencode

    def counted(*given):
        with open(spec.options["encoded"], "ab") as file:
            file.write(b".")
        return encode(*given)

    cv2.imencode = counted
    return ToySource(spec, epoch)


class ToyDetect(StatefulStage):
    """One box whose coordinates encode the picture's value and number; it remembers nothing."""

    def __init__(self, spec, site):
        self.site = site
        self.name = spec.name

    def begin(self, source, state):
        pass

    def state(self, source):
        return b""

    def finish(self, source, ending):
        pass

    def __call__(self, packets):
        for packet in packets:
            trouble(self.name, packet.frame.n, self.site.out)
            pixels = self.site.pixels(packet.frame)
            assert not pixels.flags.writeable
            assert (pixels == packet.frame.n % 251).all()
            box = [packet.frame.n, pixels[0, 0, 0], packet.frame.width, packet.frame.height]
            yield Detections(
                boxes=np.array([box], np.float32),
                scores=np.ones(1, np.float32),
                labels=np.ones(1, np.int32),
                masks=np.zeros((0, 0, 0), np.uint8),
            )

    def close(self):
        pass


class Memory:
    """The state of the stateful toys: for each source a count and a sum over their frames."""

    def __init__(self):
        self.sources = {}

    def begin(self, source, state):
        self.sources[source.id] = msgspec.msgpack.decode(state) if state else [0, 0, -1]

    def see(self, frame, value):
        count, total, last = self.sources[frame.source]
        assert frame.seq > last, f"{frame.source}/{frame.seq} after {last}"
        self.sources[frame.source] = [count + 1, (total * 31 + value) % 1_000_003, frame.seq]
        return self.sources[frame.source]

    def bump(self, source, value):
        count, total, last = self.sources[source]
        self.sources[source] = [count, (total * 37 + value) % 1_000_003, last]

    def state(self, source):
        return msgspec.msgpack.encode(self.sources[source])


class ToyTrack(Memory):
    """Ids that depend on every packet and notice before, so that any loss or swap shows."""

    def __init__(self, spec, site):
        super().__init__()
        self.site = site
        self.name = spec.name

    def __call__(self, packets):
        for packet in packets:
            trouble(self.name, packet.frame.n, self.site.out)
            found = packet.part(Detections)
            value = int(found.boxes[0, 0]) + 1 if found else 0
            seen = self.see(packet.frame, value)
            yield tracks(np.array(seen, np.int64))

    def notice(self, notice):
        self.bump(notice.source, notice.first_n + 2)

    def finish(self, source, ending):
        trouble(self.name, ending, self.site.out)
        del self.sources[source]

    def close(self):
        pass


class ToyPublish(Memory):
    """One line for each packet, notice and end; a successor cuts off what was not answered."""

    def __init__(self, spec, site):
        super().__init__()
        self.site = site
        self.name = spec.name
        self.lines = {}
        site.out.mkdir(parents=True, exist_ok=True)

    def begin(self, source, state):
        super().begin(source, state)
        self.lines[source.id] = self.read(source.id)[: self.sources[source.id][0]]

    def __call__(self, packets):
        for packet in packets:
            trouble(self.name, packet.frame.n, self.site.out)
            found, followed = packet.part(Detections), packet.part(Tracks)
            self.see(packet.frame, 1)
            self.write(
                packet.frame.source,
                f"{packet.frame.seq} {packet.frame.n} {packet.frame.media_us} {packet.frame.epoch} "
                f"{found.boxes.tolist() if found else None} "
                f"{followed.ids.tolist() if followed else None}",
            )
            yield Receipt(written=1)

    def notice(self, notice):
        self.sources[notice.source][0] += 1
        which = f"{notice.first_n}-{notice.last_n} {notice.count}"
        self.write(notice.source, f"{notice.kind} {notice.reason} {which}")

    def finish(self, source, ending):
        trouble(self.name, ending, self.site.out)
        if self.lines[source][-1:] != [f"end {ending}"]:
            self.write(source, f"end {ending}")

    def close(self):
        if "badclose" in self.name:
            raise ValueError("toy cannot close")

    def path(self, source):
        return self.site.out / f"{self.name}-{source}.log"

    def read(self, source):
        path = self.path(source)
        return path.read_text().splitlines() if path.exists() else []

    def write(self, source, line):
        self.lines[source].append(line)
        draft = self.path(source).with_suffix(".draft")
        draft.write_text("".join(f"{line}\n" for line in self.lines[source]))
        draft.replace(self.path(source))  # it may be killed at any moment


def tracks(ids):
    nothing = np.zeros(0, np.float32)
    return Tracks(
        ids=ids,
        boxes=nothing,
        scores=nothing,
        existence=nothing,
        velocity=nothing,
        covariance=nothing,
        ground=nothing,
        entropy=nothing,
        gated=nothing,
        detection=nothing,
        first_seen_us=nothing,
        ended=nothing,
    )


class ToyWalk(ToyTrack):
    """Three walkers at any time, who are where every packet and notice before says."""

    def __call__(self, packets):
        for seen in super().__call__(packets):
            count, total, _ = (int(value) for value in seen.ids)
            first = 1 + count // 7  # a walker leaves every 7 frames, another has come
            ids = np.arange(first, first + 3)
            yield walkers(ids, [first - 1] if count % 7 == 0 else [], total)


def walkers(ids, ended, where):
    n = len(ids)
    return Tracks(
        ids=ids.astype(np.int64),
        boxes=np.array([[where % 97 + i, i % 8, where % 97 + i + 5, 9] for i in ids], np.float32),
        scores=np.full(n, 0.9, np.float32),
        existence=np.full(n, 0.97, np.float32),
        velocity=np.zeros((n, 2), np.float32),
        covariance=np.ones((n, 4), np.float32),
        ground=np.full((n, 2), np.nan, np.float32),
        entropy=np.zeros(n, np.float32),
        gated=np.ones(n, np.int32),
        detection=np.zeros(n, np.int32),
        first_seen_us=np.zeros(n, np.int64),
        ended=np.array(ended, np.int64),
    )


def trouble(name, moment, out):
    """`crash-7`: raise at picture 7; `full-7`: as on a full disk; `data-7`: as for bad data;
    `die-7`: SIGKILL; `once-7`: SIGKILL the first time only.
    """
    if "slow" in name:
        time.sleep(0.01)
    if f"hang-{moment}_" in f"{name}_":
        (Path(out) / f"{name}.hung").touch()
        time.sleep(3600)
    for kind in ("crash", "full", "data", "die", "once"):
        if f"{kind}-{moment}_" in f"{name}_":
            if kind == "full":
                raise RunError("toy: no space left")
            if kind == "data":
                raise DataError(f"toy: {moment} is not a number")
            if kind == "crash":
                raise ValueError(f"toy cannot do {moment}")
            marker = Path(out) / f"{name}.died"
            if kind == "die" or not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)


class Passers(ToyDetect):
    """Somebody stands here from picture 20 to 39, and again from 60 to 69; see `build_street`."""

    def __call__(self, packets):
        for packet in packets:
            trouble(self.name, packet.frame.n, self.site.out)
            here = int(20 <= packet.frame.n < 40 or 60 <= packet.frame.n < 70)
            yield Detections(
                boxes=np.array([[8, 2, 14, 15]] * here, np.float32).reshape(-1, 4),
                scores=np.full(here, 0.95, np.float32),
                labels=np.ones(here, np.int32),
                masks=np.zeros((0, 0, 0), np.uint8),
            )


def build_street(spec, site):
    """Two people one after the other, for the real tracker and the real publisher."""
    from streamvis.runtime.host import build_stage

    return Passers(spec, site) if spec.run.writes is Detections else build_stage(spec, site)


TOYS = {"MaskRcnn": ToyDetect, "Jipda": ToyTrack, "Publish": ToyPublish, "Record": ToyPublish}


def build_logged(spec, site):
    """Toys above the real publisher."""
    if type(spec.run) is Jipda:
        return ToyWalk(spec, site)
    return build(spec, site) if type(spec.run) is MaskRcnn else build_stage(spec, site)


def build(spec, site):
    if "unweighted" in spec.name:
        raise WeightsError("toy.safetensors does not fit")
    if "nodevice" in spec.name and site.device != "cpu":
        raise DeviceError(f"no {site.device} here")
    if "unbuildable" in spec.name:
        raise ValueError("toy cannot be built")
    return TOYS[type(spec.run).__name__](spec, site)


class Looker(ToyDetect):
    """Nobody; the file `seen.txt` has the lowest and highest pixel of each half of a picture."""

    def __call__(self, packets):
        for packet in packets:
            pixels = self.site.pixels(packet.frame)
            left, right = np.array_split(pixels, 2, axis=1)
            with (self.site.out / "seen.txt").open("a") as file:
                print(left.min(), left.max(), right.min(), right.max(), file=file)
            yield Detections.of(np.zeros((0, 4)), [])


def build_looking(spec, site):
    return Looker(spec, site) if spec.run.writes is Detections else build(spec, site)


class Walker(ToyDetect):
    """Somebody walks to and fro; `late-50` takes 50 ms for a frame.

    A detector named `shade` has the walker's score tell how bright the picture is.
    """

    def __call__(self, packets):
        for packet in packets:
            for part in self.name.split("_"):
                if part.startswith("late-"):
                    time.sleep(float(part.removeprefix("late-")) / 1000)
            x = 10 + abs(packet.frame.media_us / 50_000 % 60 - 30)
            score = 0.95
            if self.name == "shade":
                x, score = 20, 0.5 + float(self.site.pixels(packet.frame).mean()) / 512
            yield Detections(
                boxes=np.array([[x, 10, x + 10, 38]], np.float32),
                scores=np.array([score], np.float32),
                labels=np.ones(1, np.int32),
                masks=np.zeros((0, 0, 0), np.uint8),
            )


class Telling(ToyTrack):
    """One track, whose box has the number of the frame and the value of its pixels."""

    def __call__(self, packets):
        for packet in packets:
            self.see(packet.frame, 1)
            found = walkers(np.ones(1, np.int64), [], 0)
            box = np.array([[packet.frame.n, *packet.part(Detections).boxes[0, 1:]]], np.float32)
            yield msgspec.structs.replace(found, boxes=box)


def build_telling(spec, site):
    """Tracks that tell of which picture they are, for the real publisher."""
    if spec.run.writes is Detections:
        return ToyDetect(spec, site)
    return Telling(spec, site) if type(spec.run) is Jipda else build_stage(spec, site)


def build_live(spec, site):
    """A walker whatever is seen, for the real tracker and the real publisher."""
    return Walker(spec, site) if spec.run.writes is Detections else build_stage(spec, site)
