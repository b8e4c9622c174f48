"""Sources that a training holds out, as its recipe or --hold-out asks for."""

from collections.abc import Iterable, Sequence

from rich.console import Console

from streamvis.errors import DataError

NOTHING = "none"  # --hold-out none: train on everything


def wanted(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names given by --hold-out, which replace the recipe's; None without any."""
    if not names:
        return None
    return tuple(name for name in names if name != NOTHING)


def present(names: Iterable[str], there: Iterable[str], what: str) -> tuple[str, ...]:
    """Return the names that the data has, and print a line on stderr about the others.

    what: the plural noun for the data's parts, such as videos.
    """
    known = sorted(set(there) - {""})
    found = tuple(name for name in dict.fromkeys(names) if name in known)
    absent = [name for name in dict.fromkeys(names) if name not in known]
    if absent:
        listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        Console(stderr=True).print(
            f"hold_out: {', '.join(absent)} not found in the data, ignored; "
            f"its {what}: {listed or 'none has a name'}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return found


def nothing_left(held: Iterable[str]) -> DataError:
    """Return the error for data that is held out completely."""
    return DataError(
        f"all of the data is held out: {', '.join(dict.fromkeys(held))}. Give more --data to "
        "train on, or replace the recipe's hold_out by --hold-out NAME, repeatable, or "
        f"--hold-out {NOTHING}"
    )
