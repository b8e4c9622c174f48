"""The exposition is read back by Prometheus' own parser, and compared with the status."""

import re

import msgspec
import pytest
from status_samples import DISK, GATE, STATUS, USAGES, scraped, source, stage

from streamvis import __version__
from streamvis.messages import LineGauges, SourceGauges, ZoneGauges
from streamvis.runtime.metrics import BOUNDS_S, Status
from streamvis.runtime.prometheus import MOST_SHAPES, MOST_SOURCES, exposition, families


def samples(status=STATUS, usages=USAGES, disk=DISK, age_s=0.5):
    return scraped(exposition(status, usages, disk, age_s).decode())


@pytest.fixture(scope="module")
def found():
    return samples()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_frames_decoded_total", 120),
        ("source_frames_admitted_total", 100),
        ("source_frames_skipped_total", 40),
        ("source_frames_suspect_total", 7),
        ("source_frames_poisoned_total", 1),
        ("source_decode_errors_total", 4),
        ("source_reconnects_total", 5),
        ("source_connect_attempts", 0),
        ("source_restarts_total", 2),
        ("source_stream_epoch", 6),
        ("source_state_seconds", 61.5),
        ("source_declared_hertz", 25),
        ("source_measured_hertz", 12.5),
        ("source_clock_offset_seconds", 0.08),
        ("source_clock_drift_ratio", -25e-6),
        ("source_recorded_bytes_total", 5_000_000),
    ],
)
def test_numbers_of_a_source_are_in_base_units(found, name, value):
    assert found[name, "gate"] == pytest.approx(value)


def test_decoded_is_the_sum_of_admitted_and_dropped_whatever_the_reason(found):
    dropped = {
        k[2]: v for k, v in found.items() if k[:2] == ("source_frames_dropped_total", "gate")
    }
    assert dropped == {"overload": 15, "drained": 3, "poison": 0, "other": 2}
    decoded = found["source_frames_decoded_total", "gate"]
    assert decoded == found["source_frames_admitted_total", "gate"] + sum(dropped.values())


@pytest.mark.parametrize(
    ("name", "state"), [("gate", "online"), ("yard", "offline"), ("tape", "ended")]
)
def test_exactly_one_state_of_a_source_is_1(found, name, state):
    states = {k[2]: v for k, v in found.items() if k[:2] == ("source_state", name)}
    assert [one for one, value in states.items() if value == 1] == [state]
    assert set(states.values()) == {0, 1}
    assert len(states) == 5


def test_what_is_unknown_has_no_sample(found):
    assert ("source_measured_hertz", "yard") not in found
    assert ("source_clock_offset_seconds", "yard") not in found
    assert not [key for key in found if key[:2] == ("source_clock", "yard")]
    assert found["source_clock", "gate", "rtcp_sr"] == 1


def test_ages_are_a_cumulative_histogram_in_seconds(found):
    buckets = [found["source_age_seconds_bucket", "gate", f"{b:g}"] for b in (0.05, 0.25, 30)]
    assert buckets == [0, 1, 2]
    assert found["source_age_seconds_bucket", "gate", "+Inf"] == 3
    assert found["source_age_seconds_count", "gate"] == 3
    assert found["source_age_seconds_sum", "gate"] == pytest.approx(45.5)
    assert ("source_age_seconds_count", "tape") not in found  # a file has none
    assert found["source_latency_seconds_count", "tape"] == 1


def test_stages_processes_disk_and_build(found):
    assert found["stage_packets_total", "detect"] == 110
    assert found["stage_packets_skipped_total", "detect"] == 5
    assert found["stage_queue_packets", "detect"] == 3
    assert found["stage_restarts_total", "detect"] == 1
    assert (found["stage_workers", "detect"], found["stage_ready_workers", "detect"]) == (2, 2)
    assert found["stage_service_seconds_count", "publish"] == 1
    assert found["process_resident_memory_bytes", "detect.0"] == 900_000_000
    assert found["process_open_fds", "hub"] == 40
    assert found["process_threads", "detect.0"] == 9
    assert found["process_cpu_seconds_total", "detect.0"] == 3000
    assert found["out_free_bytes",] == 20e9
    assert found["refused_messages_total",] == 9
    assert found["feed_refused_total", "unknown_key"] == 4
    assert found["feed_refused_total", "malformed"] == 0
    assert found["status_age_seconds",] == 0.5
    assert [key for key in found if key[0] == "build_info" and __version__ in key]


