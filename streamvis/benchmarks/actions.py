"""Benchmark of the action stage alone: its time over the length of the video."""

import tempfile
import time
from math import ceil
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from streamvis.api.actions import ActionRecogniser
from streamvis.config import OffActions
from streamvis.errors import UsageError
from streamvis.messages import Array, Tracks
from streamvis.models.inference.select import choose
from streamvis.models.off import Off, OffConfig
from streamvis.models.weights import save, shipped
from streamvis.parsing import convert
from streamvis.runtime.processes import keep_memory
from streamvis.synthetic.render import SyntheticScene
from streamvis.transport.sockets import temporary_root

SIZE = (1280, 720)  # width, height in px
FPS = 25


class ActionsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Time of the action stage over the length of its video."""

    weights: str  # "random" when there are none of this name
    engine: str  # "torch", or "compiled" for OpenVINO
    people: int
    samples_per_second: float  # of video: times at which tracks are sampled
    crops: int  # samples of all people together
    threads: int
    ms_per_person_and_sample: float
    busy: float  # seconds of computing over seconds of video
    busy_cores: float  # the same in CPU time
    times_real_time: float


def measure(
    weights: str = "fight-off",
    people: int = 10,
    per_second: float = 5.0,
    seconds: float = 10.0,
    engine: str = "auto",
) -> ActionsReport:
    """Time the stage on a synthetic scene of tracked people, each sampled `per_second` times."""
    keep_memory()
    with tempfile.TemporaryDirectory(dir=temporary_root()) as folder:
        name = _save_weights(weights, per_second, Path(folder))
        fields = {"kind": "off", "weights": name, "people": people, "min_height": 8}
        config = convert({**fields, "engine": engine}, OffActions, "bench actions", UsageError)
        recognise = ActionRecogniser(fps=FPS, **msgspec.structs.asdict(config))
    used = _run(recognise, people, per_second, seconds)
    if not used.crops:
        raise UsageError(
            f"--seconds {seconds:g}: no track is sampled at --per-second {per_second:g}; expected "
            f"{2 / per_second:g} seconds or more"
        )
    return ActionsReport(
        weights=weights if weights in shipped() or Path(weights).exists() else "random",
        engine="torch" if choose("cpu", "auto", config.engine)[0] == "torch" else "compiled",
        people=people,
        samples_per_second=round(used.samples / seconds, 2),
        crops=used.crops,
        threads=torch.get_num_threads(),
        ms_per_person_and_sample=round(1000 * used.wall_s / used.crops, 2),
        busy=round(used.wall_s / seconds, 3),
        busy_cores=round(used.cpu_s / seconds, 3),
        times_real_time=round(seconds / used.wall_s, 2),
    )


class _Used(NamedTuple):
    wall_s: float
    cpu_s: float
    samples: int
    crops: int


def _run(recognise: ActionRecogniser, people: int, per_second: float, seconds: float) -> _Used:
    """Recognise frame by frame; the warm-up does not count."""
    scene = SyntheticScene(seed=1, people=people, size=SIZE, fps=FPS, seconds=seconds)
    boxes, speed = _boxes(people, np.random.default_rng(0))
    wall_s = cpu_s = 0.0
    samples = crops = 0
    count = round(seconds * FPS)
    warm_up = max(FPS, ceil(2 * FPS / per_second))  # a second, and at least two samples
    for n in range(-warm_up, count):
        picture = scene.picture(n % count)
        tracks = _tracks(boxes + speed * (n / FPS))
        start, cpu_start = time.perf_counter(), time.process_time()
        part = recognise(picture, tracks)
        if n >= 0:
            wall_s += time.perf_counter() - start
            cpu_s += time.process_time() - cpu_start
            samples += int(part.sampled.any())
            crops += int(part.sampled.sum())
    return _Used(wall_s, cpu_s, samples, crops)


def _save_weights(weights: str, per_second: float, folder: Path) -> str:
    """Save the weights with another sampling interval; untrained ones where there are none."""
    from streamvis.models.weights import load_actions

    if weights in shipped() or Path(weights).exists():
        model = load_actions(weights)
        architecture = msgspec.structs.replace(model.architecture, every_s=1 / per_second)
        model.architecture = architecture
    else:
        torch.manual_seed(0)
        architecture = OffConfig(
            name="untrained", actions=("fight", "normal"), every_s=1 / per_second
        )
        model = Off(architecture).eval()
        for part in model.body.modules():  # as large as trained weights: tiny numbers are slow
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight)
    path = folder / "bench.safetensors"
    save(model, path, {})
    return str(path)


def _boxes(people: int, rng: np.random.Generator) -> tuple[Array, Array]:
    height = rng.uniform(80, 300, (people, 1))
    corner = rng.uniform(0.1, 0.6, (people, 2)) * SIZE
    boxes = np.concatenate([corner, corner + height * [0.4, 1]], 1)
    return boxes, rng.uniform(-10, 10, (people, 4))[:, [0, 1, 0, 1]]


def _tracks(boxes: Array) -> Tracks:
    count = len(boxes)
    zeros, none = np.zeros(count, np.float32), np.zeros(0, np.int64)
    return Tracks(
        ids=np.arange(1, count + 1),
        boxes=boxes.astype(np.float32),
        scores=zeros,
        existence=zeros,
        velocity=np.zeros((count, 2), np.float32),
        covariance=np.zeros((count, 4), np.float32),
        ground=np.full((count, 2), np.nan, np.float32),
        entropy=zeros,
        gated=np.zeros(count, np.int32),
        detection=np.zeros(count, np.int32),
        first_seen_us=np.zeros(count, np.int64),
        ended=none,
    )
