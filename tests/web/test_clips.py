"""Clips over HTTP: those that events name, whole or in parts, and nothing else of the disk."""

import os

import msgspec
import pytest
from event_logs import logged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web_servers import serving

from streamvis.events.log import FILE_NAME
from streamvis.events.source_events import Change, Clip, SourceClip, SourceConnecting
from streamvis.runtime.opened import OPENED, OpenedWriter
from streamvis.sources import SourceSpec

DAY = "clips/gate/2026-11-29"
NAMES = (f"{DAY}/080000-track.begin-abc.mp4", f"{DAY}/080010-action.begin-def.mp4")
OUTSIDE = "../secret.mp4"
CAMERA = SourceSpec(id="gate", uri="rtsp://joe:s3cret@10.0.0.2/", kind="url")
MASKED = msgspec.structs.replace(CAMERA, privacy_masks=(((0, 0), (1, 0), (1, 1)),))


def clip_at(n, path):
    return n, SourceClip(Clip(path=path, event=f"event-{n}"))


@pytest.fixture
def out(tmp_path):
    out = tmp_path / "out"
    (out / DAY).mkdir(parents=True)
    whats = [
        (0, SourceConnecting(Change("start"))),
        clip_at(1, NAMES[0]),
        clip_at(2, NAMES[1]),
        clip_at(3, f"{DAY}/090000-gone.mp4"),
        clip_at(4, OUTSIDE),
        clip_at(5, f"{DAY}/100000-link.mp4"),
        clip_at(6, "clips/gate/linked/110000-there.mp4"),
        clip_at(7, "events.db"),
    ]
    logged(out / FILE_NAME, "gate", whats)
    for n, name in enumerate(NAMES):
        (out / name).write_bytes(bytes([n]) * 1000 + os.urandom(9000))
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (out / DAY / "100000-link.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "110000-there.mp4").write_bytes(b"secret")
    (out / "clips/gate/linked").symlink_to(tmp_path / "elsewhere")
    OpenedWriter(out).note(CAMERA, 1)
    return out


@pytest.fixture
def client(out):
    with serving(out) as client:
        yield client


def test_the_list_has_what_events_name(client):
    page = client.get("/api/clips?source=gate").json
    assert page["next"] is None
    first, second, *rest = page["clips"]
    assert (first["event"], first["media_us"], first["bytes"]) == ("event-1", 40_000, 10_000)
    assert (first["path"], first["url"]) == (NAMES[0], f"/api/{NAMES[0]}?offset=1")
    assert second["url"] == f"/api/{NAMES[1]}?offset=2"
    assert {(one["url"], one["bytes"]) for one in rest} == {("", 0)}
    assert all("not there" in one["reason"] for one in rest)


def test_the_list_is_by_time_and_in_pages(client):
    events = [
        one["event"]
        for one in client.get("/api/clips?source=gate&from_us=80000&to_us=120000").json["clips"]
    ]
    assert events == ["event-2", "event-3"]
    page = client.get("/api/clips?source=gate&limit=2").json
    assert [one["event"] for one in page["clips"]] == ["event-1", "event-2"]
    following = client.get(f"/api/clips?source=gate&limit=2&cursor={page['next']}").json
    assert [one["event"] for one in following["clips"]] == ["event-3", "event-4"]
    assert len(client.get("/api/clips").json["clips"]) == 7
    assert client.get("/api/clips?source=nobody").status == 404
    assert client.get("/api/clips?from_us=1").status == 400


def test_a_clip_is_served_whole(client, out):
    for name, offset in zip(NAMES, (1, 2), strict=True):
        reply = client.get(f"/api/{name}?offset={offset}")
        assert (reply.status, reply.headers["content-type"]) == (200, "video/mp4")
        assert reply.headers["accept-ranges"] == "bytes"
        assert reply.body == (out / name).read_bytes()
        head = client.ask("HEAD", f"/api/{name}?offset={offset}")
        assert (head.status, head.headers["content-length"], head.body) == (200, "10000", b"")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.integers(0, 10_500), st.one_of(st.none(), st.integers(0, 20_000)))
def test_a_part_of_a_clip(client, out, first, last):
    data = (out / NAMES[0]).read_bytes()
    text = f"bytes={first}-{'' if last is None else last}"
    reply = client.get(f"/api/{NAMES[0]}?offset=1", Range=text)
    if last is not None and last < first:
        assert reply.status in (200, 400, 416)
    elif first >= len(data):
        assert reply.status == 416
        assert reply.headers["content-range"] == "bytes */10000"
    else:
        end = len(data) if last is None else min(last + 1, len(data))
        assert reply.status == 206
        assert reply.headers["content-range"] == f"bytes {first}-{end - 1}/10000"
        assert reply.body == data[first:end]


def test_the_end_of_a_clip_and_ranges_that_are_none(client, out):
    data = (out / NAMES[0]).read_bytes()
    address = f"/api/{NAMES[0]}?offset=1"
    assert client.get(address, Range="bytes=-10").body == data[-10:]
    for text in ("bytes=", "bytes=x-", "lines=0-1", "bytes=0-1,4-5", "bytes=--1", "0-1"):
        reply = client.get(address, Range=text)
        assert (reply.status, reply.body) == (200, data), text
    tag = client.get(address).headers["etag"]
    part = {"Range": "bytes=0-4"}
    assert client.get(address, If_Range=tag, **part).status == 206
    assert client.get(address, If_Range='"other"', **part).status == 200


@pytest.mark.parametrize(
    "path",
    [
        f"{NAMES[0]}?offset=2",  # an event that names another one
        f"{NAMES[0]}?offset=0",
        f"{NAMES[0]}?offset=99",
        f"{DAY}/090000-gone.mp4?offset=3",
        f"{DAY}/100000-link.mp4?offset=5",
        "clips/gate/linked/110000-there.mp4?offset=6",
        "clips/gate/../../secret.mp4?offset=4",
        "clips/gate/%2e%2e/%2e%2e%2fsecret.mp4?offset=4",
        "clips/gate/..%2f..%2f/secret.mp4?offset=4",
        "clips/gate/2026-11-29/..%2f..%2f..%2fevents.db?offset=7",
        "clips/..%2f..%2fout/2026-11-29/events.db?offset=7",
        "clips/gate/2026-11-29/%00?offset=1",
    ],
)
def test_what_is_not_served(client, path):
    reply = client.get(f"/api/{path}")
    assert reply.status in (400, 404)
    assert b"secret" not in reply.body.replace(b"secret.mp4", b"")


def test_a_clip_needs_its_event(client):
    assert client.get(f"/api/{NAMES[0]}").status == 400


def test_clips_of_a_source_with_masks_are_refused(client, out):
    OpenedWriter(out).note(MASKED, 2)
    refused = client.get(f"/api/{NAMES[0]}?offset=1")
    assert refused.status == 409
    assert "without the privacy masks" in refused.error["found"]
    (first, *_) = client.get("/api/clips?source=gate").json["clips"]
    assert (first["url"], first["bytes"]) == ("", 0)
    assert "without the privacy masks" in first["reason"]
    OpenedWriter(out).note(CAMERA, 3)  # which may have had them when the clip was recorded
    assert client.get(f"/api/{NAMES[0]}?offset=1").status == 409


def test_clips_of_a_source_that_is_not_known_are_refused(client, out):
    (out / OPENED).unlink()
    refused = client.get(f"/api/{NAMES[0]}?offset=1")
    assert refused.status == 409
    assert "not known whether" in refused.error["found"]
