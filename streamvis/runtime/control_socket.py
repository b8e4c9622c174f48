"""The control socket of a run, through which its user asks and changes it while it goes on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import msgspec

from streamvis.config import GivenZones, Pipeline, Site, check_zones, load_site, with_zones
from streamvis.errors import StreamvisError
from streamvis.logs import log
from streamvis.runtime.control import (
    Add,
    Changed,
    Decision,
    Origin,
    Refusal,
    Reload,
    Remove,
    Reply,
    SourcePicture,
    View,
    apply_file,
    decode_request,
    encode_reply,
    handle,
    late,
)
from streamvis.runtime.control_files import registered
from streamvis.runtime.control_zones import ZonesChanged, keep
from streamvis.sources.shard import ALL, Shard
from streamvis.sources.spec import SourceSpec
from streamvis.transport.sockets import Server

LONGEST_MESSAGE = 2**20  # bytes: above, libzmq ends the connection
QUEUED = 16  # messages that wait in each direction for each client
AT_ONCE = 16  # requests between two other works of the hub
MOST_WAITING = 16  # clients for the picture of a source; the oldest is forgotten for another one


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run that can be controlled says of itself, and the sources file that it follows."""

    pipeline: str = ""  # its name
    site: Site | None = None  # as read at the start of the run
    zones: tuple[GivenZones, ...] = ()  # zones files of the command line
    shard: Shard = ALL  # of the sources, which the run has


