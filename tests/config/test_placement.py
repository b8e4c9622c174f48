"""A placement that fits its pipeline loads; any other gets one line that names the fault."""

import os
from pathlib import Path

import pytest

from streamvis import config, shipped
from streamvis.errors import ConfigError
from streamvis.runtime.plan import group_stages

ROOT = Path(__file__).parents[2]
SMALL = config.Machine(cores=2)


def write(folder: Path, text: str) -> Path:
    path = folder / "p.yaml"
    path.write_text(text)
    return path


SEGMENT = "{name: segment, run: {kind: segment}}"


FORECAST = "{name: forecast, after: [segment], run: {kind: forecast}}"


PLACEMENTS = [ROOT / f"configs/{name}.yaml" for name in shipped.names("placement")]


@pytest.mark.parametrize("path", PLACEMENTS, ids=lambda p: p.name)
def test_every_shipped_placement_fits_its_pipeline(path, monkeypatch):
    """The pipeline of the same name, or else the default one, on a machine with 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    own = ROOT / "pipelines" / path.name
    pipeline = config.load_pipeline(own if own.exists() else None)
    placement = config.load_placement(path, pipeline)
    placed = [name for worker in placement.workers for name in worker.stages]
    assert sorted(placed) == sorted(stage.name for stage in pipeline.stages)


def test_cores_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    with pytest.raises(ConfigError, match=r"wants cores \[1\]; this process may use \[0\]"):
        config.load_placement(ROOT / "configs/two-cores.yaml", config.load_pipeline(None))


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("[{stages: [detect]}]", "stage 'camera' has no worker"),
        ("[{stages: [detect, camera, embed, track, publish, spare]}]", "places stage 'spare'"),
        (
            "[{stages: [detect, camera, embed, track, publish, track]}]",
            "stage 'track' is placed 2 times",
        ),
        ("[{stages: [detect, camera, embed, track, publish], device: gpu}]", "matching regex"),
        (
            "[{stages: [detect, camera, embed, track, publish], cores: [4096]}]",
            "wants cores [4096]",
        ),
        (
            "[{stages: [detect, camera, embed, track]}, {stages: [publish], replicas: 2}]",
            "cannot have 2 replicas",
        ),
        (
            "[{stages: [detect, camera, embed, track, publish], replcias: 2}]",
            "unknown field `replcias`",
        ),
    ],
)
def test_a_faulty_placement_gets_one_line(workers, message, tmp_path):
    path = write(tmp_path, f"workers: {workers}")
    with pytest.raises(ConfigError) as caught:
        config.load_placement(path, config.default_pipeline())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_by_default_networks_that_wait_for_each_other_share_a_worker():
    placement = config.default_placement(config.default_pipeline(), machine=SMALL)
    assert [worker.stages for worker in placement.workers] == [
        ["detect", "embed"],
        ["camera", "track", "publish"],
    ]


def test_networks_that_wait_for_others_too_have_workers_of_their_own():
    stages = [
        config.StageSpec("detect", config.MaskRcnn()),
        config.StageSpec("near", config.Appearance(), after=["detect"]),
        config.StageSpec("far", config.Appearance(), after=["detect"]),
        config.StageSpec("both", config.Appearance(), after=["near", "far"]),
        config.StageSpec("last", config.Appearance(), after=["both"]),
    ]
    placement = config.default_placement(config.Pipeline(stages), 2, machine=SMALL)
    groups = [["detect", "near"], ["far"], ["both", "last"]]
    assert [worker.stages for worker in placement.workers] == groups
    assert len(group_stages(config.Pipeline(stages), placement)) == 3  # no cycle


def test_stages_that_a_network_lies_between_are_placed_apart():
    """Or the workers of `pipelines/actions.yaml` would wait for each other in a cycle."""
    pipeline = config.load_pipeline(ROOT / "pipelines/actions.yaml")
    placement = config.default_placement(pipeline, machine=SMALL)
    assert [worker.stages for worker in placement.workers] == [
        ["detect", "embed"],
        ["act"],
        ["camera", "track"],
        ["publish"],
    ]


def test_a_forecast_shares_the_worker_of_its_segmenter(tmp_path):
    beside = "{name: other, after: [segment], run: {kind: forecast, weights: [x]}}"
    path = write(tmp_path, f"stages: [{SEGMENT}, {FORECAST}, {beside}]")
    pipeline = config.load_pipeline(path)
    (worker,) = config.default_placement(pipeline, machine=SMALL).workers
    assert worker.stages == ["segment", "forecast", "other"]
    text = "workers: [{stages: [segment, other]}, {stages: [forecast], replicas: 2}]"
    one_stage_per_worker = tmp_path / "apart.yaml"
    one_stage_per_worker.write_text(text)
    message = r"'forecast' works on the features of 'segment'.*stages: \[segment, other, forecast\]"
    with pytest.raises(ConfigError, match=message):
        config.load_placement(one_stage_per_worker, pipeline)
    one_stage_per_worker.write_text(
        "workers: [{stages: [segment, other, forecast], replicas: 2, batch: 4}]"
    )
    assert config.load_placement(one_stage_per_worker, pipeline).workers[0].replicas == 2


def test_everything_has_its_workers_and_none_waits_in_a_cycle():
    pipeline = config.load_pipeline(ROOT / "pipelines/full.yaml")
    placement = config.default_placement(
        config.with_record(pipeline, config.Record()), machine=SMALL
    )
    assert [worker.stages for worker in placement.workers] == [
        ["detect", "embed"],
        ["segment", "forecast"],
        ["act"],
        ["camera", "track"],
        ["publish", "record"],
    ]
