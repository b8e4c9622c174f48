"""The page docs/soak.md: the result of the last soak as a table and a chart."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import resources
from soak import CAMERAS, HOURS_RECONNECTS, LONGEST_RETRY_S, Soak, equivalent_mb_h

LIMIT_MB_H = 1.0
LEAK = 0.05  # descriptors or threads for each reconnect: one that is left behind makes 1
POINTS = 300  # of each line of the chart
TEXT = """# Memory, descriptors and threads of long runs

What a run holds must not grow. `make soak` runs {cameras} simulated RTSP cameras, each of which
ends its connection again and again, and reads `/proc` of the hub and of each worker. It writes this
page, and fails where memory grows by {limit:g} MB an hour or more, or descriptors or threads grow.
A decode process lives for one connection: it cannot hold more for longer.

Last result: {reconnects} reconnects in {minutes:.0f} minutes, {detector}, {system}, {date}.

{table}

![Memory, descriptors and threads over time]({chart})

| column | meaning |
|---|---|
| RSS | resident memory (median of the first and of the last tenth of the samples after the warm-up; the highest of all), with shared memory that is mapped |
| MB/h | slope of the least-squares line through RSS over time, without the first 30 %, the warm-up |
| MB/h equivalent | slope over the number of reconnects (of all samples or of their second half, the lesser: memory that fills up at the start does not go on), × {hours}: an hour in which a connection is lost every {apart:.0f} s. Pauses between two attempts are at most {pause:g} s here, so that connections are lost far more often than on a site; memory that grows with them grows as much faster |
| descriptors, threads | median of the first and of the last tenth; they come and go with the decode processes of the moment. The soak fails where the least number of the last third is above that of the first by more than one in {leak:.0f} reconnects, and the median is above, too |

Other lengths: `python tests/soak/soak.py --minutes 10 --reconnects 100`; with the shipped
detector in place of a stage that needs no network: `--detector real`.
"""  # noqa: E501


def write(soak: Soak, path: Path) -> None:
    """Write the page, and the chart in the folder `images` beside it."""
    chart = path.parent / "images" / f"{path.stem}.svg"
    chart.parent.mkdir(parents=True, exist_ok=True)
    draw(soak, chart)
    detectors = {"real": "the shipped detector"}
    text = TEXT.format(
        cameras={4: "four"}.get(CAMERAS, CAMERAS),
        limit=LIMIT_MB_H,
        reconnects=soak.reconnects,
        minutes=soak.seconds / 60,
        detector=detectors.get(soak.detector, "a detector without a network"),
        system=f"{os.cpu_count()} cores, Python {platform.python_version()}",
        date=datetime.now(UTC).date().isoformat(),
        table=table(soak),
        chart=f"images/{chart.name}",
        hours=HOURS_RECONNECTS,
        apart=3600 / HOURS_RECONNECTS,
        pause=LONGEST_RETRY_S,
        leak=1 / LEAK,
    )
    path.write_text(text, encoding="utf-8")


def table(soak: Soak) -> str:
    columns = ["process", "RSS begin, MB", "end", "highest", "MB/h", "MB/h equivalent"]
    columns += ["descriptors", "threads"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, trend in soak.trends().items():
        cells = [
            name,
            *(f"{mb:.1f}" for mb in (trend.begin_mb, trend.end_mb, trend.peak_mb)),
            f"{trend.mb_per_hour:+.2f}",
            f"{equivalent_mb_h(trend):+.2f}",
            *(f"{count.begin} → {count.end}" for count in (trend.descriptors, trend.threads)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def faults(soak: Soak) -> list[str]:
    """What grew, one line for each."""
    found = []
    for name, trend in soak.trends().items():
        growth = equivalent_mb_h(trend)
        if growth >= LIMIT_MB_H:
            found.append(f"{name}: memory grows by {growth:.2f} MB/h, expected < {LIMIT_MB_H:g}")
        for what in ("descriptors", "threads"):
            count = getattr(trend, what)
            if count.per_reconnect >= LEAK and count.end > count.begin:
                share = f"{count.per_reconnect:.2f} for each reconnect"
                found.append(f"{name}: {what} grow by {share}, {count.begin} → {count.end}")
    return found


def verdict(soak: Soak) -> int:
    """Print what grew; the exit code of the soak."""
    found = faults(soak)
    print("\n".join(found) or "nothing grew", file=sys.stderr)  # noqa: T201
    return int(bool(found))


def draw(soak: Soak, path: Path) -> None:
    """Draw memory, descriptors and threads of each process over time."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "soak"
    from matplotlib import pyplot

    samples = soak.samples[:: max(1, len(soak.samples) // POINTS)]
    figure, axes = pyplot.subplots(3, 1, figsize=(8, 8), sharex=True)
    values = {"RSS, MB": "rss_mb", "descriptors": "descriptors", "threads": "threads"}
    for axis, (label, field) in zip(axes, values.items(), strict=True):
        for name in [*soak.names, resources.DECODE]:
            known = [
                (s.at_s / 60, getattr(s.usage[name], field)) for s in samples if name in s.usage
            ]
            style = ":" if name == resources.DECODE else "-"
            axis.plot(*zip(*known, strict=True), style, label=name, linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right", fontsize=8)
    axes[-1].set_xlabel("minutes")
    figure.suptitle(f"{soak.reconnects} reconnects in {soak.seconds / 60:.0f} minutes")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
