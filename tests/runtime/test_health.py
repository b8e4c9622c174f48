import pytest
from status_samples import GATE, TAPE, YARD, source, stage

from streamvis.runtime.health import unready, unready_workers
from streamvis.runtime.metrics import Status

READY, LOADING = stage("detect"), stage("track", workers=3, ready=1)


def status(*reports):
    sources = [one for one in reports if hasattr(one, "id")]
    return Status(
        wall_s=1.0, sources=sources, stages=[one for one in reports if one not in sources]
    )


@pytest.mark.parametrize(
    ("found", "reasons"),
    [
        (None, ["the run is starting"]),
        (status(READY, GATE), []),
        (status(READY, GATE, YARD), []),  # one camera away is no reason to restart all
        (status(READY, YARD), ["source 'yard' is offline for 12 s: connection refused"]),
        (status(READY, TAPE), ["source 'tape' is ended for 0 s"]),
        (status(READY), ["there is no source"]),
        (status(READY, LOADING, GATE), ["stage 'track': 1 of 3 workers are ready"]),
        (
            status(LOADING, source("a", state="stalled", state_s=7.4)),
            ["stage 'track': 1 of 3 workers are ready", "source 'a' is stalled for 7 s"],
        ),
    ],
)
def test_a_run_is_ready_with_all_workers_and_one_source(found, reasons):
    assert unready(found) == reasons


def test_workers_alone_do_not_wait_for_cameras():
    assert unready_workers(status(READY, YARD)) == []


def test_a_reason_shows_no_password():
    away = source("a", state="offline", reason="rtsp://joe:geheim@host/live is gone")
    assert unready(status(READY, away)) == [
        "source 'a' is offline for 0 s: rtsp://host/live is gone"
    ]
