"""The zones stage: a machine for each source."""

from collections.abc import Iterator, Sequence

import msgspec

from streamvis.errors import ConfigError
from streamvis.messages import (
    Ending,
    Forecast,
    Frame,
    LineGauges,
    Notice,
    Packet,
    SourceGauges,
    SourceInfo,
    Tracks,
    ZoneGauges,
)
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import StatefulStage
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import ZoneLayoutSet
from streamvis.stages.zones.machine import ZoneMachine
from streamvis.stages.zones.observed import Observed, observe
from streamvis.stages.zones.occupancy import ReportSettings
from streamvis.stages.zones.part import Zones
from streamvis.zone_layout import ZoneLayout


class _StoredZones(msgspec.Struct, array_like=True):
    machine: bytes
    waiting: ZoneLayout | None
    restarting: bool
    newest: int


class SourceZones:
    """The zones of one source, over its stream epochs and changes of the layout."""

    def __init__(self, config: ZoneCounter, source: SourceInfo) -> None:
        settings = ReportSettings(
            update_us=round(config.update_s * 1e6),
            horizons_us=tuple(sorted({round(one * 1e6) for one in config.horizons_s})),
        )
        self.waiting: ZoneLayout | None = config.layout_of(source)  # to be set with the next frame
        self.restarting = True
        self.newest = 0  # highest track number in this stream epoch
        times = (round(config.keep_s * 1e6), round(config.absent_s * 1e6))
        self.machine = ZoneMachine(source.id, ZoneLayout(), settings, *times)

    def restart(self) -> None:
        """Begin another stream epoch with the next frame."""
        self.restarting = True

    def resize(self, width: int, height: int) -> None:
        """Nothing to do: the machine compares the size of each frame."""

    def state(self) -> bytes:
        """Return the machine, and what waits for the next frame."""
        own = self.machine.state()
        return _encoder.encode(_StoredZones(own, self.waiting, self.restarting, self.newest))

    def restore(self, state: bytes) -> None:
        """Continue from `state`; DecodeError or ValueError on anything else."""
        was = _decoder.decode(state)
        self.machine.restore(was.machine)
        self.waiting, self.restarting, self.newest = was.waiting, was.restarting, was.newest

    def gauges(self) -> SourceGauges:
        """Return the present numbers of all zones and lines."""
        machine = self.machine
        part = machine.part(machine.now_us)
        stays = (round(us / 1e6, 3) for us in part.longest_us.tolist())
        entries = (machine.report.entries[z] for z in machine.shapes.zones)
        numbers = (part.people.tolist(), part.mean.tolist(), part.p_occupied.tolist())
        zones = zip(part.zones, *numbers, stays, entries, strict=True)
        lines = zip(part.lines, part.in_total.tolist(), part.out_total.tolist(), strict=True)
        return SourceGauges(
            {name: ZoneGauges(*values) for name, *values in zones},
            {name: LineGauges(*values) for name, *values in lines},
        )

    def add(self, frame: Frame, tracks: Tracks | None, forecast: Forecast | None) -> Zones:
        """Take in a frame."""
        before = 0 if self.restarting else self.newest
        return self.take(observe(frame, tracks, forecast, before), frame.epoch)

    def take(self, observed: Observed, epoch: int) -> Zones:
        """Take in what was observed in a frame of a stream epoch.

        What was due before it comes first, so that the order does not depend on whether there were
        frames without tracks, which an event log does not have.
        """
        if self.restarting:
            self.machine.restart(epoch)
            self.restarting, self.newest = False, 0
        self.newest = max(self.newest, int(observed.ids.max(initial=0)))
        events = self.machine.pass_until(observed.media_us - 1)
        due = len(events)
        if self.waiting is not None:
            events += self.machine.set_layout(self.waiting, observed.media_us)
            events.append(ZoneLayoutSet(self.waiting))
            self.waiting = None
        events += self.machine.step(observed)
        return self.machine.part(observed.media_us, events, due)


class ZonesStage(StatefulStage):
    """Count the people of every source in its zones and over its lines."""

    def __init__(self, config: ZoneCounter) -> None:
        self.config = config
        self.sources: PerSource[SourceZones] = PerSource("zones")
        self._open: dict[str, SourceZones] = {}
        self._ended: dict[str, SourceGauges] = {}  # since gauges were last taken

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it; ConfigError for zones in metres without a ground plane."""
        layout = self.config.layout_of(source)
        if layout.needs_ground and source.ground_plane is None:
            spaces = {zone.name: zone.space for zone in layout.zones}
            spaces |= {line.name: line.space for line in layout.lines}
            name = next(name for name, space in spaces.items() if space == "ground")
            raise ConfigError(
                f"source {source.id}: '{name}' is given in metres (space: ground), but the source "
                "has no ground plane; calibrate one with `streamvis calibrate`, or give its "
                "corners as shares of the picture"
            )
        self._open[source.id] = zones = SourceZones(self.config, source)
        self.sources.begin(source, zones, state)

    def state(self, source: str) -> bytes:
        """Return the state of the source's machine."""
        return self.sources.state(source)

    def notice(self, notice: Notice) -> None:
        """Set other zones and lines with the next frame."""
        if notice.kind == "zones" and notice.zones is not None:
            self.sources[notice.source].waiting = notice.zones

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended, with nobody inside."""
        if (zones := self._open.pop(source, None)) is not None:
            zones.machine.restart(zones.machine.epoch)
            self._ended[source] = zones.gauges()
        self.sources.finish(source)

    def take_gauges(self) -> dict[str, SourceGauges]:
        """Return the present numbers by source, the last ones of a source that has ended once."""
        ended, self._ended = self._ended, {}
        return ended | {source: zones.gauges() for source, zones in self._open.items()}

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Zones]:
        for packet in packets:
            zones = self.sources.at(packet.frame)
            yield zones.add(packet.frame, packet.part(Tracks), packet.part(Forecast))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_StoredZones)
