"""A report and a replay take the same memory for a short log and for a long one."""

import subprocess
import sys
from pathlib import Path

import pytest
from zone_days import days
from zone_logs import write_log

MORE = 4.8e6  # bytes that the longer log may take beyond the shorter one: 400 for each event
MORE_OF_FULL = 12e6
SHORT = 4_000  # events
ZONES = "zones: [{name: door, polygon: [[0, 0], [1, 0], [1, 1], [0, 1]]}]\n"
CHILD = """
import sys
from pathlib import Path
from streamvis.cli.main import app
try:
    app([*sys.argv[1:]])
except SystemExit as ended:
    assert not ended.code, ended.code
status = Path("/proc/self/status").read_text()
print(next(line for line in status.splitlines() if line.startswith("VmHWM")), file=sys.stderr)
"""


def memory(*words) -> float:
    """The most resident memory of a command in a process of its own, bytes."""
    command = [sys.executable, "-c", CHILD, *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert result.returncode == 0, result.stderr
    return 1024.0 * int(result.stderr.split()[-2])


@pytest.fixture(scope="module")
def logs(tmp_path_factory, request) -> tuple[Path, Path, float]:
    """A short log, a long one, and how many bytes more that may take."""
    full = request.config.getoption("--full")
    events, more, per_s = (1_200_000, MORE_OF_FULL, 5.0) if full else (4 * SHORT, MORE, 2.0)
    home = tmp_path_factory.mktemp("logs")
    (home / "zones.yaml").write_text(ZONES)
    short = write_log(home / "short.db", days(SHORT, per_s))
    return short, write_log(home / "long.db", days(events, per_s)), more


def test_a_report_takes_the_same_memory_for_a_log_of_any_length(logs, tmp_path):
    short, long, more = logs
    took = [memory("zones", "report", log, "--out", tmp_path / log.stem) for log in (short, long)]
    assert took[1] - took[0] < more
    rows = (tmp_path / "long" / "heatmap.csv").read_text().count("\n")
    assert rows > 2 * (tmp_path / "short" / "heatmap.csv").read_text().count("\n")


def test_a_replay_takes_the_same_memory_for_a_log_of_any_length(logs, tmp_path):
    zones = logs[0].with_name("zones.yaml")
    took = [
        memory("zones", "replay", log, "--zones", zones, "--out", tmp_path / log.name)
        for log in logs[:2]
    ]
    assert took[1] - took[0] < logs[2]
