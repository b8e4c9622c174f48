"""Settings of recordings: what a sources file may say, and what it is told otherwise."""

import re

import pytest

from streamvis.errors import ConfigError, SourceError
from streamvis.parsing import convert
from streamvis.recording.settings import Clips, Recording, Segments
from streamvis.sources import SourceSpec, open_source


def test_a_minute_and_fifteen_seconds_around_an_event_are_the_defaults():
    read = convert({"segments": {}, "clips": {"on": ["track.begin"]}}, Recording, "s", ConfigError)
    assert read == Recording(segments=Segments(60.0), clips=Clips(["track.begin"], 5.0, 10.0))


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ({}, "expected `segments`, `clips` or both"),
        ({"segments": {"seconds": 0}}, "seconds"),
        ({"segments": {"second": 60}}, "did you mean seconds"),
        ({"segments": {"keep_days": -1}}, "keep_days"),
        ({"segments": {"seconds": float("nan")}}, "seconds"),
        ({"clips": {"on": []}}, "on"),
        ({"clips": {"on": ["../../etc"]}}, "on"),
        ({"clips": {"before_s": 5}}, "on"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(raw, error):
    with pytest.raises(ConfigError, match=r"^s: ") as caught:
        convert(raw, Recording, "s", ConfigError)
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_synthetic_scene_has_no_packets_to_record():
    spec = SourceSpec(
        id="a", uri="synthetic:street", kind="synthetic", record=Recording(segments=Segments())
    )
    with pytest.raises(SourceError, match=r"'synthetic:street' is made of pictures; remove its"):
        open_source(spec)


@pytest.mark.parametrize("unmasked", [False, True])
def test_a_camera_with_privacy_masks_is_recorded_only_if_that_is_said(tmp_path, unmasked):
    spec = SourceSpec(
        id="a",
        uri=str(tmp_path / "camera.mp4"),
        kind="file",
        record=Recording(segments=Segments(), unmasked=unmasked),
        privacy_masks=(((0, 0), (1, 0), (1, 1)),),
    )
    expected = "cannot be read" if unmasked else "set `unmasked: true` in `record`"
    with pytest.raises(SourceError, match=re.escape(expected)):
        open_source(spec)
