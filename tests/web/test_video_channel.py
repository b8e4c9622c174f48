"""How many pictures a run is asked for, by the pace of those who watch."""

import asyncio

import pytest
from controlled_runs import picture

from streamvis.web.video_channel import VideoChannel
from streamvis.web.video_pairing import FrameKey

FRAME_S, STAGES_S = 0.02, 0.2  # between two frames, and from a picture to its tracks


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of the next timer: it never waits."""

    def __init__(self):
        super().__init__()
        self._now = 0.0

    def time(self):
        return self._now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0].when())
        super()._run_once()


def run_at_once(coroutine):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class FakeRun:
    """Encodes a picture when one is wanted, and has its tracks a little later."""

    def __init__(self, frame_s=FRAME_S):
        self.encoded = 0
        self.frame_s = frame_s

    async def feed(self, channel):
        loop, n = asyncio.get_running_loop(), 0
        while True:
            await channel.demand()
            await asyncio.sleep(self.frame_s)
            n += 1
            self.encoded += 1
            channel.picture(picture("gate", n))
            loop.call_later(STAGES_S, channel.tracks, FrameKey(1, 40_000 * n), b"{}")


async def shown(channel, count, pause_s):
    """Watch until so many pictures came, and wait before each acknowledgement."""
    found = []
    now = asyncio.get_running_loop().time
    async with channel.watching() as viewer:
        while len(found) < count:
            for message in viewer.messages(now()):
                if isinstance(message, bytes) and message[0] == 1:
                    found.append(int.from_bytes(message[5:13], "little"))
                    await asyncio.sleep(pause_s)
                    channel.acknowledge(viewer, found[-1])
            await viewer.wait(1.0)
    return found


@pytest.mark.parametrize(("count", "pause_s", "most"), [(60, 0.0, 75), (8, 0.4, 12)])
def test_pictures_are_encoded_at_the_pace_of_acknowledgements(count, pause_s, most):
    """Whoever is fast gets all, though the stages take ten frames; the first few are in vain."""
    run = FakeRun()
    numbers = run_at_once(shown(VideoChannel("gate", run.feed), count, pause_s))
    assert numbers == sorted(set(numbers))
    assert run.encoded <= most
    if not pause_s:
        last = numbers[-30:]
        assert last == list(range(last[0], last[0] + 30))


def test_of_a_source_with_few_pictures_all_are_shown():
    async def watched():
        numbers = await shown(VideoChannel("gate", FakeRun(frame_s=0.3).feed), 20, 0.0)
        return numbers, asyncio.get_running_loop().time()

    numbers, seconds = run_at_once(watched())
    assert numbers == list(range(1, 21))
    assert seconds == pytest.approx(20 * 0.3 + STAGES_S)


def test_of_a_fast_and_a_slow_viewer_each_gets_what_it_can_take():
    async def both():
        run = FakeRun()
        channel = VideoChannel("gate", run.feed)
        return await asyncio.gather(shown(channel, 60, 0.0), shown(channel, 4, 0.4))

    fast, slow = run_at_once(both())
    assert len(fast) == 60
    assert len(slow) == 4
    assert set(slow) & set(range(1, fast[-1] + 80))


def test_nothing_is_asked_for_without_a_viewer():
    async def watched_for_a_while():
        run = FakeRun()
        channel = VideoChannel("gate", run.feed)
        await shown(channel, 5, 0.0)
        before = run.encoded
        await asyncio.sleep(0.3)
        return run.encoded - before, channel.watched

    assert run_at_once(watched_for_a_while()) == (0, False)
