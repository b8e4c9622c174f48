"""Whether a part of a network would make the host wait for a GPU, found out on the CPU."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

COPIES = ("aten.lift_fresh.", "aten._local_scalar_dense.", "aten._pin_memory.")


class SeenOperators(TorchDispatchMode):
    """Lists the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        to = (kwargs or {}).get("device") if func is torch.ops.aten._to_copy.default else None
        self.names.append(f"{func}" if to is None else f"{func} to a device")
        return func(*args, **(kwargs or {}))


def check_stays_on_device(part: Callable[[Tensor], tuple[Tensor, ...]], pixels: Tensor) -> None:
    """Assert that nothing depends on values, and that nothing is copied from the host."""
    with torch.inference_mode():
        shapes = [x.shape for x in part(pixels)]  # constants are made, as before a capture
        with SeenOperators() as seen:
            part(pixels)
        # reading a value of a fake tensor, or a shape that depends on one, raises
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            assert [x.shape for x in part(fake.from_tensor(pixels))] == shapes
    assert seen.names
    assert not [name for name in seen.names if name.startswith(COPIES) or "to a device" in name]
