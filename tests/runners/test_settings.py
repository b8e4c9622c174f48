"""Settings of one stage, given as key=value."""

import pytest

from streamvis.config import MaskRcnn
from streamvis.errors import UsageError
from streamvis.runners.settings import configure, segmenter_configs


def test_settings_lie_over_the_fields():
    config = configure(
        MaskRcnn, {"weights": "a", "min_score": 0.01}, ["short_side=576", "masks=false"]
    )
    assert (config.weights, config.min_score, config.short_side, config.masks) == (
        "a",
        0.01,
        576,
        False,
    )


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("short_side", "expected key=value"),
        ("shortside=5", "did you mean short_side"),
        ("short_side=5", "short_side"),
        ("min_score=[", "not YAML"),
        ("precision=fp8", "fp8"),
    ],
)
def test_settings_that_do_not_add_up_are_refused(pair, message):
    with pytest.raises(UsageError, match=message):
        configure(MaskRcnn, {}, [pair])


def test_segmenters_are_all_set_alike():
    first, second = segmenter_configs(["a", "b"], ["lines=96"])
    assert (first.weights, second.weights) == ("a", "b")
    assert first.lines == second.lines == 96
