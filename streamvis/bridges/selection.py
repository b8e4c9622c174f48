"""Which events of the log a bridge delivers."""

from collections.abc import Collection, Sequence

from streamvis.errors import UsageError

LIFECYCLE = {
    *("begin", "end", "merge", "split"),
    *("enter", "exit", "dwell", "crowded", "clear", "cross", "revise", "layout"),
}


def is_lifecycle(type: str) -> bool:
    """Whether something happened: begins, ends, crossings, corrections, and those of sources."""
    family, _, name = type.partition(".")
    return name in LIFECYCLE or family in ("source", "sys")


class TypeFilter:
    """Selects events by type or family; without any, lifecycle events, or all."""

    def __init__(self, types: Sequence[str], known: Collection[str], *, all_: bool = False) -> None:
        """UsageError for a name that is neither a type nor a family of `known`."""
        self._types = frozenset(types)
        self._all = all_ and not types
        families = {one.partition(".")[0] for one in known}
        for name in types:
            if name not in families and name not in known:
                raise UsageError(
                    f"--type {name}: no such type or family of events; expected one of "
                    f"{', '.join(sorted(families))}, or a type such as track.begin"
                )

    def __contains__(self, type: str) -> bool:
        if self._types:
            return type in self._types or type.partition(".")[0] in self._types
        return self._all or is_lifecycle(type)
