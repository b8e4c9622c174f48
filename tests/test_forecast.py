"""Scenes and forecasts in a whole run: however it is run, and whoever dies."""

import os
import signal
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from process_tree import children
from published import content

from streamvis import config
from streamvis.errors import ConfigError
from streamvis.events.envelope import Event
from streamvis.events.log import LogReader
from streamvis.messages import Forecast, Packet, Segmentation
from streamvis.models import forecasting, swiftnet
from streamvis.models.forecasting import Forecaster
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.weights import save, sight
from streamvis.runtime import inline, launch
from streamvis.runtime.host import build_stage
from streamvis.sources import resolve
from streamvis.stages import event_codec

ROOT = Path(__file__).parents[1]
SCENE = "a=synthetic:walkers?people=3&seconds=3&fps=20&size=320x240&seed=5"
FRAMES = 60
MOMENTS = list(range(0, FRAMES, 4))  # every 0.2 s
LABELS = ("road", "pedestrian", "bicyclist")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, str]:
    """Untrained networks that see something of everything."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    small = swiftnet.SwiftNetConfig("untrained", "efficientnet_lite0", LABELS, (8, 8, 8), lines=64)
    model = SwiftNet(small)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        noise = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), np.uint8)
        model.train()(model.normalise(noise))
    paths = {"segment": folder / "segment.safetensors"}
    save(model.eval(), paths["segment"], {})
    for horizon_s in (0.2, 0.6):
        told = Forecaster(
            forecasting.ForecasterConfig(
                name="untrained",
                channels=8,
                stride=4,
                fold=2,
                width=8,
                trunk=8,
                depth=2,
                radius=1,
                deformable=False,
                horizon_s=horizon_s,
            )
        )
        for value in told.parameters():
            if value.dim() > 1:
                torch.nn.init.normal_(value, std=0.2)
        paths[f"{horizon_s}"] = folder / f"{horizon_s}.safetensors"
        save(told, paths[f"{horizon_s}"], {"segmenter": sight(str(paths["segment"]))})
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def settings(weights) -> dict[str, str]:
    """What the shipped pipelines are run with here."""
    exactly = {"engine": "torch", "precision": "fp32"}
    given = {f"{stage}.{k}": v for stage in ("segment", "forecast") for k, v in exactly.items()}
    return given | {
        "segment.weights": weights["segment"],
        "forecast.weights": f"[{weights['0.2']}, {weights['0.6']}]",
        "publish.bind": "none",
    }


@pytest.fixture(scope="module")
def pipeline(settings) -> config.Pipeline:
    return config.load_pipeline(ROOT / "pipelines/forecast.yaml", settings)


def events(out: Path) -> list[Event]:
    with LogReader(out / "events.db") as log:
        return [content(event_codec().decode(row.payload)) for row in log.events()]


@pytest.fixture(scope="module")
def expected(pipeline, tmp_path_factory) -> list[Event]:
    out = tmp_path_factory.mktemp("inline")
    inline.run(pipeline, resolve([SCENE]), build=build_stage, out=out)
    return events(out)


def seqs(found: list[Event], kind: str) -> list[int]:
    return [event.frame.seq for event in found if event.type == kind]


def test_what_is_forecast_is_told_and_scored_when_it_is_there(expected):
    told = [event for event in expected if event.type == "forecast.segmentation"]
    assert seqs(expected, "forecast.segmentation") == [k for k in MOMENTS for _ in range(2)]
    assert [event.what.forecast.horizon_us for event in told[:2]] == [200_000, 600_000]
    assert [event.what.forecast.warm for event in told[::2]] == [False] * 3 + [True] * 12
    assert all(zone.zone == "ahead" for event in told for zone in event.what.forecast.zones)
    scored = [event for event in expected if event.type == "forecast.scored"]
    for event in scored:
        score = event.what.forecast
        assert event.time.media_us == score.made_us + score.horizon_us
    assert len(scored) == len(MOMENTS[1:]) + len(MOMENTS[3:])
    assert expected[-1].type == "source.eof"


def test_processes_give_the_same_events_as_one_process(pipeline, expected, tmp_path):
    launch.run(pipeline, config.default_placement(pipeline, runs=2), resolve([SCENE]), out=tmp_path)
    assert events(tmp_path) == expected


def test_workers_that_keep_features_from_a_forecast_are_refused(pipeline, tmp_path):
    apart = config.Placement(
        [
            config.WorkerSpec(["segment"]),
            config.WorkerSpec(["forecast"]),
            config.WorkerSpec(["publish"]),
        ]
    )
    with pytest.raises(ConfigError, match="no stage of this worker lends SegmenterFeatures"):
        launch.run(pipeline, apart, resolve([SCENE]), out=tmp_path)


def test_a_killed_worker_is_cold_for_a_while_and_forgets_no_forecast(pipeline, expected, tmp_path):
    killed = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if any(is_warm(event) for event in events(tmp_path)):
                    break
            except Exception:  # noqa: BLE001 - the log may not be there yet
                pass
            time.sleep(0.01)
        for pid in children(word="segment+forecast"):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    assassin = threading.Thread(target=kill)
    assassin.start()
    try:
        summary = launch.run(
            pipeline, config.default_placement(pipeline, runs=2), resolve([SCENE]), out=tmp_path
        )
    finally:
        assassin.join()
    assert killed
    assert {stage.name: stage.restarts for stage in summary.stages}["forecast"] == 1
    found = events(tmp_path)
    assert [event.type for event in found] == [event.type for event in expected]
    told = [event for event in found if event.type == "forecast.segmentation"]
    cold = {event.time.media_us for event in told if not is_warm(event)}
    assert len(cold) <= 6  # three moments at first, three after the kill
    for one, other in zip(found, expected, strict=True):
        made_us = one.time.media_us
        if one.type == "forecast.scored":
            assert one.what.forecast.made_us == other.what.forecast.made_us
            made_us = one.what.forecast.made_us
        if made_us not in cold or not one.type.startswith("forecast"):
            assert one == other


def is_warm(event: Event) -> bool:
    return event.type == "forecast.segmentation" and event.what.forecast.warm


def test_everything_runs_in_one_graph_and_meets_in_the_video(settings, tmp_path):
    given = settings | {
        "detect.short_side": "240",
        "act.begin": "0",
        "act.end": "0",
        "act.min_height": "8",
        "act.scope": "frame",
        "act.min_s": "0",
    }
    full = config.load_pipeline(ROOT / "pipelines/full.yaml", given)
    packets: list[Packet] = []
    summary = inline.run(
        config.with_record(full, config.Record()),
        resolve(["a=synthetic:walkers?people=3&seconds=2&fps=5&size=320x240&seed=5"]),
        build=build_stage,
        out=tmp_path,
        on_packet=packets.append,
    )
    assert len(packets) == 10
    assert all(one.part(Segmentation) and one.part(Forecast) for one in packets)
    families = {event.type.partition(".")[0] for event in events(tmp_path)}
    assert families >= {"source", "track", "scene", "forecast"}
    assert (tmp_path / "annotated.mp4").stat().st_size > 1000
    assert {stage.name for stage in summary.stages} >= {"act", "forecast", "record"}
    assert msgspec.json.encode(summary)
