"""The viewers of one source, and what the run sends of it while there are any."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from streamvis.runtime.control import MOST_PICTURES, SourcePicture
from streamvis.web.tasks import Close, first
from streamvis.web.video_masks import ClassMask
from streamvis.web.video_pairing import FrameKey, Pairing, ShownFrame
from streamvis.web.video_viewer import VideoState, Viewer


class VideoChannel:
    """Shows each picture to all viewers of a source; `feed` brings them, while somebody watches.

    All is called in one event loop.
    """

    def __init__(self, source: str, feed: "Callable[[VideoChannel], Awaitable[None]]") -> None:
        self.source = source
        self._feed = feed
        self._viewers: set[Viewer] = set()
        self._pairing = Pairing()
        self._state = VideoState(state="waiting")
        self._changed = asyncio.Event()  # what the viewers want, or which pictures wait
        self._tasks: asyncio.Task[Close | None] | None = None

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._viewers)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Viewer]:
        """Count a viewer; the first starts the feed, and the last ends it."""
        viewer = Viewer()
        self._viewers.add(viewer)
        try:
            if self._tasks is None or self._tasks.done():
                self.begin()
                self._tasks = asyncio.create_task(first(self._feed(self), self._expire()))
            viewer.tell(self._state)
            self._notify()
            yield viewer
        finally:
            self._viewers.remove(viewer)
            if not self._viewers and self._tasks is not None:
                task, self._tasks = self._tasks, None
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def acknowledge(self, viewer: Viewer, seq: int) -> None:
        """Take the acknowledgement of a viewer."""
        viewer.acknowledge(seq, self._now())
        self._notify()

    # for the feed

    def begin(self) -> None:
        """Forget pictures and tracks: those of another run follow."""
        self._pairing = Pairing()
        self.tell(VideoState(state="waiting"))

    async def demand(self) -> int:
        """Wait until a viewer can take pictures; return how many, at most MOST_PICTURES.

        To one that takes only a few a second, those that wait for their tracks are on their way:
        for others more are asked for meanwhile, or the stages would set their rate.
        """
        while not (count := max(map(self._wanted_by, self._viewers), default=0)):
            await self._changed.wait()
        return min(count, MOST_PICTURES)

    def picture(self, picture: SourcePicture) -> None:
        """Take a picture of the run."""
        self.tell(msgspec.structs.replace(self._state, state="live", reason=""))
        self._show(self._pairing.picture(picture, self._now()))
        self._notify()

    def tracks(self, key: FrameKey, tracks: bytes) -> None:
        """Take the tracks of a frame."""
        self.tell(msgspec.structs.replace(self._state, without_tracks=""))
        shown = self._pairing.tracks(key, tracks)
        if shown is None:
            for viewer in self._viewers:
                viewer.late_tracks(key, tracks)
        self._show(shown)
        self._notify()

    def mask(self, mask: ClassMask) -> None:
        """Take the class of every pixel of a frame."""
        for viewer in self._viewers:
            viewer.mask(mask)

    def without_pictures(self, reason: str, *, over: bool = False) -> None:
        """Tell why no pictures come."""
        state = VideoState(state="over" if over else "waiting", reason=reason)
        self.tell(msgspec.structs.replace(state, without_tracks=self._state.without_tracks))

    def without_tracks(self, reason: str) -> None:
        """Tell why no tracks come."""
        self.tell(msgspec.structs.replace(self._state, without_tracks=reason))

    def tell(self, state: VideoState) -> None:
        """Tell the viewers of another state."""
        if state != self._state:
            self._state = state
            for viewer in self._viewers:
                viewer.tell(state)

    def _wanted_by(self, viewer: Viewer) -> int:
        if viewer.slow:
            return min(viewer.credit, int(self._pairing.due() is None))
        return viewer.credit

    async def _expire(self) -> None:
        """Show pictures whose tracks do not come."""
        while True:
            due = self._pairing.due()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(due - self._now(), 0.0)):
                    await self._changed.wait()
            self._show(self._pairing.overdue(self._now()))

    def _notify(self) -> None:
        """Wake those who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _show(self, shown: ShownFrame | None) -> None:
        if shown is not None:
            for viewer in self._viewers:
                viewer.offer(shown, self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
