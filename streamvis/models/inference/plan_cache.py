"""A least-recently-used cache of compiled networks, one for each input size."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Plan = TypeVar("Plan")

MOST_SIZES = 4  # input sizes for which a compiled network is kept


class PlanCache(Generic[Key, Plan]):
    """Keeps the compiled networks of the last `most` input sizes."""

    def __init__(self, most: int = MOST_SIZES) -> None:
        self.most = most
        self.plans: OrderedDict[Key, Plan] = OrderedDict()

    def get(self, key: Key, build: Callable[[], Plan]) -> Plan:
        """Return the plan of this size; build it if it is absent, and drop the oldest one."""
        if key not in self.plans:
            self.plans[key] = build()
            if len(self.plans) > self.most:
                self.plans.popitem(last=False)
        self.plans.move_to_end(key)
        return self.plans[key]
