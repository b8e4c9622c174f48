"""What a worker process finds in shared memory: no pixel below a privacy mask."""

import msgspec
from test_launch import chain, source, workers

from streamvis.runtime import launch
from streamvis.sources.privacy import COLOUR

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))  # shares: they fit any size


def test_no_stage_gets_pixels_below_a_mask_also_when_the_picture_grows(tmp_path):
    spec = msgspec.structs.replace(source("a", 12, grow=6), privacy_masks=(LEFT,))
    launch.run(
        *(chain(), workers(["detect"], ["track", "publish"]), [spec]),
        build="toys:build_looking",
        open_source="toys:open_toy",
        out=tmp_path,
    )
    lines = (tmp_path / "seen.txt").read_text().splitlines()
    seen = [list(map(int, line.split())) for line in lines]
    assert len(seen) == 12
    for n, (low, high, *right) in enumerate(seen):
        assert {low, high} == {COLOUR[0]}
        assert n in right  # the toy's picture n is filled with n
