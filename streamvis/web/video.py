"""Live pictures over WebSocket, each with the tracks that were computed from it.

The server sends binary messages, little endian: `HEADER` of `video_viewer`, then a JPEG (kind 1),
or the JSON of the tracks of the same frame (kind 3), which comes just before its picture. Text
messages are `VideoState`. A viewer acknowledges each picture that it has shown, with
`{"ack": seq}`: it is sent the newest one while at most two are unacknowledged. All viewers of a
source share its pictures, and without a viewer none is encoded.
"""

import asyncio

import msgspec
from anyio import CapacityLimiter
from starlette.websockets import WebSocket

from streamvis.errors import DataError, StreamvisError
from streamvis.parsing import alternatives
from streamvis.runtime.control import ListSources, SourceList
from streamvis.sources.spec import ID
from streamvis.transport.keys import ClientKeys
from streamvis.web.problems import RefusedError, shown
from streamvis.web.run_folder import RunFolder
from streamvis.web.tasks import Close, in_thread, serve_until_first
from streamvis.web.video_channel import VideoChannel
from streamvis.web.video_source import VideoSources
from streamvis.web.video_viewer import Viewer

PATH = "/ws/video/{source}"
MOST_VIEWERS = 32  # of all sources
STALL_S = 30.0  # for a viewer to acknowledge a picture
NO_SOURCE, STALLED, WRONG = 4404, 4408, 1008  # codes with which a connection ends
LONGEST_REASON = 123  # bytes of the reason beside the code


class VideoAck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a viewer sends when it has shown a picture."""

    ack: int


_decode = msgspec.json.Decoder(VideoAck).decode


class VideoStream:
    """The endpoint of `/ws/video/SOURCE`."""

    def __init__(self, folder: RunFolder, keys: ClientKeys | None = None) -> None:
        self._folder = folder
        self._sources = VideoSources(folder, keys)
        self._channels: dict[str, VideoChannel] = {}  # that are watched, by source
        self._reads = CapacityLimiter(2)
        self._viewers = 0

    async def serve(self, socket: WebSocket, source: str) -> None:
        """Send pictures until the viewer has gone. RefusedError when there are too many viewers."""
        if self._viewers >= MOST_VIEWERS:
            raise RefusedError(
                503,
                PATH,
                f"{MOST_VIEWERS} viewers are connected",
                expected=f"at most {MOST_VIEWERS}",
                to_do="close one of them",
            )
        self._viewers += 1
        try:
            await socket.accept()
            if reason := await in_thread(lambda: self._unknown(source), self._reads):
                await socket.close(NO_SOURCE, _shortened(reason))
                return
            await self._show(socket, source)
        finally:
            self._viewers -= 1

    async def _show(self, socket: WebSocket, source: str) -> None:
        channel = self._channels.get(source)
        if channel is None:
            channel = self._channels[source] = VideoChannel(source, self._sources.feed)
        try:
            async with channel.watching() as viewer:
                await serve_until_first(
                    socket, _send(socket, viewer), _receive(socket, viewer, channel)
                )
        finally:
            if not channel.watched:
                self._channels.pop(source, None)

    def _unknown(self, source: str) -> str:
        """Return why there is no such source; empty when there is, or when it cannot be known."""
        if not ID.fullmatch(source):
            return f"{shown(source[:40])} is no id of a source"
        try:
            known = self._known()
        except StreamvisError:
            return ""
        return "" if source in known else f"no source '{source}'{alternatives(source, known)}"

    def _known(self) -> list[str]:
        if self._folder.living() is None:
            with self._folder.log() as log:
                return [one.source for one in log.cursors().values()]
        reply = self._folder.ask(ListSources())
        if not isinstance(reply, SourceList):
            raise DataError("the run sent another answer than its sources")
        return [one.id for one in reply.sources]


def _shortened(reason: str) -> str:
    """Return the reason in as many bytes as the end of a connection may have."""
    return reason.encode()[:LONGEST_REASON].decode(errors="ignore")


async def _send(socket: WebSocket, viewer: Viewer) -> Close:
    """Send what there is; end the connection of a viewer that does not acknowledge."""
    now = asyncio.get_running_loop().time
    while viewer.stalled_s(now()) < STALL_S:
        for message in viewer.messages(now()):
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)
        await viewer.wait(STALL_S / 10)
    return Close(STALLED, f"no picture was acknowledged for {STALL_S:g} s")


async def _receive(socket: WebSocket, viewer: Viewer, channel: VideoChannel) -> Close | None:
    """Take acknowledgements until the viewer has gone, or has sent something else."""
    while (message := await socket.receive())["type"] == "websocket.receive":
        try:
            seq = _decode(message.get("text") or message.get("bytes") or b"").ack
        except (msgspec.DecodeError, RecursionError):
            return Close(WRONG, 'expected {"ack": seq} of a picture')
        channel.acknowledge(viewer, seq)
    return None
