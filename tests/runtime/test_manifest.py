"""What can be resumed: the same recordings, by content, with the same settings and pipeline."""

from msgspec.structs import replace

from streamvis.config import CameraMotion, MaskRcnn, Pipeline, StageSpec
from streamvis.runtime.manifest import difference, manifest_of, read, write
from streamvis.sources import resolve

PIPELINE = Pipeline(stages=[StageSpec("camera", CameraMotion())])


def manifest(source):
    return manifest_of(PIPELINE, resolve([str(source)]), "epoch")


def test_another_recording_under_the_same_name_is_another_run(tmp_path):
    path = tmp_path / "gate.mp4"
    path.write_text("monday")
    before = manifest(path)
    assert not difference(before, manifest(path))
    path.write_text("tuesday")
    text = difference(before, manifest(path))
    assert text.startswith(
        f"source 'gate' was {path} with content {before.sources[0].content[:12]}"
    )


def test_a_recording_that_was_moved_is_the_same(tmp_path):
    path = tmp_path / "gate.mp4"
    path.write_text("monday")
    before = manifest(path)
    (tmp_path / "archive").mkdir()
    moved = path.rename(tmp_path / "archive" / "gate.mp4")
    assert not difference(before, manifest(moved))


def test_settings_count_and_options_of_urls_are_kept_out(tmp_path):
    path = tmp_path / "gate.mp4"
    path.write_text("monday")
    (spec,) = resolve([str(path)])
    before = manifest_of(PIPELINE, [spec], "epoch")
    for changes in ({"fps": 7.0}, {"ground_plane": (1.0,) * 9}, {"start": "container"}):
        after = manifest_of(PIPELINE, [replace(spec, **changes)], "epoch")
        assert "settings" in difference(before, after)
    assert not difference(before, manifest_of(PIPELINE, [replace(spec, read_s=1.0)], "epoch"))
    (url,) = resolve(["rtsp://host/main"])
    secret = manifest_of(PIPELINE, [replace(url, options={"user": "secret"})], "epoch")
    assert "secret" not in str(secret)


def test_the_difference_to_a_stored_pipeline_is_the_setting_that_changed(tmp_path):
    """Stages with tuples too, which are lists in the file."""
    specs = resolve(["synthetic:walkers?seconds=1"])
    region = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    first, second, third = (
        manifest_of(Pipeline(stages=[StageSpec("detect", run)]), specs, "epoch")
        for run in (
            MaskRcnn(min_score=0.2),
            MaskRcnn(min_score=0.3),
            MaskRcnn(min_score=0.2, region=(region,)),
        )
    )
    write(first, tmp_path)
    stored = read(tmp_path)
    assert not difference(stored, first)
    assert difference(stored, second) == "detect.min_score was 0.2, is 0.3"
    assert difference(stored, third).startswith("detect.region was [], is [[[0.0, 0.0], [1.0")


def test_another_shard_is_another_run_also_with_the_same_sources(tmp_path):
    specs = resolve(["synthetic:walkers?seconds=1"])
    before, after = (manifest_of(PIPELINE, specs, "epoch", shard) for shard in ("1/2", "1/3"))
    write(before, tmp_path)
    assert not difference(read(tmp_path), before)
    assert difference(read(tmp_path), after) == "it has shard 1/2 of the sources, not 1/3"
