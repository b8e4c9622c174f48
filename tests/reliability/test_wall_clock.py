"""The wall clock leaps an hour back and ahead: media time and results are what they were."""

import os
import signal
from itertools import pairwise

import films
import leaping_clock
import pytest
import street

from streamvis.runtime import launch
from streamvis.sources import resolve

SCENE = "cam1=synthetic:walkers?people=1&seconds=600&fps=20&size=160x120&live=true"


@pytest.fixture
def leaping():
    """The clock of the hub leaps, too."""
    leaping_clock.leap()
    yield
    leaping_clock.stand()


def test_media_time_of_a_live_source_goes_on_while_the_wall_clock_leaps(tmp_path, leaping):
    asked = []

    def end(_):
        if not asked and street.logged(tmp_path) > 60:
            asked.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    summary = launch.run(
        street.PIPELINE,
        street.TOGETHER,
        resolve([SCENE]),
        on_status=end,
        build="leaping_clock:build_leaping",
        open_source="leaping_clock:open_leaping",
        out=tmp_path,
    )
    times = [row[3]["time"] for row in street.rows(tmp_path) if row[3]["type"].startswith("track.")]
    media = [time["media_us"] for time in times[:-1]]  # the end has the time of the last frame
    assert len(media) > 50
    assert all(a < b for a, b in pairwise(media))
    steps = [(b["capture_us"] - a["capture_us"]) / 1e6 for a, b in pairwise(times[:-1])]
    assert max(steps) > leaping_clock.HOUR_S / 2  # it did leap, both ways
    assert min(steps) < -leaping_clock.HOUR_S / 2
    assert street.balanced(summary)["cam1"].ending == "drained"


def test_two_runs_on_one_file_are_identical_whatever_the_wall_clock_says(tmp_path, leaping):
    film = tmp_path / "film.mp4"
    films.write(films.Film("mp4", "h264", reorder=True, frames=60), film)
    (spec,) = resolve([str(film)])
    for name, build in [("one", "leaping_clock:build_leaping_street"), ("two", "street:build")]:
        launch.run(street.PIPELINE, street.TOGETHER, [spec], build=build, out=tmp_path / name)
    found = street.rows(tmp_path / "one")
    assert len(found) > 60
    assert found == street.rows(tmp_path / "two")
