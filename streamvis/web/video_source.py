"""Brings pictures and tracks of a source from the run while it is watched.

Pictures come from the control socket, one for each that was asked for: the run encodes no other.
Tracks come from the feed, whose publisher makes them while their topic has a subscriber.
"""

import asyncio
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

import msgspec
import zmq
import zmq.asyncio
from anyio import CapacityLimiter

from streamvis.errors import RunError, UsageError
from streamvis.events import topics
from streamvis.events.feed import LONGEST, ON_DEMAND, read_announcement
from streamvis.runtime.control import GetPicture, Refusal, SourcePicture
from streamvis.runtime.control_client import AsyncConversation
from streamvis.runtime.control_files import RunFile, is_living
from streamvis.transport.keys import ClientKeys
from streamvis.transport.refusal import check, refusals
from streamvis.web import video_masks
from streamvis.web.run_folder import RunFolder
from streamvis.web.tasks import first, in_thread
from streamvis.web.video_channel import VideoChannel
from streamvis.web.video_pairing import FrameKey

AGAIN_S = 0.5  # between two looks for what is not there
ASK_AGAIN_S = 1.0  # without a picture, after which it is asked for again
REFUSED_S = 10.0  # until a feed that has refused this client is tried again
SILENT_S = 5.0  # without tracks, after which viewers are told
QUEUE = 64  # messages of tracks that wait to be read
NO_FEED = "the run publishes no feed (publish.bind), or has just begun"


class BriefFrame(msgspec.Struct):
    """What is read of an event's frame."""

    stream_epoch: int


class BriefTime(msgspec.Struct):
    """What is read of an event's time."""

    media_us: int


class TracksOfFrame(msgspec.Struct):
    """What is read of a `frame.tracks` event."""

    type: Literal["frame.tracks"]
    frame: BriefFrame
    time: BriefTime
    tracks: msgspec.Raw


_decode = msgspec.json.Decoder(TracksOfFrame).decode


class VideoSources:
    """Follows the run of a directory, and the one that comes after it."""

    def __init__(self, folder: RunFolder, keys: ClientKeys | None = None) -> None:
        """`keys` are those of a client, for a feed that asks for them."""
        self._folder = folder
        self._keys = keys
        self._reads = CapacityLimiter(2)

    async def feed(self, channel: VideoChannel) -> None:
        """Bring pictures and tracks to a channel until this is cancelled."""
        while True:
            run = await in_thread(self._folder.living, self._reads)
            if run is None:
                channel.without_pictures("no run is under way", over=True)
                await asyncio.sleep(AGAIN_S)
                continue
            channel.begin()
            try:
                with closing(AsyncConversation(run)) as conversation:
                    await first(
                        self._pictures(channel, run, conversation), self._tracks(channel, run)
                    )
            except (RunError, zmq.ZMQError) as error:  # such as one without free descriptors
                channel.without_pictures(str(error))
                await asyncio.sleep(AGAIN_S)

    async def _pictures(
        self, channel: VideoChannel, run: RunFile, conversation: AsyncConversation
    ) -> None:
        """Ask for pictures whenever viewers can take them, until the run has ended."""
        replied = asyncio.Event()

        async def receive() -> None:
            while True:
                reply = await conversation.reply()
                if isinstance(reply, SourcePicture):
                    channel.picture(reply)
                elif isinstance(reply, Refusal):
                    channel.without_pictures(reply.message)
                    await asyncio.sleep(AGAIN_S)
                replied.set()

        async def ask() -> None:
            while True:
                count = await channel.demand()
                replied.clear()
                await conversation.send(GetPicture(channel.source, count))
                try:
                    async with asyncio.timeout(ASK_AGAIN_S):
                        await replied.wait()
                except TimeoutError:
                    if not await in_thread(lambda: is_living(run), self._reads):
                        return

        await first(receive(), ask())

    async def _tracks(self, channel: VideoChannel, run: RunFile) -> None:
        """Take tracks from the feed of a run, wherever it is announced."""
        while True:
            endpoint = await self._endpoint(run)
            if not endpoint:
                channel.without_tracks(NO_FEED)
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                await self._subscribed(channel, run, endpoint)
            except UsageError as error:
                channel.without_tracks(str(error))
                await asyncio.sleep(REFUSED_S)

    async def _endpoint(self, run: RunFile) -> str:
        """Return the address of the feed; empty: none is announced."""
        if run.out is None:
            return ""
        out = Path(run.out)
        note = await in_thread(lambda: read_announcement(out), self._reads)
        return note.endpoint if note is not None else ""

    async def _subscribed(self, channel: VideoChannel, run: RunFile, endpoint: str) -> None:
        """Take tracks until the feed has another address; UsageError when it refuses us."""
        context = zmq.asyncio.Context()
        subscriber = context.socket(zmq.SUB)
        monitor = refusals(context, subscriber)
        poller = zmq.asyncio.Poller()
        now = asyncio.get_running_loop().time
        last = now()  # when tracks have come, or viewers were told that none do
        try:
            self._connect(subscriber, channel.source, endpoint)
            poller.register(subscriber, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            while True:
                came = dict(await poller.poll(round(SILENT_S * 1000)))
                if monitor in came:
                    parts = await monitor.recv_multipart()
                    with_keys = self._keys is not None
                    await asyncio.to_thread(check, parts, endpoint, with_keys=with_keys)
                if subscriber in came and _take(channel, await subscriber.recv_multipart()):
                    last = now()
                if not came or now() - last >= SILENT_S:
                    last = now()
                    channel.without_tracks(f"none have come from {endpoint} for {SILENT_S:g} s")
                    if await self._endpoint(run) != endpoint:
                        return
        finally:
            subscriber.disable_monitor()
            monitor.close(linger=0)
            subscriber.close(linger=0)
            context.term()

    def _connect(self, subscriber: zmq.asyncio.Socket, source: str, endpoint: str) -> None:
        if self._keys is not None:
            self._keys.use(subscriber)
        subscriber.setsockopt(zmq.RCVHWM, QUEUE)
        subscriber.setsockopt(zmq.MAXMSGSIZE, LONGEST)
        subscriber.setsockopt(zmq.IPV6, int("[" in endpoint))
        for family in (ON_DEMAND, video_masks.FAMILY):
            subscriber.setsockopt(zmq.SUBSCRIBE, topics.of(source, family).encode())
        try:
            subscriber.connect(endpoint)
        except zmq.ZMQError as error:
            reason = zmq.strerror(error.errno or 0)
            raise UsageError(f"{endpoint}, the feed of the run: {reason}") from None


def _take(channel: VideoChannel, parts: list[bytes]) -> bool:
    """Take a message of the feed; return whether it has tracks. Others are not for viewers."""
    with suppress(msgspec.DecodeError, RecursionError, IndexError):
        if parts[0] == topics.of(channel.source, video_masks.FAMILY).encode():
            if (mask := video_masks.mask_of_message(parts)) is not None:
                channel.mask(mask)
            return False
        event = _decode(parts[2])
        key = FrameKey(event.frame.stream_epoch, event.time.media_us)
        channel.tracks(key, b'{"tracks":%b}' % bytes(event.tracks))
        return True
    return False
