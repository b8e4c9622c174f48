"""What `streamvis bench actions` measures: whether people can be watched in real time."""

import tempfile
import time
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from streamvis.config import OffActions
from streamvis.errors import UsageError
from streamvis.messages import Array, Frame, Packet, Site, SourceInfo, Tracks
from streamvis.models.off import Off, OffConfig
from streamvis.models.weights import save, shipped
from streamvis.parsing import convert
from streamvis.runtime.processes import keep_memory
from streamvis.stages.act import ActStage
from streamvis.synthetic.render import SyntheticScene
from streamvis.transport.sockets import temporary_root

SIZE = (1280, 720)  # width, height in px
FPS = 25


def actions(
    weights: str, people: int, per_second: float, seconds: float, engine: str
) -> dict[str, Any]:
    """A scene of so many tracked people, each looked at so often: time it takes over its length."""
    keep_memory()
    with tempfile.TemporaryDirectory(dir=temporary_root()) as folder:
        name = _file(weights, per_second, Path(folder))
        pictures: dict[str, Array] = {}
        fields = {"kind": "off", "weights": name, "people": people, "min_height": 8}
        config = convert({**fields, "engine": engine}, OffActions, "bench actions", UsageError)
        act = ActStage(config, Site(device="cpu", pixels=lambda frame: pictures[frame.slot]))
    scene = SyntheticScene(seed=1, people=people, size=SIZE, fps=FPS, seconds=seconds)
    act.begin(
        SourceInfo(id="a", label="a", width=SIZE[0], height=SIZE[1], fps=FPS, live=False), None
    )
    rng = np.random.default_rng(0)
    boxes, speed = _boxes(people, rng)
    spent, samples, looked = 0.0, 0, 0
    cpu = 0.0
    count = round(seconds * FPS)
    warm_up = max(FPS, ceil(2 * FPS / per_second))  # a second, and two looks at least
    for n in range(-warm_up, count):
        pictures["a"] = scene.picture(n % count)
        packet = _packet(n + warm_up, boxes + speed * (n / FPS))
        start, used = time.perf_counter(), time.process_time()
        (told,) = act([packet])
        if n >= 0:
            spent += time.perf_counter() - start
            cpu += time.process_time() - used
            samples += int(told.sampled.any())
            looked += int(told.sampled.sum())
    if not looked:
        raise UsageError(
            f"--seconds {seconds:g}: nobody is looked at, at --per-second {per_second:g}; expected "
            f"{2 / per_second:g} seconds or more"
        )
    return {
        "weights": weights if weights in shipped() or Path(weights).exists() else "random",
        "engine": type(act.network).__name__.strip("_").lower(),
        "people": people,
        "samples_per_second": round(samples / seconds, 2),
        "crops": looked,
        "threads": torch.get_num_threads(),
        "ms_per_person_and_sample": round(1000 * spent / max(looked, 1), 2),
        "busy": round(spent / seconds, 3),
        "busy_cores": round(cpu / seconds, 3),
        "times_real_time": round(seconds / spent, 2),
    }


def _file(weights: str, per_second: float, folder: Path) -> str:
    """The weights with another spacing; untrained ones where there are none."""
    from streamvis.models.weights import load_actions

    if weights in shipped() or Path(weights).exists():
        model = load_actions(weights)
        about = msgspec.structs.replace(model.architecture, every_s=1 / per_second)
        model.architecture = about
    else:
        torch.manual_seed(0)
        about = OffConfig(name="untrained", actions=("fight", "normal"), every_s=1 / per_second)
        model = Off(about).eval()
        for part in model.body.modules():  # numbers as large as trained ones': tiny ones are slow
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


def _packet(n: int, boxes: Array) -> Packet:
    count = len(boxes)
    frame = Frame(
        source="a",
        seq=n,
        n=n,
        media_us=n * 1_000_000 // FPS,
        width=SIZE[0],
        height=SIZE[1],
        slot="a",
    )
    zeros, none = np.zeros(count, np.float32), np.zeros(0, np.int64)
    tracks = Tracks(
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
    return Packet(frame=frame, parts=[tracks])
