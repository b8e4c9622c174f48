"""Messages survive their encoding; anything else is refused."""

import msgspec
import pytest

from streamvis.config import default_pipeline
from streamvis.messages import Frame, Notice, SourceInfo
from streamvis.runtime import protocol
from streamvis.runtime.gaps import Gap
from streamvis.sources.spec import SourceSpec

INFO = SourceInfo(id="a", label="a", width=4, height=2, fps=25, live=False)
FRAME = Frame(source="a", seq=0, n=0, media_us=0, width=4, height=2)
ITEMS = [
    protocol.BeginItem(INFO, {"track": b"state"}),
    protocol.FrameItem(FRAME, ["detect"], ["embed"]),
    protocol.NoticeItem(Notice(source="a", kind="gap", media_us=0)),
    protocol.EndItem("a", "eof"),
]
TO_PROCESS = [
    protocol.Setup(default_pipeline(), ["detect"], "module:build", "cpu", None, None, "epoch"),
    protocol.Work(1, ITEMS),
    protocol.Open(SourceSpec(id="a", uri="a.mp4", kind="file"), "module:open", 1, -1),
    protocol.SlotGrant(["a:0"], 24),
    protocol.Stop(),
]
TIMES = [protocol.StageTime("track", 1, 0.5)]
STATES = [protocol.StageState("track", "a", b"state")]
FROM_PROCESS = [
    protocol.Hello(),
    protocol.Ready(),
    protocol.Refused("RunError", "no space left"),
    protocol.Answer(1, [["track"]], STATES, TIMES),
    protocol.Opened(INFO),
    protocol.SizeChanged(4, 2),
    protocol.DecodedFrame("a:0", 0, 0, 0, "file", 4, 2, 0, [Gap("decode", 1, 0, 0)]),
    protocol.SourceEnded("failed", message="torn"),
]


@pytest.mark.parametrize("message", TO_PROCESS, ids=lambda m: type(m).__name__)
def test_a_message_to_a_process_is_decoded_as_it_was(message):
    assert protocol.decode_to_process(protocol.encode(message)) == message


@pytest.mark.parametrize("message", FROM_PROCESS, ids=lambda m: type(m).__name__)
def test_a_message_from_a_process_is_decoded_as_it_was(message):
    assert protocol.decode_from_process(protocol.encode(message)) == message


def test_a_message_in_the_wrong_direction_is_refused():
    for message in TO_PROCESS:
        with pytest.raises(msgspec.DecodeError):
            protocol.decode_from_process(protocol.encode(message))
