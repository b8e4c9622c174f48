"""Files that hold together load; each of the others gets one line that names the fault."""

from pathlib import Path

import pytest

from streamvis import config
from streamvis.errors import ConfigError, UsageError
from streamvis.runtime.plan import fold

ROOT = Path(__file__).parents[1]


def write(folder: Path, text: str) -> Path:
    path = folder / "p.yaml"
    path.write_text(text)
    return path


DETECT = "{name: detect, run: {kind: mask_rcnn}}"
TRACK = "{name: track, after: [detect], run: {kind: jipda}}"


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_pipeline_loads(path):
    assert config.load_pipeline(path).stages


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_placement_fits_its_pipeline_or_says_why(path):
    """The pipeline of the same name, or else the default one."""
    own = ROOT / "pipelines" / path.name
    pipeline = config.load_pipeline(own if own.exists() else None)
    try:
        placement = config.load_placement(path, pipeline)
    except ConfigError as error:
        assert "wants cores" in str(error)  # noqa: PT017 - a machine may have fewer cores
    else:
        assert placement.workers


def test_the_default_pipeline_is_the_one_in_pipelines_people():
    assert config.load_pipeline(ROOT / "pipelines/people.yaml") == config.default_pipeline()
    assert config.load_pipeline(None) == config.default_pipeline()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping at the top, found NoneType"),
        ("stages: []", "length >= 1"),
        ("stages: [", "is not YAML"),
        ("stages: [{name: UPPER, run: {kind: jipda}}]", "matching regex"),
        ("stages: [{name: a, run: {kind: nonsense}}]", "Invalid value 'nonsense'"),
        ("stages: [{name: a, run: {kind: mask_rcnn, min_scroe: 1}}]", "unknown field `min_scroe`"),
        ("stages: [{name: a, run: {kind: mask_rcnn, min_score: 7}}]", "<= 1"),
        (f"stages: [{DETECT}, {DETECT}]", "two stages are called 'detect'"),
        (f"stages: [{TRACK}]", "comes after 'detect', but there is no such stage. Allowed: none"),
        (
            "stages: [{name: track, run: {kind: jipda}}]",
            "stage 'track' reads Detections, but nothing above it writes them",
        ),
        (
            "stages: [{name: a, after: [b], run: {kind: mask_rcnn}},"
            " {name: b, after: [a], run: {kind: jipda}}]",
            "wait for each other in a circle",
        ),
        (
            f"stages: [{DETECT}, {{name: again, after: [detect], run: {{kind: mask_rcnn}}}}]",
            "has written them already",
        ),
    ],
)
def test_a_faulty_pipeline_gets_one_line(text, message, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load_pipeline(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("tiles: off", "Expected `int | str`, got `bool` - at `$.stages[0].run.tiles`"),
        ("tiles: 9", "<= 4 - at `$.stages[0].run.tiles`"),
        ("min_height: -1", ">= 0.0 - at `$.stages[0].run.min_height`"),
        ("region: [[0, 0], [0, 1], [1, 1]]", "length >= 3 - at `$.stages[0].run.region[0]`"),
        ("region: [[[0, 0], [1, 1]]]", "length >= 3 - at `$.stages[0].run.region[0]`"),
        ("region: [[[0, 0], [1, 1], [0, 540]]]", "<= 1.0 - at `$.stages[0].run.region[0][2][1]`"),
        ("region: [[[0, 0], [1, 1], [.nan, 1]]]", "- at `$.stages[0].run.region[0][2][0]`"),
        ("region: [[[0, 0], [1, 1], [1]]]", "length 2, got 1 - at `$.stages[0].run.region[0][2]`"),
        ("region: [[[0, 0], [0.1, 0.1], [0.7, 0.7]]]", "encloses no area; list its corners"),
        ("region: [[[0, 0], [1, 1], [1, 0], [0, 1]]]", "encloses no area; list its corners"),
    ],
)
def test_a_faulty_place_to_look_at_is_told_with_its_path(settings, message, tmp_path):
    path = write(tmp_path, f"stages: [{{name: detect, run: {{kind: mask_rcnn, {settings}}}}}]")
    with pytest.raises(ConfigError) as caught:
        config.load_pipeline(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_to_look_can_be_set_from_the_command_line():
    pipeline = config.load_pipeline(
        None,
        {
            "detect.tiles": "auto",
            "detect.region": "[[[0, 0.5], [1, 0.5], [1, 1], [0, 1]]]",
            "detect.min_height": "30",
        },
    )
    run = pipeline.stage("detect").run
    assert (run.tiles, run.min_height) == ("auto", 30)
    assert run.region == [[(0, 0.5), (1, 0.5), (1, 1), (0, 1)]]
    assert "detections" in config.to_text(pipeline)


EMBED = "{name: embed, after: [detect], run: {kind: appearance}}"
CAMERA = "{name: camera, run: {kind: camera_motion}}"


@pytest.mark.parametrize("mode", ["jipda_embed", "gnn_embed"])
def test_who_follows_by_looks_needs_a_stage_that_looks(mode, tmp_path):
    def loaded(stages: str, after: str):
        track = f"{{name: track, after: [{after}], run: {{kind: jipda, mode: {mode}}}}}"
        return config.load_pipeline(write(tmp_path, f"stages: [{stages}, {track}]"))

    assert loaded(f"{DETECT}, {EMBED}", "embed").stage("track").run.mode == mode
    for stages, after in ((DETECT, "detect"), (f"{DETECT}, {EMBED}", "detect")):
        with pytest.raises(ConfigError) as caught:
            loaded(stages, after)
        assert f"'track' has mode {mode}" in str(caught.value)
        assert EMBED in str(caught.value)


def test_a_camera_said_to_move_must_be_measured(tmp_path):
    track = "{name: track, after: [detect], run: {kind: jipda, camera: moving}}"
    with pytest.raises(ConfigError) as caught:
        config.load_pipeline(write(tmp_path, f"stages: [{DETECT}, {track}]"))
    assert CAMERA in str(caught.value)
    track = track.replace("after: [detect]", "after: [detect, camera]")
    assert config.load_pipeline(write(tmp_path, f"stages: [{DETECT}, {CAMERA}, {track}]"))


def test_looks_and_camera_motion_can_be_left_out(tmp_path):
    loaded = config.load_pipeline(write(tmp_path, f"stages: [{DETECT}, {TRACK}]"))
    assert config.to_text(loaded).endswith("detections -> tracks")
    track = "{name: track, after: [embed, camera], run: {kind: jipda}}"
    loaded = config.load_pipeline(
        write(tmp_path, f"stages: [{DETECT}, {EMBED}, {CAMERA}, {track}]")
    )
    assert config.to_text(loaded).endswith("detections, embeddings, motion -> tracks")


def test_a_missing_or_binary_file_gets_one_line(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        config.load_pipeline(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load_pipeline(tmp_path / "b.yaml")


def test_stages_may_be_written_in_any_order(tmp_path):
    loaded = config.load_pipeline(write(tmp_path, f"stages: [{TRACK}, {DETECT}]"))
    assert [stage.name for stage in loaded.stages] == ["detect", "track"]


def test_settings_override_and_change_the_hash(tmp_path):
    plain = config.load_pipeline(None)
    changed = config.load_pipeline(None, {"detect.min_score": "0.7", "track.every_s": "0.5"})
    assert changed.stage("detect").run.min_score == 0.7
    assert changed.stage("track").every_s == 0.5
    assert changed.hash != plain.hash == config.load_pipeline(None).hash


@pytest.mark.parametrize("key", ["nobody.min_score", "detect", "min_score"])
def test_a_setting_for_nobody_lists_the_stages(key):
    stages = "detect, camera, embed, track, publish"
    with pytest.raises(UsageError) as refused:
        config.load_pipeline(None, {key: "1"})
    assert stages in str(refused.value).replace("'", "")


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
    placement = config.default_placement(config.default_pipeline())
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
    placement = config.default_placement(config.Pipeline(stages), runs=2)
    groups = [["detect", "near"], ["far"], ["both", "last"]]
    assert [worker.stages for worker in placement.workers] == groups
    assert len(fold(config.Pipeline(stages), placement)) == 3  # nobody waits in a circle


def test_recording_joins_detections_and_tracks():
    recorded = config.with_record(config.default_pipeline(), config.Record())
    assert recorded.stage("record").after == ["detect", "track"]
    assert config.with_record(recorded, config.Record()) == recorded


def test_the_drawings_name_every_stage_and_part():
    pipeline = config.default_pipeline()
    track = "track    <- embed, camera: detections, embeddings, motion -> tracks"
    assert track in config.to_text(pipeline)
    dot = config.to_dot(pipeline)
    assert '"detect" -> "embed" [label="detections"]' in dot
    assert '"camera" -> "track" [label="motion"]' in dot
    assert '"frames" -> "detect" [label="pixels"]' in dot


ACT = "{name: act, run: {kind: off, scope: frame}}"


def test_actions_of_frames_need_pixels_alone_and_are_published_alone(tmp_path):
    publish = "{name: publish, after: [act], run: {kind: publish}}"
    pipeline = config.load_pipeline(write(tmp_path, f"stages: [{ACT}, {publish}]"))
    assert config.to_text(pipeline).splitlines()[0] == "act      <- frames: pixels -> actions"
    assert isinstance(pipeline.stage("act").run, config.OffActions)  # though YAML says: false


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            "{kind: off}",
            r"has scope people, but nothing above it follows people; add .*jipda.*frame",
        ),
        ("{kind: off, scope: both}", "has scope both, but nothing above it follows people"),
        ("{kind: off, begin: 0.4, end: 0.6}", "`end` is 0.6, above `begin`, 0.4"),
        ("{kind: off, people: 0}", ">= 1"),
    ],
)
def test_actions_that_cannot_be_told_say_what_to_add(act, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        config.load_pipeline(write(tmp_path, f"stages: [{{name: act, run: {act}}}]"))


def test_recording_draws_actions_where_there_are_any():
    pipeline = config.load_pipeline(ROOT / "pipelines/actions.yaml")
    whole = config.with_record(pipeline, config.Record())
    assert "act" in whole.stage("record").after
    assert "act" in config.inputs_of(whole, "record")


def test_stages_that_a_network_lies_between_are_placed_apart():
    """Or the workers of `pipelines/actions.yaml` would wait for each other in a circle."""
    pipeline = config.load_pipeline(ROOT / "pipelines/actions.yaml")
    placement = config.default_placement(pipeline)
    assert [worker.stages for worker in placement.workers] == [
        ["detect", "embed"],
        ["act"],
        ["camera", "track"],
        ["publish"],
    ]


SEGMENT = "{name: segment, run: {kind: segment}}"
FORECAST = "{name: forecast, after: [segment], run: {kind: forecast}}"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("{name: forecast, run: {kind: forecast}}", "reads Segmentation, but nothing above it"),
        (
            f"{SEGMENT}, {{name: camera, after: [segment], run: {{kind: camera_motion}}}}, "
            "{name: forecast, after: [camera], run: {kind: forecast}}",
            "stage 'forecast' works on the features of a stage of kind segment; name that one",
        ),
        (
            f"{SEGMENT}, {{name: f, after: [segment], run: {{kind: forecast, weights: []}}}}",
            "length >= 1",
        ),
    ],
)
def test_a_forecast_names_its_segmenter(stages, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        config.load_pipeline(write(tmp_path, f"stages: [{stages}]"))


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        ("[{name: a, polygon: [[0, 0], [1, 0], [1, 1]], min_area: 0.6}]", "zone 'a' encloses 0.5 "),
        ("[{name: a, polygon: [[0, 0], [1, 1], [0.5, 0.5]]}]", "encloses 0 of the picture"),
        ("[{name: a, polygon: [[0, 0], [1, 1]]}]", "length >= 3"),
        ("[{name: a, polygon: [[0, 0], [2, 0], [1, 1]]}]", "<= 1"),
        ("[{name: a, polygon: [[0, 0], [1, 0], [1, 1]], holds: []}]", "length >= 1"),
        (
            "[{name: a, polygon: [[0, 0], [1, 0], [1, 1]]},"
            " {name: a, polygon: [[0, 0], [0, 1], [1, 1]]}]",
            "two zones are called 'a'",
        ),
    ],
)
def test_a_zone_that_can_hold_nothing_is_told(zones, message, tmp_path):
    forecast = f"{{name: f, after: [segment], run: {{kind: forecast, zones: {zones}}}}}"
    with pytest.raises(ConfigError, match=message):
        config.load_pipeline(write(tmp_path, f"stages: [{SEGMENT}, {forecast}]"))