def test_zones_and_lines(found):
    assert found["zone_people", "gate", "door"] == 2
    assert found["zone_expected_people", "gate", "door"] == 2.13
    assert found["zone_occupied_probability", "gate", "door"] == 0.99
    assert found["zone_longest_stay_seconds", "gate", "door"] == 35.5
    assert found["zone_entries", "gate", "door"] == 214
    assert found["zone_people", "gate", "hall"] == 0
    crossings = {k[2:]: v for k, v in found.items() if k[0] == "line_crossings"}
    assert sorted(crossings.values()) == [87, 91]
    assert {frozenset(key) for key in crossings} == {
        frozenset({"line 1", "in"}),
        frozenset({"line 1", "out"}),
    }


def test_many_zones_are_a_bounded_number_of_series_and_each_source_has_some():
    count = 2 * MOST_SHAPES
    zones = {f"z{n}": ZoneGauges(1, 1.0, 1.0, 1.0, 1) for n in range(count)}
    lines = {f"l{n}": LineGauges(1, 1) for n in range(count)}
    status = msgspec.structs.replace(
        STATUS,
        gauges={
            "gate": SourceGauges(zones, lines),
            "yard": SourceGauges({"door": ZoneGauges(1, 1.0, 1.0, 1.0, 1)}, {}),
            "not a source": SourceGauges(zones, lines),
        },
    )
    found = samples(status)
    assert sum(key[0] == "zone_people" for key in found) == MOST_SHAPES
    assert sum(key[0] == "line_crossings" for key in found) == 2 * MOST_SHAPES
    assert found["zone_people", "yard", "door"] == 1
    assert not [key for key in found if "not a source" in key]


def test_without_an_output_directory_there_is_no_disk():
    found = samples(disk=None)
    assert not [key for key in found if key[0].startswith("out_")]


def test_names_follow_the_conventions_and_have_help():
    for family in families(STATUS, USAGES, DISK, 0.0):
        assert re.fullmatch(r"streamvis_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|us|minutes|mb|percent|fps)(_|$)", family.name)
        if family.type == "counter":
            assert all(sample.name == f"{family.name}_total" for sample in family.samples)
        else:
            assert not family.name.endswith(("_total", "_count"))


def test_a_family_is_there_before_anything_is_known():
    nothing = Status(wall_s=0.0, sources=[], stages=[])
    names = [family.name for family in families(nothing, {}, None, 0.0)]
    assert names == [family.name for family in families(STATUS, USAGES, DISK, 0.0)]
    assert len(names) == len(set(names))


def test_many_sources_and_reasons_make_a_bounded_number_of_series():
    gone = [source(f"old-{n}", state="ended") for n in range(2 * MOST_SOURCES)]
    odd = source("odd", state="online", dropped={f"reason {n}": 1 for n in range(500)})
    status = msgspec.structs.replace(STATUS, sources=[*gone, odd, GATE])
    found = samples(status)
    ids = {key[1] for key in found if key[0] == "source_frames_decoded_total"}
    assert len(ids) == MOST_SOURCES
    assert {"odd", "gate"} <= ids
    assert found["source_frames_dropped_total", "odd", "other"] == 500
    assert sum(key[:2] == ("source_frames_dropped_total", "odd") for key in found) == 4


def test_a_state_that_is_not_known_here_is_no_error():
    found = samples(Status(wall_s=0.0, sources=[source("a", state="new")], stages=[stage("s")]))
    assert {v for k, v in found.items() if k[:2] == ("source_state", "a")} == {0}


def test_a_label_may_hold_any_text():
    """Names of stages come from a file of the user."""
    odd = 'a "b\\\n#'
    found = samples(Status(wall_s=0.0, sources=[], stages=[stage(odd)]))
    assert found["stage_workers", odd] == 1


def test_bounds_rise():
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))
