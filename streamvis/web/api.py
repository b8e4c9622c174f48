"""The operations of the HTTP API: each a function that takes a `Call` and returns an `Answered`.

They block, and are called in threads. They hold nothing: the log and the run are asked each time.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from streamvis.errors import DataError, RunError, StreamvisError, UsageError
from streamvis.events.log import Cursor
from streamvis.events.topics import SYSTEM
from streamvis.logs import redacted
from streamvis.runtime import health, prometheus
from streamvis.runtime.control import (
    Add,
    Changed,
    ListedSource,
    ListSources,
    Remove,
    Request,
    SourceList,
)
from streamvis.runtime.control_files import RunFile
from streamvis.runtime.metrics import Status, Summary
from streamvis.runtime.page_server import METRICS
from streamvis.runtime.resource_usage import disk_of, usages_of
from streamvis.sources.spec import SourceSpec, resolve
from streamvis.web.clips import Clips
from streamvis.web.event_pages import SOURCE, EventPage, EventQuery, page_of
from streamvis.web.guard import check_token
from streamvis.web.lane_query import LaneQuery, Timeline
from streamvis.web.lanes import LaneCounter
from streamvis.web.operations import Answered, Call, Operation, source_of
from streamvis.web.pictures import JPEG, PictureQuery, Pictures
from streamvis.web.problems import RefusedError, shown
from streamvis.web.recorded import RecordedPictures
from streamvis.web.resources import Resources, RunResources
from streamvis.web.run_folder import RunFolder
from streamvis.web.token import LONGEST, SESSION_S, Logins
from streamvis.web.zone_operations import ZoneOperations

SETTINGS = frozenset({"fps", "open_s", "read_s", "stall_s", "retry_s", "transport"})
SCHEMES = ("rtsp://", "rtsps://", "http://", "https://", "synthetic:")
Value = Annotated[str, Meta(max_length=256, pattern=r"^[A-Za-z0-9._+:-]*$")]


class RunOfFolder(msgspec.Struct, frozen=True, kw_only=True):
    """The run that is under way."""

    pid: int
    started: str  # ISO 8601, UTC
    pipeline: str


class LoggedSource(msgspec.Struct, frozen=True, kw_only=True):
    """What the log holds of a source."""

    id: str
    epoch: str  # id of the run
    oldest: int  # offset of the first event that is still there
    next: int  # offset of the next event
    ending: str  # eof, drained, failed; empty: the source is open


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the run, at most a second old, and of its log."""

    live: bool  # whether the run is under way
    run: RunOfFolder | None  # null: it is not
    status: Status | None  # null: it is not, or does not answer
    problem: str  # why there is no status of a run that is under way
    log: list[LoggedSource]  # by source


