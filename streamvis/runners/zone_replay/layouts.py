"""The zones files of a replay, by source of the log."""

from collections.abc import Sequence

from streamvis.config.zones import given_zones, read_zones
from streamvis.errors import UsageError
from streamvis.events.log import LogReader
from streamvis.parsing import alternatives
from streamvis.zone_layout import ZoneLayout


def layouts_of(
    log: LogReader, texts: Sequence[str], source: str | None = None
) -> dict[str, ZoneLayout]:
    """Return the zones of each source that has a file among the values of `--zones [ID=]FILE`.

    source: only of this one. Raises UsageError for a source that the log does not hold, and for two
    files of one, ConfigError for a file with errors.
    """
    there = log.sources()
    layouts: dict[str | None, ZoneLayout] = {}
    for one in given_zones(texts):
        if one.source in layouts:
            whose = "every source" if one.source is None else f"source '{one.source}'"
            raise UsageError(f"--zones names two files for {whose}; give it one")
        _check(one.source, there, log, "--zones")
        layouts[one.source] = read_zones(one.path)
    _check(source, there, log, "--source")
    chosen = there if source is None else [source]
    found = {name: layouts.get(name, layouts.get(None)) for name in chosen}
    return {name: layout for name, layout in found.items() if layout is not None}


def _check(source: str | None, there: Sequence[str], log: LogReader, option: str) -> None:
    if source is not None and source not in there:
        raise UsageError(
            f"{option} {source}: not in {log.path}, which holds {', '.join(there) or 'no source'}"
            f"{alternatives(source, there)}"
        )
