"""A scene of walking people, settings that make networks quick, and comparison of parts."""

from typing import Any

import numpy as np

from streamvis.synthetic.render import SyntheticScene

SCENE = SyntheticScene(seed=5, people=4, size=(320, 240), fps=5, seconds=3)
NETWORK: dict[str, Any] = {"engine": "torch", "precision": "fp32"}
DETECTOR: dict[str, Any] = {**NETWORK, "short_side": 240}


def quick_people(looks: str) -> dict[str, Any]:
    """Settings of the pipeline `people`: the same networks, and no feed."""
    detect = {f"detect.{name}": value for name, value in DETECTOR.items()}
    embed = {f"embed.{name}": value for name, value in {**NETWORK, "weights": looks}.items()}
    return {**detect, **embed, "publish.bind": None}


def assert_same(one: Any, other: Any) -> None:
    """The parts are the same, bit for bit."""
    assert type(one) is type(other)
    for name in one.__struct_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == b, name
