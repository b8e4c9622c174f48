import pytest

from streamvis.config import (
    Appearance,
    CameraMotion,
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    Record,
    StageSpec,
    WorkerSpec,
    inputs_of,
)
from streamvis.errors import ConfigError
from streamvis.runtime.plan import group_stages, one_stage_per_worker

PIPELINE = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn()),
        StageSpec("other", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track", "other"]),
        StageSpec("record", Record(), after=["track"]),
    ]
)


def grouped(*groups):
    return group_stages(PIPELINE, Placement(workers=[WorkerSpec(list(group)) for group in groups]))


@pytest.mark.parametrize(
    ("stage", "inputs"),
    [
        ("detect", ()),
        ("track", ("detect",)),
        ("publish", ("track",)),
        ("record", ("detect", "track")),  # from further up too; never from 'other'
    ],
)
def test_a_stage_gets_the_parts_that_it_reads_from_the_stages_above_it(stage, inputs):
    assert inputs_of(PIPELINE, stage) == inputs


def test_a_stage_gets_optional_parts_too():
    stages = [
        StageSpec("detect", MaskRcnn()),
        StageSpec("camera", CameraMotion()),
        StageSpec("embed", Appearance(), after=["detect"]),
        StageSpec("aside", Jipda(), after=["detect"]),
        StageSpec("track", Jipda(), after=["embed", "camera"]),
    ]
    pipeline = Pipeline(stages)
    assert inputs_of(pipeline, "aside") == ("detect",)
    assert inputs_of(pipeline, "track") == ("detect", "camera", "embed")
    groups = group_stages(
        pipeline,
        Placement([WorkerSpec(["detect", "embed"]), WorkerSpec(["aside", "camera", "track"])]),
    )
    assert groups[1].inputs == ("detect", "embed")


def test_groups_are_joined_where_their_stages_are():
    groups = grouped(["publish", "record"], ["track"], ["other"], ["detect"])
    named = {group.name: group for group in groups}
    detect, other, track = named["detect"], named["other"], named["track"]
    sinks = named["publish+record"]
    assert detect.parents == other.parents == ()
    assert track.parents == (detect.index,)
    assert sinks.parents == tuple(sorted((other.index, track.index)))
    assert sinks.inputs == ("detect", "track")
    assert sinks.stateful == ("publish", "record")
    assert set(detect.children) == {track.index}


def test_parts_made_in_the_group_are_not_sent_to_it():
    (group, other) = sorted(
        grouped(["detect", "track", "publish", "record"], ["other"]), key=lambda g: -len(g.names)
    )
    assert group.inputs == ()
    assert group.parents == (other.index,)


def test_parents_come_before_their_children():
    for group in grouped(["record"], ["publish"], ["track"], ["other"], ["detect"]):
        assert all(parent < group.index for parent in group.parents)


def test_groups_that_wait_for_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"cycle: \[detect, publish\], \[track\]"):
        grouped(["detect", "publish"], ["track"], ["other"], ["record"])


def test_one_stage_per_worker_gives_each_stage_its_own():
    names = [group.names for group in group_stages(PIPELINE, one_stage_per_worker(PIPELINE))]
    assert sorted(names) == sorted((stage.name,) for stage in PIPELINE.stages)
