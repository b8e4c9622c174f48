"""What is held out of a training: asked for by a recipe or by --hold-out, found in the data."""

from collections.abc import Iterable, Sequence

from rich.console import Console

from streamvis.errors import DataError

NOTHING = "none"  # what --hold-out calls it


def wanted(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names given by --hold-out, in place of the recipe's; None where none were given."""
    if not names:
        return None
    return tuple(name for name in names if name != NOTHING)


def present(names: Iterable[str], there: Iterable[str], what: str) -> tuple[str, ...]:
    """Those of the names that the data has; of each other one, a line on stderr.

    what: they are called, such as videos.
    """
    known = sorted(set(there) - {""})
    found = tuple(name for name in dict.fromkeys(names) if name in known)
    absent = [name for name in dict.fromkeys(names) if name not in known]
    if absent:
        listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
        Console(stderr=True).print(
            f"hold_out: not in the data and passed over: {', '.join(absent)}; "
            f"its {what}: {listed or 'none has a name'}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return found


def nothing_left(held: Iterable[str]) -> DataError:
    """The error when all that the data holds is held out."""
    return DataError(
        f"all that the data holds is held out: {', '.join(dict.fromkeys(held))}. Give more "
        "--data to learn from, or say what to hold out in place of the recipe's hold_out: "
        f"--hold-out NAME, repeatable, or --hold-out {NOTHING}"
    )
