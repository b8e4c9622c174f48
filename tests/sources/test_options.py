"""Settings of sources: known ones pass, unknown names and values are refused with advice."""

import pytest

from streamvis.errors import UsageError
from streamvis.sources.options import (
    NUMBER,
    OWN,
    SETTINGS,
    SWITCH,
    TEXT,
    SceneOptions,
    check_settings,
    scene_options,
)

VALUES = {NUMBER: ("5", "-1.5", "1e3", "5M", "500KiB"), TEXT: ("any", "", "a=b")}


def accepted(key, allowed):
    words = VALUES.get(allowed) or allowed.split()
    joined = key not in OWN and allowed not in {NUMBER, TEXT, SWITCH}
    return [*words, *(["+".join(words), "-" + words[0]] if joined else [])]


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_setting_accepts_every_value_that_it_lists(kind):
    for key, allowed in SETTINGS[kind].items():
        for value in accepted(key, allowed):
            check_settings(kind, [(key, value)], "source 'a'")


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_source_has_a_rate_and_a_start(kind):
    assert {"fps", "start_time"} <= SETTINGS[kind].keys()
    for key in ("open_s", "read_s", "stall_s", "retry_s"):
        assert (key in SETTINGS[kind]) == (kind in {"camera", "rtsp", "http"})
    for key in ("user", "password", "password_file"):
        assert (key in SETTINGS[kind]) == (kind in {"rtsp", "http"})
    assert ("hwaccel" in SETTINGS[kind]) == (kind not in {"images", "synthetic"})


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("file", "fsp", "5", "source 'a' has no setting 'fsp'; did you mean fps?"),
        ("file", "fps", "five", "source 'a': fps=five is not a number; expected digits, such as"),
        ("rtsp", "rtsp_transport", "tpc", "source 'a': rtsp_transport=tpc: unknown value 'tpc'"),
        ("file", "fflags", "+nobuffer+x", "fflags=+nobuffer+x: unknown value 'x'"),
        ("images", "open_s", "5", "source 'a' has no setting 'open_s'"),
        ("images", "hwaccel", "auto", "source 'a' has no setting 'hwaccel'"),
        ("http", "transport", "tcp", "source 'a' has no setting 'transport'"),
        ("rtsp", "transport", "tcp+udp", "transport=tcp+udp: unknown value 'tcp+udp'"),
        ("rtsp", "hwaccel", "cudo", "unknown value 'cudo'; did you mean cuda?"),
    ],
)
def test_an_unknown_setting_or_value_is_refused_by_name(kind, key, value, message):
    with pytest.raises(UsageError) as error:
        check_settings(kind, [(key, value)], "source 'a'")
    assert message in str(error.value)


def test_a_scene_without_settings_has_the_defaults():
    assert scene_options("synthetic:") == scene_options("synthetic:walkers") == SceneOptions()


def test_the_settings_of_a_scene_are_read():
    found = scene_options(
        "synthetic:walkers?seed=3&people=0&size=320X240&fps=25&seconds=2.5&live=1"
    )
    assert found == SceneOptions(
        seed=3, people=0, size=(320, 240), fps=25.0, seconds=2.5, live=True
    )


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("size=640", "size"),
        ("size=8x8", "size"),
        ("people=101", "people"),
        ("seed=-1", "seed"),
        ("speed=2", "speed"),
        ("live=maybe", "live"),
    ],
)
def test_a_setting_of_a_scene_that_is_wrong_is_named(query, words):
    with pytest.raises(UsageError) as error:
        scene_options(f"synthetic:walkers?{query}")
    assert f"source 'synthetic:walkers?{query}'" in str(error.value)
    assert words in str(error.value).rpartition("'")[2] or f"'{words}'" in str(error.value)


def test_another_scene_is_refused_with_the_one_that_there_is():
    with pytest.raises(UsageError, match="no scene 'cars'; there is only 'walkers'"):
        scene_options("synthetic:cars")
