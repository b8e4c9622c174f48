"""Names of weights, and sizes of what networks return."""

import numpy as np
import pytest

from streamvis.errors import UsageError
from streamvis.models.inference.segmentation import SegmentedFrame
from streamvis.runners.scene_networks import (
    SegmentedPicture,
    published_unknown,
    sized,
    weight_names,
)


def test_weights_are_named_by_file_or_by_path_where_files_are_alike():
    assert weight_names(["street-seg", "runs/a/best.safetensors"]) == ["street-seg", "best"]
    assert weight_names(["forecast-0.6", "b/near-0.2.safetensors"]) == ["forecast-0.6", "near-0.2"]
    paths = ["a/best.safetensors", "b/best.safetensors"]
    assert weight_names(paths) == paths
    with pytest.raises(UsageError, match="--weights a --weights a: one is given twice"):
        weight_names(["a", "a"])


def test_classes_grow_without_new_ones():
    classes = np.array([[0, 7], [3, 0]], np.uint8)
    large = sized(classes, (6, 4))
    assert large.shape == (6, 4)
    assert set(np.unique(large)) == {0, 3, 7}
    np.testing.assert_array_equal(large[::3, ::2], classes)
    assert sized(classes, (2, 2)) is classes


def test_the_published_map_is_a_probability_at_the_pictures_size():
    eight_bits = np.array([[0, 255], [0, 255]], np.uint8)
    picture = SegmentedPicture(SegmentedFrame(None, np.zeros((2, 2), np.uint8), eight_bits), (8, 8))
    unknown = published_unknown(picture)
    assert unknown.shape == (8, 8)
    assert (unknown.min(), unknown.max()) == (0, 1)
    assert (np.diff(unknown, axis=1) >= 0).all()
