"""A pipeline that is wired correctly loads; any other gets one line that names the fault."""

from pathlib import Path

import msgspec
import pytest

from streamvis import config
from streamvis.errors import ConfigError, UsageError

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "p.yaml"
    path.write_text(text)
    return path


DETECT = "{name: detect, run: {kind: mask_rcnn}}"


TRACK = "{name: track, after: [detect], run: {kind: jipda}}"


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_pipeline_loads(path):
    assert config.load_pipeline(path).stages


def test_the_default_pipeline_is_the_one_in_pipelines_people():
    assert config.load_pipeline(ROOT / "pipelines/people.yaml") == config.default_pipeline()
    assert config.load_pipeline(None) == config.default_pipeline()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping at the top, found nothing"),
        ("stages: []", "length >= 1"),
        ("stages: [", "is not YAML"),
        ("stages: [{name: UPPER, run: {kind: jipda}}]", "matching regex"),
        (
            "stages: [{name: a, run: {kind: nonsense}}]",
            "'a' has kind 'nonsense', which neither",
        ),
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
            "wait for each other in a cycle",
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
def test_a_faulty_region_is_named_with_its_path(settings, message, tmp_path):
    path = write(tmp_path, f"stages: [{{name: detect, run: {{kind: mask_rcnn, {settings}}}}}]")
    with pytest.raises(ConfigError) as caught:
        config.load_pipeline(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tiles_and_region_can_be_set_from_the_command_line():
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
    assert run.region == ([(0, 0.5), (1, 0.5), (1, 1), (0, 1)],)
    assert "detections" in config.to_text(pipeline)


EMBED = "{name: embed, after: [detect], run: {kind: appearance}}"


CAMERA = "{name: camera, run: {kind: camera_motion}}"


@pytest.mark.parametrize("mode", ["jipda_embed", "gnn_embed"])
def test_a_tracker_that_uses_appearance_needs_embeddings(mode, tmp_path):
    def loaded(stages: str, after: str):
        track = f"{{name: track, after: [{after}], run: {{kind: jipda, mode: {mode}}}}}"
        return config.load_pipeline(write(tmp_path, f"stages: [{stages}, {track}]"))

    assert loaded(f"{DETECT}, {EMBED}", "embed").stage("track").run.mode == mode
    for stages, after in ((DETECT, "detect"), (f"{DETECT}, {EMBED}", "detect")):
        with pytest.raises(ConfigError) as caught:
            loaded(stages, after)
        assert f"'track' has mode {mode}" in str(caught.value)
        assert EMBED in str(caught.value)


def test_a_moving_camera_must_be_measured(tmp_path):
    track = "{name: track, after: [detect], run: {kind: jipda, camera: moving}}"
    with pytest.raises(ConfigError) as caught:
        config.load_pipeline(write(tmp_path, f"stages: [{DETECT}, {track}]"))
    assert CAMERA in str(caught.value)
    track = track.replace("after: [detect]", "after: [detect, camera]")
    assert config.load_pipeline(write(tmp_path, f"stages: [{DETECT}, {CAMERA}, {track}]"))


def test_embeddings_and_camera_motion_are_optional(tmp_path):
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


def settings_of(pipeline):
    """Yield the pipeline with one setting of one stage changed, and which."""
    for place, stage in enumerate(pipeline.stages):
        for name in stage.run.__struct_fields__:
            value = getattr(stage.run, name)
            if isinstance(value, bool):
                changed = not value
            elif isinstance(value, int | float):
                changed = value * 0.99 if isinstance(value, float) and value else value + 1
            else:
                continue
            run = msgspec.structs.replace(stage.run, **{name: changed})
            stages = list(pipeline.stages)
            stages[place] = msgspec.structs.replace(stage, run=run)
            yield f"{stage.name}.{name}", config.Pipeline(stages)


def test_every_changed_setting_gives_another_hash():
    full = config.load_pipeline(ROOT / "pipelines/full.yaml")
    hashes = {name: changed.hash for name, changed in settings_of(full)}
    assert len(hashes) > 15
    assert len({*hashes.values(), full.hash}) == len(hashes) + 1


def test_a_pipeline_made_in_python_has_the_hash_that_it_has_in_a_file(tmp_path):
    seconds = config.Jipda(memory_s=2, remember_s=0)
    made = config.Pipeline(
        [
            config.StageSpec("detect", config.MaskRcnn(), every_s=0),
            config.StageSpec("track", seconds, after=["detect"]),
        ]
    )
    track = "{name: track, after: [detect], run: {kind: jipda, memory_s: 2, remember_s: 0.0}}"
    assert made.hash == config.load_pipeline(write(tmp_path, f"stages: [{DETECT}, {track}]")).hash


def test_a_value_that_no_file_may_have_has_no_hash():
    wrong = config.Pipeline([config.StageSpec("detect", config.MaskRcnn(min_score=2))])
    with pytest.raises(ConfigError, match=r"stage 'detect'.*<= 1"):
        wrong.hash  # noqa: B018


@pytest.mark.parametrize("key", ["nobody.min_score", "detect", "min_score"])
def test_a_setting_for_an_unknown_stage_lists_the_stages(key):
    stages = "detect, camera, embed, track, publish"
    with pytest.raises(UsageError) as refused:
        config.load_pipeline(None, {key: "1"})
    assert stages in str(refused.value).replace("'", "")


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
            r"has scope people, but no stage above it tracks people; add .*jipda.*frame",
        ),
        ("{kind: off, scope: both}", "has scope both, but no stage above it tracks people"),
        ("{kind: off, begin: 0.4, end: 0.6}", "`end` is 0.6, above `begin`, 0.4"),
        ("{kind: off, people: 0}", ">= 1"),
    ],
)
def test_an_action_stage_without_its_inputs_says_what_to_add(act, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        config.load_pipeline(write(tmp_path, f"stages: [{{name: act, run: {act}}}]"))


def test_recording_draws_actions_where_there_are_any():
    pipeline = config.load_pipeline(ROOT / "pipelines/actions.yaml")
    whole = config.with_record(pipeline, config.Record())
    assert "act" in whole.stage("record").after
    assert "act" in config.inputs_of(whole, "record")


SEGMENT = "{name: segment, run: {kind: segment}}"


FORECAST = "{name: forecast, after: [segment], run: {kind: forecast}}"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("{name: forecast, run: {kind: forecast}}", "reads Segmentation, but nothing above it"),
        (
            f"{SEGMENT}, {{name: camera, after: [segment], run: {{kind: camera_motion}}}}, "
            "{name: forecast, after: [camera], run: {kind: forecast}}",
            "stage 'forecast' works on the features of a stage of kind 'segment'; name that one",
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
def test_a_zone_without_area_or_classes_is_refused(zones, message, tmp_path):
    forecast = f"{{name: f, after: [segment], run: {{kind: forecast, zones: {zones}}}}}"
    with pytest.raises(ConfigError, match=message):
        config.load_pipeline(write(tmp_path, f"stages: [{SEGMENT}, {forecast}]"))
