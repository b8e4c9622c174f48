"""Print the forecast occupancy of zones, and the scores of forecasts.

python samples/forecast.py tcp://127.0.0.1:5560
"""

import asyncio
import sys

import streamvis
from streamvis.stages.forecast.events import ForecastScored, ForecastSegmentation


async def main(endpoint: str) -> None:
    async for event in streamvis.subscribe(endpoint, family="forecast"):
        match event.what:
            case ForecastSegmentation(forecast):
                for zone in forecast.zones:
                    ahead = f"in {forecast.horizon_us / 1e6:.1f} s"
                    say(f"{event.source}: {zone.zone} occupied {ahead} with p = {zone.p:.2f}")
            case ForecastScored(score):
                ago = f"{score.horizon_us / 1e6:.1f} s ago"
                say(f"{event.source}: forecast of {ago} right in {score.accuracy:.0%} of pixels")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:] or ["tcp://127.0.0.1:5560"]))
    except KeyboardInterrupt:
        sys.exit(130)