def test_a_forecast_shares_the_worker_of_its_segmenter(tmp_path):
    beside = "{name: other, after: [segment], run: {kind: forecast, weights: [x]}}"
    path = write(tmp_path, f"stages: [{SEGMENT}, {FORECAST}, {beside}]")
    pipeline = config.load_pipeline(path)
    (worker,) = config.default_placement(pipeline).workers
    assert worker.stages == ["segment", "forecast", "other"]
    text = "workers: [{stages: [segment, other]}, {stages: [forecast], replicas: 2}]"
    apart = tmp_path / "apart.yaml"
    apart.write_text(text)
    message = r"'forecast' works on the features of 'segment'.*stages: \[segment, other, forecast\]"
    with pytest.raises(ConfigError, match=message):
        config.load_placement(apart, pipeline)
    apart.write_text("workers: [{stages: [segment, other, forecast], replicas: 2, batch: 4}]")
    assert config.load_placement(apart, pipeline).workers[0].replicas == 2


def test_everything_has_its_workers_and_none_waits_in_a_circle():
    pipeline = config.load_pipeline(ROOT / "pipelines/full.yaml")
    placement = config.default_placement(config.with_record(pipeline, config.Record()))
    assert [worker.stages for worker in placement.workers] == [
        ["detect", "embed"],
        ["segment", "forecast"],
        ["act"],
        ["camera", "track"],
        ["publish", "record"],
    ]
