"""Print tracks and corrections of a run, until Ctrl-C.

python samples/subscribe.py tcp://127.0.0.1:5560
"""

import asyncio
import sys

import streamvis
from streamvis.events.envelope import Lost
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackMerge, TrackSplit


async def main(endpoint: str) -> None:
    async for event in streamvis.subscribe(endpoint):
        match event.what:
            case TrackBegin(track):
                say(f"{track.id} came at {event.time.media_us / 1e6:.2f} s")
            case TrackMerge(merge):
                say(f"{merge.gone} was {merge.kept}")
            case TrackSplit(splits):
                for split in splits:
                    say(f"{split.id} was {split.other} from {split.since_us / 1e6:.2f} s on")
            case TrackEnd(track) if track.into is None:
                say(f"{track.id} left after {track.age_s:.1f} s ({track.reason})")
            case Lost(topic, first, last):
                say(f"{last - first + 1} messages of {topic} were lost")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:] or ["tcp://127.0.0.1:5560"]))
    except KeyboardInterrupt:
        sys.exit(130)
