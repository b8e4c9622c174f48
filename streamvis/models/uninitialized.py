"""Models without initial weights, since those of a file replace them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

RANDOM = (Tensor.normal_, Tensor.uniform_)  # where every function of `nn.init` draws its numbers


class Uninitialized(TorchFunctionMode):
    """Parameters of models that are built in this context keep the values of their memory.

    Random numbers for 20 million parameters take longer than reading them from a file; on the
    device "meta" they also import torch's compiler: a second, and 50 MB.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in RANDOM or getattr(func, "__module__", None) == init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