class Control:
    """The control socket of a run, and the sources file that it follows.

        poller.register(control.socket, zmq.POLLIN)
        for decision in control.decisions(view):
            specs.update(decision.specs)
            for fact in decision.facts:
                feed(fact)

    `load_file` reads the sources file; `listed` is what it held at the start of the run.
    """

    def __init__(
        self,
        endpoint: str,
        load_file: "Callable[[], Mapping[str, SourceSpec]] | None" = None,
        listed: Mapping[str, SourceSpec] | None = None,
        shard: Shard = ALL,
    ) -> None:
        self._server = Server(endpoint, LONGEST_MESSAGE, QUEUED)
        self.socket = self._server.socket
        self.shard = shard
        self.unreadable = 0
        self.origins: dict[str, Origin] = dict.fromkeys(listed or {}, "file")
        self._load_file = load_file
        self._reload_asked = False
        self._later: dict[str, SourceSpec] = {}
        self._listed = dict(listed or {})
        self._unkept: set[str] = set()  # sources whose zones were set, and that no file has
        # by source: clients, the oldest first, and how many pictures each waits for
        self._waiting: dict[str, dict[bytes, int]] = {}

    @property
    def refused(self) -> int:
        """The number of messages that were no requests."""
        return self._server.refused + self.unreadable

    @property
    def follows_file(self) -> bool:
        """Whether the run has a sources file."""
        return self._load_file is not None

    def ask_reload(self) -> None:
        """Have the sources file read again by the next `decisions`; signal-safe."""
        self._reload_asked = True

    def decisions(self, view: Callable[[], View]) -> Iterator[Decision]:
        """Yield what is to be done now; a reply is sent once its decision was carried out.

        The hub calls this when a request has come, and at least twice a second.
        """
        if self._reload_asked:
            self._reload_asked = False
            yield self._logged(self._reload(view()))
        if self._later:
            decision = late(self._later, view())
            for name in decision.specs:
                del self._later[name]
            yield decision
        yield from self._requests(view)

    def _requests(self, view: Callable[[], View]) -> Iterator[Decision]:
        for peer, frames in islice(self._server.receive(), AT_ONCE):
            request = decode_request(frames)
            if isinstance(request, Refusal):
                self.unreadable += 1
                self._reply(peer, request)
                continue
            now = msgspec.structs.replace(
                view(), origins=self.origins, unkept=self._unkept, shard=self.shard
            )
            decision = self._reload(now) if isinstance(request, Reload) else handle(request, now)
            if isinstance(decision.reply, ZonesChanged):
                decision = self._kept(decision, decision.reply)
            if isinstance(request, Add):
                self.origins.update(dict.fromkeys(decision.specs | decision.later, "added"))
            elif isinstance(request, Remove) and request.source in self._later:
                del self._later[request.source]  # it has yet to begin
                decision = Decision(Changed(removed=[request.source]))
            self._later.update(decision.later)
            if decision.picture_of is not None:
                self._wait(peer, decision.picture_of, decision.pictures)
            yield decision
            if decision.reply is not None:
                self._reply(peer, decision.reply)

    def _kept(self, decision: Decision, reply: ZonesChanged) -> Decision:
        """Write the zones file of a decision; where that fails, nothing changes."""
        if decision.keep is None:
            self._unkept.add(reply.source)
            return decision
        try:
            edited = keep(decision.keep)
        except OSError as error:
            return Decision(
                Refusal(
                    f"source '{reply.source}' keeps its zones: {reply.file} cannot be written: "
                    f"{error.strerror or error}"
                )
            )
        if edited:
            return Decision(
                Refusal(f"source '{reply.source}' keeps its zones: {edited}", newer=True)
            )
        return decision

    def _wait(self, peer: bytes, source: str, count: int) -> None:
        """Have the client wait for the next pictures of the source."""
        waiting = self._waiting.setdefault(source, {})
        waiting[peer] = max(waiting.get(peer, 0), count)
        while len(waiting) > MOST_WAITING:
            del waiting[next(iter(waiting))]

    def answer_picture(self, picture: SourcePicture) -> None:
        """Send a picture to all clients that wait for one of its source."""
        waiting = self._waiting.pop(picture.source, {})
        for peer in waiting:
            self._reply(peer, picture)
        if still := {peer: count - 1 for peer, count in waiting.items() if count > 1}:
            self._waiting[picture.source] = still

    def _reload(self, view: View) -> Decision:
        """Read the sources file again; a file with errors changes nothing."""
        if self._load_file is None:
            return handle(Reload(), view)
        try:
            now = self._load_file()
        except StreamvisError as error:
            return Decision(Refusal(str(error)))
        decision = apply_file(self._listed, now, view)
        if isinstance(decision.reply, Changed):
            self._listed = dict(now)
            self._later = dict(decision.later)
            self._unkept -= now.keys()
            self.origins.update(dict.fromkeys(now, "file"))
        return decision

    def _logged(self, decision: Decision) -> Decision:
        """Log what came of a signal, whose sender gets no reply."""
        if isinstance(decision.reply, Refusal):
            log("error", "sources file not applied", reason=decision.reply.message)
        else:
            log("info", "sources file applied", changes=str(decision.reply))
        return decision

    def close(self) -> None:
        self._server.close()

    def _reply(self, peer: bytes, reply: Reply) -> None:
        self._server.send(peer, [encode_reply(reply)])


@contextmanager
def controlled(
    settings: ControlSettings | None, out: Path | None, pipeline: Pipeline
) -> Iterator[Control | None]:
    """Open the control socket of a run, where clients find it; None without settings."""
    if settings is None:
        yield None
        return
    site, shard = settings.site, settings.shard
    with registered(out, settings.pipeline, site.path if site is not None else None) as run:
        endpoint = f"ipc://{run.socket}"
        if site is None:
            control = Control(endpoint, shard=shard)
        else:
            path = site.path.absolute()
            control = Control(
                endpoint,
                lambda: _by_id(
                    shard.among(_with_zones(load_site(path).specs(), settings.zones, pipeline))
                ),
                _by_id(shard.among(site.specs())),
                shard,
            )
        with closing(control):
            yield control


def _with_zones(
    specs: Sequence[SourceSpec], given: Sequence[GivenZones], pipeline: Pipeline
) -> list[SourceSpec]:
    """Return the sources of the file with the zones files of the command line, read again."""
    ids = {None, *(spec.id for spec in specs)}
    found = with_zones(specs, [one for one in given if one.source in ids])
    check_zones(pipeline, found)
    return found


def _by_id(specs: Sequence[SourceSpec]) -> dict[str, SourceSpec]:
    return {spec.id: spec for spec in specs}
