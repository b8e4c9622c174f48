"""Print actions when they begin and end.

python samples/actions.py tcp://127.0.0.1:5560
"""

import asyncio
import sys

import streamvis
from streamvis.stages.actions.events import ActionBegin, ActionEnd


async def main(endpoint: str) -> None:
    async for event in streamvis.subscribe(endpoint):
        match event.what:
            case ActionBegin(action):
                subject = action.track or "the whole frame"
                say(f"{event.source}: {action.label} by {subject}, p = {action.p:.2f}")
            case ActionEnd(action):
                seconds = (event.time.media_us - action.since_us) / 1e6
                say(f"{event.source}: {action.label} ended ({action.reason}) after {seconds:.1f} s")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:] or ["tcp://127.0.0.1:5560"]))
    except KeyboardInterrupt:
        sys.exit(130)
