"""Networks of equal weights and shapes are converted and compiled once in a process of tests."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from typing import Any

import msgspec
import pytest

MODULE = "streamvis.models.inference.openvino"
KEPT = 12  # compiled parts, of which a detector has three
KEPT_CONVERTED = 4  # dense parts of detectors


def share_compiled(patch: pytest.MonkeyPatch) -> None:
    """Let OpenVINO keep what it converted and compiled last, if anything has imported it so far.

    Tests make hundreds of detectors and embedders of a few networks. Each of them has an inference
    request of its own, so they share no results.
    """
    module = sys.modules.get(MODULE)
    if module is None or isinstance(module._compile, Shared):
        return
    convert, compiled_for = module._convert, Shared(module._compile_for, _facts_of_network)
    patch.setattr(module, "_compile", Shared(module._compile, _facts_of_part))
    patch.setattr(module, "_convert", Converted(convert, module._DenseGraph))
    patch.setattr(module, "_compile_for", compiled_for)


class Kept:
    """The results of a function that were used last."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._results: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        result = self._results.pop(key) if key in self._results else make()
        self._results[key] = result
        if len(self._results) > self.most:
            self._results.popitem(last=False)
        return result


class Shared:
    """A function that compiles a network, and what it compiled last; `facts`: of its arguments."""

    def __init__(self, compiled: Any, facts: Callable[..., Hashable | None]) -> None:
        self.compiled = compiled
        self.facts = facts
        self.kept = Kept(KEPT)

    def __call__(self, core: Any, what: Any, *how: Any, **options: Any) -> Any:
        key = self.facts(what, *how, **options)
        if key is None:
            return self.compiled(core, what, *how, **options)
        made = []

        def compiled() -> Any:
            own = what.model.clone() if isinstance(what, DenseNetwork) else what
            made.append(self.compiled(core, own, *how, **options))
            return made[0].get_compiled_model()

        network = self.kept.get((id(core), key), compiled)
        return made[0] if made else network.create_infer_request()


class DenseNetwork:
    """The converted dense part of a detector, and what tells it from others."""

    def __init__(self, key: Hashable, model: Any) -> None:
        self.key = key
        self.model = model

    def clone(self) -> "DenseNetwork":
        return self  # it is cloned where it is compiled


class Converted:
    """The function that converts a part, and the dense parts of detectors that it converted last.

    Those are cloned for each size, which leaves them as they are; others are changed.
    """

    def __init__(self, convert: Any, dense: type) -> None:
        self.convert = convert
        self.dense = dense
        self.kept = Kept(KEPT_CONVERTED)

    def __call__(self, part: Any, examples: Any) -> Any:
        if not isinstance(part, self.dense):
            return self.convert(part, examples)
        key = _facts_of_part(part, examples)
        model = self.kept.get(key, lambda: self.convert(part, examples))
        return DenseNetwork(key, model)


def _facts_of_part(part: Any, example: Any, types: Any = (), free: bool = False) -> Hashable:
    examples = example if isinstance(example, tuple) else (example,)
    shapes = tuple((tuple(x.shape), x.dtype) for x in examples)
    return tuple(_facts(part)), shapes, tuple(types), free


def _facts_of_network(network: Any, shapes: Any, types: Any) -> Hashable | None:
    if not isinstance(network, DenseNetwork):
        return None  # `_compile` shares it
    return network.key, tuple(map(tuple, shapes)), tuple(types)


def _facts(part: Any) -> Iterator[object]:
    """Yield what tells one network from another: modules, their settings, sums of their weights."""
    for name, module in part.named_modules():
        yield name, type(module)
        for key, value in vars(module).items():
            simple = isinstance(value, bool | int | float | str | tuple | msgspec.Struct)
            if not key.startswith("_") and simple:
                yield key, repr(value)
    for name, value in chain(part.named_parameters(), part.named_buffers()):
        numbers = value.detach().float().flatten()
        yield name, tuple(value.shape), value.dtype, float(numbers.sum()), float(numbers.norm())
