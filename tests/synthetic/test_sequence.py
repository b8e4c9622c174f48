import numpy as np
import pytest

from streamvis.sources import open_source, resolve
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence


@pytest.mark.parametrize("images", [False, True], ids=["video", "images"])
@pytest.mark.parametrize("size", [(160, 120), (161, 119)], ids=["even", "odd"])
def test_a_written_scene_reads_back(tmp_path, images, size):
    scene = SyntheticScene(seed=2, people=5, size=size, fps=7, seconds=2)
    folder = write_sequence(tmp_path / "S-02", scene, images=images)
    (spec,) = resolve([str(folder)])
    source = open_source(spec)
    pictures = list(source)
    source.close()
    assert (source.info.id, source.info.fps, source.info.frames) == ("s-02", 7.0, 14)
    np.testing.assert_allclose(source.info.ground_plane, scene.homography)
    for n, picture in enumerate(pictures):
        assert np.abs(picture.pixels.astype(int) - scene.picture(n)).mean() < 8
    assert [p.media_us for p in pictures] == [round(n * 1e6 / 7) for n in range(14)]


def test_the_ground_truth_is_that_of_the_scene(tmp_path):
    scene = SyntheticScene(seed=2, people=5, size=(160, 120), fps=7, seconds=2)
    folder = write_sequence(tmp_path / "s", scene)
    rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", ndmin=2)
    for n in range(scene.frames):
        truth = scene.truth(n)
        found = rows[rows[:, 0] == n + 1]
        np.testing.assert_array_equal(found[:, 1], truth.ids)
        np.testing.assert_allclose(found[:, 2:4], truth.boxes[:, :2])
        np.testing.assert_allclose(found[:, 2:4] + found[:, 4:6], truth.boxes[:, 2:])
        np.testing.assert_array_equal(found[:, 6], truth.visibility >= 0.1)
        np.testing.assert_allclose(found[:, 7:9], truth.ground, atol=1e-4)
    assert rows[:, 0].max() == scene.frames
