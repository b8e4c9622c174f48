"""The run that a soak watches, in a process of its own: the hub.

python live_run.py OUT flicker|toy|real URL...
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS), str(TESTS / "reliability"), str(TESTS / "sources")]


def main(out: str, detector: str, *urls: str) -> None:
    import street

    from streamvis import config
    from streamvis.runtime import launch
    from streamvis.sources import resolve

    sources = resolve([f"cam{number}={url}" for number, url in enumerate(urls)])
    opener = {"flicker": "flicker:open_flicker"}.get(detector, "streamvis.sources:open_source")
    if detector != "real":
        street.run(sources, Path(out), street.APART, open_source=opener)
        return
    pipeline = config.load_pipeline(None, {"publish.bind": "none", "detect.short_side": "240"})
    launch.run(pipeline, config.default_placement(pipeline), sources, out=Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
