"""Constants of the tracker, changed for a trial: `tracker.acceleration=0.3`, `identity.own=2`.

A constant is a field of `PARAMETERS` in a module of `streamvis.tracking`.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import msgspec

from streamvis import tracking
from streamvis.config import Jipda
from streamvis.errors import UsageError
from streamvis.parsing import alternatives, convert, yaml_value
from streamvis.runners.settings import configure

NAME = "PARAMETERS"


class TrialSetting(msgspec.Struct, frozen=True):
    """Settings and constants of the tracker as `key=value` texts; none: as it is."""

    pairs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(self.pairs) or "as it is"

    @property
    def config(self) -> Jipda:
        """The settings of the stage; UsageError for what is none."""
        return configure(Jipda, {}, [pair for pair in self.pairs if not _is_constant(pair)])

    @contextmanager
    def applied(self) -> Iterator[Jipda]:
        """Change the constants in this process until the block ends."""
        changed = _changed([pair for pair in self.pairs if _is_constant(pair)])
        config = self.config
        before = {name: getattr(module, NAME) for name, (module, _) in changed.items()}
        try:
            for module, parameters in changed.values():
                setattr(module, NAME, parameters)
            yield config
        finally:
            for name, (module, _) in changed.items():
                setattr(module, NAME, before[name])

    def check(self) -> None:
        """Raise UsageError for an unknown name or a value of the wrong type."""
        with self.applied():
            pass


def _is_constant(pair: str) -> bool:
    return "." in pair.partition("=")[0]


def _changed(pairs: Sequence[str]) -> dict[str, tuple[ModuleType, msgspec.Struct]]:
    """Return each module whose constants change, by name, with its new constants."""
    known = _modules() if pairs else {}
    new = {name: getattr(module, NAME) for name, module in known.items()}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        name, _, field = key.partition(".")
        if name not in new:
            raise UsageError(
                f"--set {pair}: no constants are called '{name}'{alternatives(name, known)}"
            )
        values = msgspec.to_builtins(new[name])
        if field not in values:
            raise UsageError(
                f"--set {pair}: {name} has no constant '{field}'{alternatives(field, values)}"
            )
        try:
            values[field] = yaml_value(text if equals else "")
        except ValueError:
            raise UsageError(f"--set {pair}: the value is not YAML") from None
        new[name] = convert(values, type(new[name]), f"--set {pair}", UsageError)
    touched = {pair.partition(".")[0] for pair in pairs}
    return {name: (known[name], new[name]) for name in sorted(touched)}


def _modules() -> dict[str, ModuleType]:
    found = {}
    for info in pkgutil.iter_modules(tracking.__path__):
        module = importlib.import_module(f"{tracking.__name__}.{info.name}")
        if isinstance(getattr(module, NAME, None), msgspec.Struct):
            found[info.name] = module
    return found


def settings_of(
    pairs: Sequence[str], candidates: Sequence[str], *, alone: bool
) -> list[TrialSetting]:
    """Return the settings to try: the tracker as it is, with these pairs, and each candidate's.

    Candidates are texts of pairs, apart by spaces, which are added to `pairs`. `alone`: leave out
    the tracker as it is, which is known already, unless there is nothing else.
    """
    found = [] if alone else [TrialSetting()]
    found += [TrialSetting(tuple(pairs))] if pairs or not (found or candidates) else []
    found += [TrialSetting((*pairs, *one.split())) for one in candidates]
    for setting in found:
        setting.check()
    names = [str(one) for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two settings to try are '{name}'; expected different ones")
    return found
