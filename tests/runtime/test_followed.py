"""A real run as `streamvis events tail` shows it, from before its beginning to its end."""

import subprocess
import sys

from streamvis import config
from streamvis.runtime import launch
from streamvis.sources.spec import SourceSpec


def street(publish: config.Publish) -> config.Pipeline:
    """The pipeline that `toys.build_street` builds."""
    tracker = config.Jipda(memory_s=0.2, remember_s=0)
    return config.Pipeline(
        [
            config.StageSpec("detect", run=config.MaskRcnn()),
            config.StageSpec("track", run=tracker, after=["detect"]),
            config.StageSpec("publish", run=publish, after=["track"]),
        ]
    )


def test_every_event_of_a_run_has_its_line_and_the_end_is_told(tmp_path):
    address = f"ipc://{tmp_path}/feed"
    tail = [sys.executable, "-m", "streamvis", "events", "tail", "--connect", address]
    with subprocess.Popen(
        [*tail, "--timeout-s", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as follower:
        assert "listening to" in follower.stderr.readline()
        pipeline = street(config.Publish(bind=address))
        launch.run(
            pipeline,
            config.default_placement(pipeline),
            [SourceSpec(id="a", uri="toy:90", kind="file", options={"pause": "0.03"})],
            build="toys:build_street",
            open_source="toys:open_toy",
            out=tmp_path / "out",
        )
        told, said = follower.communicate(timeout=60)
    assert follower.returncode == 0, said
    assert said.splitlines()[-1] == "the run has ended"
    types = [text.split()[2] for text in told.splitlines()]
    assert types.count("track.begin") == types.count("track.end") == 2
    assert types.count("track.update") > 10
    assert types[-1] == "source.eof"
    ends = [text for text in told.splitlines() if "track.end" in text]
    assert "a:1:1" in ends[0]
    assert ends[0].endswith("s (lost)")
