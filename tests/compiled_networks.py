"""Networks of equal weights and shapes are compiled once in a process of tests."""

import sys
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

MODULE = "streamvis.models.inference.openvino"
KEPT = 12  # compiled parts; a detector has three


def share_compiled(patch: pytest.MonkeyPatch) -> None:
    """Let OpenVINO keep what it compiled last, if anything has imported it so far.

    Tests make hundreds of detectors and embedders of a few networks. Each of them has an inference
    request of its own, so they share no results.
    """
    module = sys.modules.get(MODULE)
    if module is not None and not isinstance(module._compile, Shared):
        patch.setattr(module, "_compile", Shared(module._compile))


class Shared:
    """The function that compiles a part, and the parts that it compiled last."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.kept: OrderedDict[tuple[object, ...], Any] = OrderedDict()

    def __call__(self, core: Any, part: Any, example: Any, types: Any, free: bool = False) -> Any:
        examples = example if isinstance(example, tuple) else (example,)
        shapes = tuple((tuple(x.shape), x.dtype) for x in examples)
        key = (id(core), tuple(_facts(part)), shapes, tuple(types), free)
        if (network := self.kept.pop(key, None)) is None:
            request = self.compiled(core, part, example, types, free)
            network = request.get_compiled_model()
        else:
            request = network.create_infer_request()
        self.kept[key] = network
        if len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        return request


def _facts(part: Any) -> Iterator[object]:
    """Yield what tells one network from another: modules, their settings, sums of their weights."""
    for name, module in part.named_modules():
        yield name, type(module)
        for key, value in vars(module).items():
            if not key.startswith("_") and isinstance(value, bool | int | float | str | tuple):
                yield key, repr(value)
    for name, value in chain(part.named_parameters(), part.named_buffers()):
        numbers = value.detach().float().flatten()
        yield name, tuple(value.shape), value.dtype, float(numbers.sum()), float(numbers.norm())
