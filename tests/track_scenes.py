"""Random tracks of a scene for tests, with all that a tracker may say of them."""

from typing import NamedTuple

import numpy as np
from factories import source, tracks

from streamvis.events.deriver import PublishPolicy
from streamvis.events.envelope import Event, encode
from streamvis.events.log import Row
from streamvis.messages import Frame, Notice, Packet
from streamvis.stages.publish.derive import SourceEvents, SourceStatus
from streamvis.stages.track import Jipda
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.stage import ZonesStage

WIDTH, HEIGHT = 640, 480


class Scene(NamedTuple):
    """What a random scene has."""

    seed: int
    frames: int = 200
    fps: float = 10.0
    people: float = 4.0  # on average
    empty: bool = True  # there are times without anybody
    corrections: float = 0.05  # merges and splits, of each kind in a frame
    epochs: bool = False
    ground: bool = False
    absent: float = 0.0  # share of frames in which a track gets absent, for up to 4 s


class Walkers:
    """People who walk about, and a tracker that errs."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = np.random.default_rng(scene.seed)
        self.restart()

    def restart(self) -> None:
        self.next = 1
        self.alive: dict[int, np.ndarray] = {}  # id -> x, y, vx, vy in px and px/s
        self.past: list[int] = []
        self.absent: dict[int, int] = {}  # until when, by id

    def step(self, media_us: int):
        """The tracks of a frame."""
        rng, scene = self.rng, self.scene
        gone = [n for n in self.alive if rng.random() < 0.02]
        wave = 1.0
        if scene.empty:
            wave = 1.5 * (np.sin(media_us / 4e6) > 0)
            if not wave and rng.random() < 0.3:
                gone = list(self.alive)
        for n in gone:
            del self.alive[n]
        while len(self.alive) < scene.people * wave and rng.random() < 0.4:
            at = [*rng.uniform((0, 100), (WIDTH, HEIGHT)), *rng.normal(0, 60, 2)]
            self.alive[self.next] = np.array(at)
            self.next += 1
        for state in self.alive.values():
            state[:2] += state[2:] / scene.fps
            state[2:] += rng.normal(0, 8, 2)
        if scene.absent:
            chosen = [n for n in self.alive if rng.random() < scene.absent]
            self.absent |= {n: media_us + int(rng.integers(4e6)) for n in chosen}
        merged, split = self._corrections(gone, media_us)
        self.past = [*self.past, *gone][-20:]
        return self._tracks(gone, merged, split, media_us)

    def _corrections(self, gone, media_us):
        rng, share = self.rng, self.scene.corrections
        merged, split = [], []
        alive = list(self.alive)
        if alive and rng.random() < share:
            kept = int(rng.choice(alive))
            if self.past and rng.random() < 0.6:
                merged.append((int(rng.choice(self.past)), kept))
            elif len(alive) > 1:
                other = int(rng.choice([n for n in alive if n != kept]))
                del self.alive[other]
                merged.append((other, kept))
        if len(self.alive) > 1 and rng.random() < share:
            a, b = rng.choice(list(self.alive), 2, replace=False).tolist()
            since = max(media_us - int(rng.integers(100_000, 3_000_000)), 0)
            split += [(a, b, since), (b, a, since)]
            self.alive[a], self.alive[b] = self.alive[b], self.alive[a]
        elif self.alive and rng.random() < share:  # into one that begins now
            (a,) = rng.choice(list(self.alive), 1).tolist()
            since = max(media_us - int(rng.integers(100_000, 3_000_000)), 0)
            split.append((a, self.next, since))
            self.alive[self.next] = self.alive[a] + rng.normal(0, 3, 4)
            self.next += 1
        if rng.random() < share:  # of a track that was never published
            split.append((self.next + 7, 1, 0))
            merged.append((self.next + 8, self.next + 9))
        return merged, split

    def _tracks(self, gone, merged, split, media_us):
        rng = self.rng
        ids = [n for n in sorted(self.alive) if rng.random() > 0.03]  # some are missed at times
        ids = [n for n in ids if self.absent.get(n, 0) <= media_us]
        at = np.array([self.alive[n] for n in ids]).reshape(-1, 4)
        n, height = len(ids), 60 + at[:, 1] / 8
        boxes = np.stack(
            [at[:, 0] - height / 5, at[:, 1] - height, at[:, 0] + height / 5, at[:, 1]], axis=1
        )
        more = {}
        if self.scene.ground:
            more = {
                "ground": at[:, :2] / 40,
                "ground_velocity": at[:, 2:] / 40,
                "ground_covariance": np.tile(np.eye(2) * 0.04, (n, 1, 1)),
            }
        return tracks(
            ids,
            boxes,
            existence=rng.uniform(0.4, 1, n),
            velocity=at[:, 2:],
            covariance=rng.uniform(1, 50, (n, 4)),
            detection=np.where(rng.random(n) < 0.85, 0, -1),
            ended=gone,
            merged=merged or None,
            split=split or None,
            **more,
        )


def rows_of_run(
    scene: Scene, config: ZoneCounter, *, every_us: int = 0, ending="eof", parts=None
) -> list[Row]:
    """The log of a run over the scene with these zones; `parts` are of other stages, by frame."""
    plane = (0.025, 0.0, 0.0, 0.0, 0.025, 0.0, 0.0, 0.0, 1.0) if scene.ground else None
    info = source("cam1", size=(WIDTH, HEIGHT), ground_plane=plane)
    stage = ZonesStage(config)
    stage.begin(info, None)
    events = SourceEvents(SourceStatus(info), [Jipda(), config], PublishPolicy(every_us=every_us))
    walkers = Walkers(scene)
    drafts = events.start()
    step_us = 1e6 / scene.fps
    epoch, since, n = 1, 0, 0
    for seq in range(scene.frames):
        if scene.epochs and seq in (scene.frames // 3, scene.frames // 2):
            drafts += events.notice(
                Notice(source="cam1", kind="epoch", media_us=0, reason="reconnected")
            )
            epoch, since = epoch + 1, seq
            walkers.restart()
        n += 1 + int(walkers.rng.random() < 0.02)  # some pictures are dropped
        media_us = round((seq - since) * step_us + walkers.rng.integers(0, 1000))
        frame = Frame(
            source="cam1", seq=seq, n=n, media_us=media_us, width=WIDTH, height=HEIGHT, epoch=epoch
        )
        packet = Packet(frame=frame, parts=[walkers.step(media_us)])
        packet.parts.extend(stage([packet]))
        drafts += events.frame(packet)
    drafts += events.end(ending)
    rows = []
    for offset, draft in enumerate(drafts):
        event = Event(
            id="x",
            source="cam1",
            epoch="e1",
            tseq=offset + 1,
            offset=offset,
            time=draft.time,
            frame=draft.frame,
            what=draft.what,
        )
        rows.append(Row("cam1", offset, offset + 1, event.type, draft.time.media_us, encode(event)))
    return rows