class RunSources(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of the run, those that have ended included; without a run those of the log."""

    live: bool  # whether the run is under way
    sources: list[ListedSource]


class NewSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source to add, or one to start again that has ended."""

    id: Annotated[str, Meta(pattern=SOURCE)]
    uri: Annotated[str, Meta(min_length=1, max_length=2048)]  # rtsp://, rtsps://, http://, https://
    # or synthetic:, with user and password where the camera wants them
    settings: dict[str, Value] = {}  # fps, open_s, read_s, stall_s, retry_s, transport


class LiveVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the hub of the run works."""

    live: bool
    reason: str  # why not


class ReadyVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether all workers are ready and at least one source is online."""

    ready: bool
    reasons: list[str]  # why not


class LoginRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token."""

    token: Annotated[str, Meta(max_length=LONGEST)]


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a token is needed, and for how long its cookie counts."""

    needs_token: bool
    expires_s: int


class Api:
    """The operations on one run."""

    def __init__(
        self,
        folder: RunFolder,
        logins: Logins | None = None,
        cookie: str = "",
        recorded: RecordedPictures | None = None,
    ) -> None:
        self._folder = folder
        self.clips = Clips(folder)
        self.pictures = Pictures(folder, recorded or RecordedPictures(folder))
        self._logins = logins
        self._cookie = cookie
        self.zones = ZoneOperations(folder)
        self.lanes = LaneCounter(folder)

    def status(self, call: Call) -> Answered:
        """Return the state of the run and of its log."""
        run, status, problem = self._folder.living(), None, ""
        if run is not None:
            try:
                status = self._folder.status()
            except StreamvisError as error:
                problem = str(error)
        return Answered(
            value=RunState(
                live=run is not None,
                run=_described(run),
                status=status,
                problem=problem,
                log=self._logged(),
            )
        )

    def sources(self, call: Call) -> Answered:
        """Return the sources."""
        if self._folder.living() is None:
            ended = [_ended(one) for one in self._logged()]
            return Answered(value=RunSources(live=False, sources=ended))
        reply = self._folder.ask(ListSources())
        sources = reply.sources if isinstance(reply, SourceList) else []
        return Answered(value=RunSources(live=True, sources=sources))

    def add_source(self, call: Call) -> Answered:
        """Add a source on the network, or a synthetic one; files are added by `sources add`."""
        return self._changed(Add(_spec_of(call.body)))

    def remove_source(self, call: Call) -> Answered:
        """Remove a source: its frames in flight are finished, and its tracks end."""
        return self._changed(Remove(source_of(call)))

    def events(self, call: Call) -> Answered:
        """Return a page of the event log."""
        with self._folder.log() as log:
            return Answered(value=page_of(log, call.query))

    def metrics(self, call: Call) -> Answered:
        """Return the metrics of the run for Prometheus."""
        run, status = self._folder.living(), self._folder.status()
        usages = usages_of(status.processes, run.pid) if run is not None else {}
        text = prometheus.exposition(status, usages, disk_of(self._folder.out), 0.0)
        return Answered(value=text, headers={"content-type": METRICS})

    def live(self, call: Call) -> Answered:
        """Return whether the hub of the run answers."""
        try:
            self._folder.status()
        except (RunError, UsageError, RefusedError) as error:
            return Answered(value=LiveVerdict(live=False, reason=str(error)), status=503)
        return Answered(value=LiveVerdict(live=True, reason=""))

    def ready(self, call: Call) -> Answered:
        """Return whether the run processes pictures now."""
        try:
            reasons = health.unready(self._folder.status())
        except (RunError, UsageError, RefusedError) as error:
            reasons = [str(error)]
        verdict = ReadyVerdict(ready=not reasons, reasons=reasons)
        return Answered(value=verdict, status=503 if reasons else 200)

    def login(self, call: Call) -> Answered:
        """Return a cookie for the token."""
        if self._logins is None:
            return Answered(value=Login(needs_token=False, expires_s=SESSION_S))
        check_token(self._logins, call.body.token, call.address)
        cookie = self._set_cookie(self._logins.cookie(), SESSION_S)
        login = Login(needs_token=True, expires_s=SESSION_S)
        return Answered(value=login, headers={"set-cookie": cookie})

    def logout(self, call: Call) -> Answered:
        """Remove the cookie."""
        login = Login(needs_token=self._logins is not None, expires_s=0)
        return Answered(value=login, headers={"set-cookie": self._set_cookie("", 0)})

    def _set_cookie(self, value: str, seconds: int) -> str:
        return f"{self._cookie}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"

    def _changed(self, request: Request) -> Answered:
        reply = self._folder.ask(request)
        if not isinstance(reply, Changed):
            raise RunError("the run sent another answer than that to a change of sources")
        return Answered(value=reply)

    def _logged(self) -> list[LoggedSource]:
        """Return what the log holds; nothing while there is none."""
        try:
            with self._folder.log() as log:
                cursors = [one for one in log.cursors().values() if one.source != SYSTEM]
                return [_logged(one, log.oldest(one.source)) for one in cursors]
        except DataError:
            return []


def operations(api: Api, resources: Resources) -> tuple[Operation, ...]:
    """List the operations, in the order of their document."""
    id_ = "/api/sources/{source}"
    return (
        Operation(method="GET", path="/api/status", call=api.status, shared=True, answer=RunState),
        Operation(
            method="GET",
            path="/api/sources",
            call=api.sources,
            shared=True,
            answer=RunSources,
            statuses=(503,),
        ),
        Operation(
            method="POST",
            path="/api/sources",
            call=api.add_source,
            body=NewSource,
            answer=Changed,
            statuses=(400, 409, 413, 415, 503),
        ),
        Operation(
            method="DELETE",
            path=id_,
            call=api.remove_source,
            answer=Changed,
            statuses=(400, 404, 409, 503),
        ),
        *api.zones.table(),
        *api.clips.table(),
        Operation(
            method="GET",
            path="/api/events",
            call=api.events,
            shared=True,
            query=EventQuery,
            answer=EventPage,
            statuses=(400, 404, 410),
        ),
        Operation(
            method="GET",
            path="/api/picture/{source}",
            call=api.pictures.picture,
            query=PictureQuery,
            media=JPEG,
            statuses=(400, 404, 409, 503),
            threads=4,
        ),
        Operation(
            method="GET",
            path="/api/lanes",
            call=api.lanes.lanes,
            shared=True,
            query=LaneQuery,
            answer=Timeline,
            statuses=(400, 404, 410, 503),
            threads=2,
        ),
        Operation(
            method="GET",
            path="/api/resources",
            call=resources.resources,
            shared=True,
            answer=RunResources,
        ),
        Operation(
            method="GET",
            path="/api/summary",
            call=resources.summary,
            shared=True,
            answer=Summary,
            statuses=(404,),
        ),
        Operation(
            method="GET",
            path="/metrics",
            call=api.metrics,
            shared=True,
            media=METRICS,
            statuses=(503,),
        ),
        Operation(
            method="GET",
            path="/health/live",
            call=api.live,
            shared=True,
            answer=LiveVerdict,
            same=(503,),
        ),
        Operation(
            method="GET",
            path="/health/ready",
            call=api.ready,
            shared=True,
            answer=ReadyVerdict,
            same=(503,),
        ),
        Operation(
            method="POST",
            path="/api/login",
            call=api.login,
            shared=True,
            body=LoginRequest,
            answer=Login,
            statuses=(400, 401, 413, 415, 429),
            without_token=True,
        ),
        Operation(method="POST", path="/api/logout", call=api.logout, shared=True, answer=Login),
    )


def _described(run: RunFile | None) -> RunOfFolder | None:
    if run is None:
        return None
    return RunOfFolder(pid=run.pid, started=run.started, pipeline=run.pipeline)


def _logged(cursor: Cursor, oldest: int) -> LoggedSource:
    return LoggedSource(
        id=cursor.source,
        epoch=cursor.epoch,
        oldest=oldest,
        next=cursor.next,
        ending=cursor.ending,
    )


def _ended(source: LoggedSource) -> ListedSource:
    """Return a source of a run that is over, as far as the log knows it."""
    return ListedSource(
        id=source.id,
        label="",
        kind="",
        origin="start",
        state="ended",
        state_s=0.0,
        reason=source.ending or "the run ended without an end of this source",
    )


def _spec_of(new: NewSource) -> SourceSpec:
    """Return the source; RefusedError for files, and for settings that name files.

    Who may add a source must not read any file of the server by it.
    """
    if not new.uri.lower().startswith(SCHEMES) or "#" in new.uri:
        raise RefusedError(
            400,
            "body, uri",
            "no address on the network",
            expected=f"one of {', '.join(SCHEMES)}, without #",
            to_do="add files and cameras of the machine with `streamvis sources add`",
        )
    if other := sorted(new.settings.keys() - SETTINGS):
        raise RefusedError(
            400,
            "body, settings",
            shown(other[0]),
            expected=f"only {', '.join(sorted(SETTINGS))}",
            to_do="add a source with other settings with `streamvis sources add`",
        )
    pairs = "&".join(f"{name}={value}" for name, value in new.settings.items())
    text = f"{new.id}={new.uri}{'#' if pairs else ''}{pairs}"
    try:
        (spec,) = resolve([text])
    except StreamvisError as error:
        raise RefusedError(400, "body", redacted(str(error))) from None
    return spec
