"""The operations on zones and lines: those of a run are listed and set, a zones file is made."""

from typing import Annotated

import msgspec
from msgspec import Meta

from streamvis.config.zones import zones_text
from streamvis.errors import RunError
from streamvis.runtime.control import LONGEST_REQUEST
from streamvis.runtime.control_zones import (
    ChangeZones,
    ListZones,
    SourceZones,
    ZoneList,
    ZonesChanged,
)
from streamvis.web.operations import Answered, Call, Operation, source_of
from streamvis.web.run_folder import RunFolder
from streamvis.zone_layout import ZoneLayout

ROOM = 4096  # bytes of a request to the run, beside the layout
LONGEST_LAYOUT = LONGEST_REQUEST - ROOM  # bytes


class RunZones(msgspec.Struct, frozen=True, kw_only=True):
    """The zones and lines of all sources that have not ended."""

    sources: list[SourceZones]


class ZonesCondition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which zones may be replaced."""

    revision: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")] = ""  # of the zones that are
    # replaced, as they were listed: status 412 when others are in force, or the zones file was
    # edited; absent: whatever is there is replaced


class ZonesFile(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a zones file."""

    text: str  # YAML, for `run --zones`


class ZoneOperations:
    """The operations on the zones of one run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def zones(self, call: Call) -> Answered:
        """Return the zones and lines of the sources, and where they are from."""
        reply = self._folder.ask(ListZones())
        sources = reply.sources if isinstance(reply, ZoneList) else []
        return Answered(value=RunZones(sources=sources))

    def set_zones(self, call: Call) -> Answered:
        """Give a source other zones and lines from its next frame on, and write its zones file."""
        reply = self._folder.ask(ChangeZones(source_of(call), call.body, call.query.revision))
        if not isinstance(reply, ZonesChanged):
            raise RunError("the run sent another answer than that to a change of zones")
        return Answered(value=reply)

    def zones_file(self, call: Call) -> Answered:
        """Check zones and lines, and return them as a zones file; nothing is changed or written."""
        return Answered(value=ZonesFile(text=zones_text(call.body)))

    def table(self) -> tuple[Operation, ...]:
        """List the operations."""
        return (
            Operation(
                method="GET",
                path="/api/zones",
                call=self.zones,
                shared=True,
                answer=RunZones,
                statuses=(409, 503),
            ),
            Operation(
                method="PUT",
                path="/api/zones/{source}",
                call=self.set_zones,
                query=ZonesCondition,
                body=ZoneLayout,
                longest=LONGEST_LAYOUT,
                answer=ZonesChanged,
                statuses=(400, 404, 409, 412, 413, 415, 503),
            ),
            Operation(
                method="POST",
                path="/api/zones-file",
                call=self.zones_file,
                body=ZoneLayout,
                longest=LONGEST_LAYOUT,
                answer=ZonesFile,
                statuses=(400, 413, 415),
            ),
        )
