"""Where the stages of a pipeline would run on a machine without accelerators."""

import pytest
from msgspec.structs import replace

from streamvis import config
from streamvis.errors import DeviceError
from streamvis.models import weights
from streamvis.runners.placements import costs, devices_of, fallbacks, table


@pytest.fixture(autouse=True)
def only_a_cpu(monkeypatch):
    def check_device(device):
        if device != "cpu":
            raise DeviceError(f"{device} is not there")

    monkeypatch.setattr(weights, "check_device", check_device)


def placed(fallback):
    pipeline = config.default_pipeline()
    placement = config.default_placement(pipeline)
    workers = [
        replace(worker, device="cuda:0", fallback=fallback)
        if any(pipeline.stage(name).run.torch for name in worker.stages)
        else worker
        for worker in placement.workers
    ]
    return pipeline, replace(placement, workers=workers)


def test_networks_fall_back_and_the_rest_stays():
    pipeline, placement = placed("cpu")
    devices, error = devices_of(pipeline, placement)
    assert set(devices) == {"cpu"}
    assert error is None
    moved = [one for one in placement.workers if one.device != "cpu"]
    assert len(list(fallbacks(placement, devices))) == len(moved) > 0


def test_without_a_fallback_the_error_is_that_of_the_run():
    pipeline, placement = placed(None)
    devices, error = devices_of(pipeline, placement)
    assert None in devices
    assert str(error) == "cuda:0 is not there"
    rows = table(placement, devices).rows
    assert [row[1] == "cuda:0 (not here: refused)" for row in rows] == [d is None for d in devices]


@pytest.mark.parametrize(
    ("tiles", "expected"),
    [
        (1, []),
        (3, ["detect: tiles: 3 costs 10 looks a frame"]),
        ("auto", ["there on 1 to 5: 1 more"]),
    ],
)
def test_check_gives_the_cost_of_tiles(tiles, expected):
    pipeline = config.load_pipeline(None, {"detect.tiles": str(tiles)})
    lines = list(costs(pipeline))
    assert len(lines) == len(expected)
    assert all(text in line for text, line in zip(expected, lines, strict=True))
