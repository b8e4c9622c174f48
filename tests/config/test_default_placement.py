"""The default placement: processes and threads by cores, sources and GPUs of a machine."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis import config
from streamvis.config import Machine, MaskRcnn, Pipeline, StageSpec
from streamvis.runtime.plan import group_stages

PIPELINES = {
    name: config.load_pipeline(Path(name)) for name in ("people", "actions", "forecast", "full")
}
PEOPLE = PIPELINES["people"]


def placed(pipeline=PEOPLE, runs=1, sources=None, live=False, **machine):
    return config.default_placement(
        pipeline, runs, sources=sources, live=live, machine=Machine(**machine)
    )


def networks(**given):
    """Processes and threads of the one chain of networks of `people`."""
    worker = placed(**given).workers[0]
    assert worker.stages == ["detect", "embed"]
    return worker.replicas, worker.threads


@pytest.mark.parametrize(
    ("cores", "file", "one_camera", "eight_cameras"),
    [
        (1, (1, 1), (1, 1), (1, 1)),
        (2, (2, 1), (1, 2), (2, 1)),
        (8, (8, 1), (1, 8), (8, 1)),
        (16, (8, 2), (1, 16), (8, 2)),
    ],
)
def test_networks_have_a_process_for_each_core_as_far_as_sources_allow(
    cores, file, one_camera, eight_cameras
):
    """Frames of a camera go to one process, which remembers the last look."""
    assert networks(cores=cores, sources=1) == file
    assert networks(cores=cores, sources=1, live=True) == one_camera
    assert networks(cores=cores, sources=8, live=True) == eight_cameras
    assert networks(cores=cores, live=True) == eight_cameras  # cameras that come and go


def test_runs_side_by_side_share_the_cores():
    assert networks(cores=8, runs=4, sources=1) == (2, 1)
    assert networks(cores=2, runs=2, sources=1) == (1, 1)


def test_little_memory_means_fewer_processes_of_more_threads():
    assert networks(cores=8, memory_mb=4000) == (2, 4)
    assert networks(cores=8, memory_mb=500) == (1, 8)


def test_with_many_cores_the_other_stages_have_several_processes_but_for_those_that_write():
    def light(**given):
        return [(w.stages, w.replicas) for w in placed(**given).workers[1:]]

    together = [(["camera", "track", "publish"], 1)]
    apart = [(["camera", "track"], 2), (["publish"], 1)]
    assert light(cores=8, sources=8, live=True) == together
    assert light(cores=16, sources=8, live=True) == apart
    assert light(cores=16, sources=1) == together  # they remember the source


def test_stages_without_a_network_take_frames_of_files_together_and_of_cameras_one_by_one():
    def most(**given):
        return [worker.batch for worker in placed(cores=2, sources=1, **given).workers]

    assert most() == [1, 4]
    assert most(live=True) == [1, 1]
    assert placed(cores=2, sources=1).slots >= 2 * 2 + 4  # and the networks have enough to do


def test_a_gpu_has_one_process_that_gathers_batches_without_waiting():
    placement = placed(cores=16, gpus=1, sources=32, live=True)
    first, second, third = placement.workers
    assert (first.device, first.replicas, first.batch) == ("cuda:0", 1, 8)
    assert (first.wait_ms, first.fallback) == (0, "cpu")
    assert (second.stages, second.replicas) == (["camera", "track"], 3)
    assert (third.stages, third.replicas) == (["publish"], 1)
    assert placed(cores=16, gpus=1, sources=1).slots >= 2 * 8  # a file fills two batches


def test_networks_are_spread_over_gpus_but_for_those_that_a_setting_keeps_on_the_cpu():
    devices = [w.device for w in placed(PIPELINES["full"], cores=8, gpus=2).workers[:3]]
    assert devices == ["cuda:0", "cuda:1", "cuda:0"]
    kept = Pipeline([StageSpec("detect", MaskRcnn(engine="openvino"))])
    (worker,) = placed(kept, cores=4, gpus=1).workers
    assert (worker.device, worker.replicas) == ("cpu", 4)


@given(
    st.sampled_from(sorted(PIPELINES)),
    st.integers(1, 256),
    st.integers(0, 8),
    st.integers(100, 1 << 20),
    st.one_of(st.none(), st.integers(1, 64)),
    st.integers(1, 8),
    st.booleans(),
)
def test_any_machine_has_a_placement_that_loads(name, cores, gpus, memory, sources, runs, live):
    pipeline = config.with_record(PIPELINES[name], config.Record())
    machine = Machine(cores=cores, gpus=gpus, memory_mb=memory)
    placement = config.default_placement(
        pipeline, runs, sources=sources, live=live, machine=machine
    )
    stages = [stage for worker in placement.workers for stage in worker.stages]
    assert sorted(stages) == sorted(stage.name for stage in pipeline.stages)
    assert len(group_stages(pipeline, placement, live=live)) == len(placement.workers)  # no cycle
    busy = [w for w in placement.workers if w.device == "cpu" and w.threads]
    threads = sum(w.replicas * (w.threads or 0) for w in busy)
    assert threads <= max(cores // runs, len(busy))
    assert 1 <= placement.slots <= 256
