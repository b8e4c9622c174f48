"""Recorded pictures over HTTP: the right one, masked as in the run, of an unchanged file."""

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from event_logs import WALK, logged
from waiting import PATIENCE_S
from web_servers import serving, wait_for

from streamvis.events.log import FILE_NAME
from streamvis.runtime.decode import jpeg
from streamvis.runtime.opened import OPENED, OpenedWriter
from streamvis.sources import SourceSpec, open_source
from streamvis.sources.privacy import COLOUR, hide
from streamvis.web import app, open_recordings, recorded

sys.path.append(str(Path(__file__).parents[1] / "sources"))

from films import Film, number, write

LEFT = ((0.0, 0.0), (0.4, 0.0), (0.4, 1.0), (0.0, 1.0))
FILM = Film("mp4", "h264", reorder=True, fps="variable", frames=40)


@pytest.fixture
def spec(tmp_path):
    write(FILM, tmp_path / "film.mp4")
    return SourceSpec(id="cam1", uri=str(tmp_path / "film.mp4"), kind="file")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    logged(tmp_path / "out" / FILE_NAME, "cam1", WALK)
    return tmp_path / "out"


def opened(out, *specs):
    for epoch, spec in enumerate(specs, start=1):
        OpenedWriter(out).note(spec, epoch)


def seen_by_a_run(spec):
    source = open_source(spec)
    try:
        return [(one.media_us, np.array(one.pixels)) for one in source]
    finally:
        source.close()


def shown(reply):
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "image/jpeg"
    pixels = cv2.imdecode(np.frombuffer(reply.body, np.uint8), cv2.IMREAD_COLOR_RGB)
    return int(reply.headers["x-streamvis-media-us"]), pixels


def picture(client, media_us, source="cam1", more=""):
    return client.get(f"/api/picture/{source}?media_us={media_us}{more}")


def test_each_media_time_has_its_picture(out, spec):
    opened(out, spec)
    seen = seen_by_a_run(spec)
    with serving(out) as client:
        for n, (media_us, pixels) in reversed(list(enumerate(seen))):
            reply = picture(client, media_us + 3)
            assert shown(reply)[0] == media_us
            assert reply.headers["x-streamvis-size"] == "160x96"
            assert reply.body == jpeg(pixels)
            assert number(shown(reply)[1]) == n


def test_masks_are_filled_as_in_the_run(out, spec):
    spec = msgspec.structs.replace(spec, privacy_masks=(LEFT,))
    opened(out, spec)
    media_us, pixels = seen_by_a_run(spec)[7]
    hide(pixels, spec.privacy_masks)
    with serving(out) as client:
        reply = picture(client, media_us)
        assert reply.body == jpeg(pixels)
        left = shown(reply)[1][:, : int(0.4 * 160)]
        assert np.abs(left.astype(int) - COLOUR).max() < 10


def test_a_source_that_was_another_one_before(out, spec):
    masked = msgspec.structs.replace(spec, privacy_masks=(LEFT,))
    opened(out, spec, masked)
    with serving(out) as client:
        before, after = (picture(client, 0, more=f"&stream_epoch={epoch}") for epoch in (1, 2))
        assert picture(client, 0).body == after.body != before.body
        assert picture(client, 0, more="&stream_epoch=0").status == 409


def test_without_the_masks_of_the_run_there_is_no_picture(out, spec):
    with serving(out) as client:
        error = picture(client, 0)
        assert error.status == 409
        assert "not known what was hidden" in error.error["found"]
        assert "run it again" in error.error["to_do"]
        assert OPENED in error.error["expected"]
        (out / OPENED).write_text("{}")
        assert picture(client, 0).status == 404
        opened(out, spec)
        assert picture(client, 0).status == 200


def test_requests_that_are_refused(out, spec):
    live = SourceSpec(id="gate", uri="rtsp://joe:s3cret@10.0.0.2/", kind="url")
    secret = msgspec.structs.replace(spec, id="secret", options={"decryption_key": "s3cret"})
    opened(out, spec, live, secret)
    with serving(out) as client:
        assert picture(client, 0, source="nobody").status == 404
        assert picture(client, 0, source="gate").status == 404
        assert picture(client, 0, source="secret").status == 409
        for query in ("-1", "x", f"{2**64}", "0&media_us=1", "0&path=/etc/passwd"):
            assert picture(client, query).status == 400
        for path in ("..%2Fout", "%2Fetc%2Fpasswd", "..", "cam1%00"):
            assert picture(client, 0, source=path).status in (400, 404)


def test_a_file_that_has_changed(out, spec):
    opened(out, spec)
    path = Path(spec.uri)
    with serving(out) as client:
        first = picture(client, 0)
        os.utime(path, ns=(0, 0))  # copied, perhaps, but the same
        assert picture(client, 0).body == first.body
        path.rename(path.with_name("elsewhere.mp4"))
        error = picture(client, 0)
        assert (error.status, str(path) in error.error["found"]) == (404, True)
        assert "put it back" in error.error["to_do"]
        write(msgspec.structs.replace(FILM, frames=30), path)
        error = picture(client, 0)
        assert (error.status, "has changed" in error.error["found"]) == (404, True)
        path.unlink()
        os.mkfifo(path)
        assert picture(client, 0).status == 404
        path.unlink()
        shutil.move(path.with_name("elsewhere.mp4"), path)
        assert picture(client, 0).body == first.body


def test_images(out, tmp_path):
    folder = tmp_path / "img"
    folder.mkdir()
    for n in range(6):
        cv2.imwrite(str(folder / f"{n}.png"), np.full((20, 30, 3), 40 * n, np.uint8))
    (folder / "3.png").write_bytes(b"damaged")
    spec = SourceSpec(id="cam1", uri=str(folder), kind="images", fps=10.0)
    opened(out, spec)
    with serving(out) as client:
        for n in (5, 0, 4, 2, 3):
            media_us, pixels = shown(picture(client, 100_000 * n))
            there = 2 if n == 3 else n
            assert (media_us, round(pixels.mean())) == (100_000 * there, 40 * there)
        (folder / "5.png").unlink()
        assert "has changed" in picture(client, 0).error["found"]
        shutil.rmtree(folder)
        assert picture(client, 0).status == 404


def test_many_at_once(out, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(open_recordings, "MOST_OPEN", 2)
    names = ("cam1", "cam2", "cam3")
    opened(out, *(msgspec.structs.replace(spec, id=name) for name in names))
    seen = seen_by_a_run(spec)
    with serving(out) as client, ThreadPoolExecutor(6) as pool:
        jobs = [(place, name) for place in range(0, 40, 5) for name in names]
        replies = pool.map(lambda job: picture(client, seen[job[0]][0], job[1]), jobs)
        for (place, _), reply in zip(jobs, replies, strict=True):
            assert reply.body == jpeg(seen[place][1])


def files_of(path):
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.path.lexists(link) and os.readlink(link) == path for link in links)


def test_files_are_closed_when_nobody_looks(out, spec, monkeypatch):
    monkeypatch.setattr(open_recordings, "IDLE_S", 0.05)
    monkeypatch.setattr(app, "TIDY_S", 0.02)
    opened(out, spec)
    with serving(out) as client:
        for _ in range(2):
            assert picture(client, 0).status == 200
            wait_for(lambda: files_of(spec.uri) == 0)


def test_a_picture_that_takes_too_long_comes_later(out, spec, monkeypatch):
    monkeypatch.setattr(recorded, "GIVE_UP_S", 0.0)
    opened(out, spec)
    media_us, pixels = seen_by_a_run(spec)[9]
    with serving(out) as client:
        deadline = time.monotonic() + PATIENCE_S
        while (reply := picture(client, media_us)).status == 503:
            assert "going on" in reply.error["to_do"] or "goes on" in reply.error["to_do"]
            assert reply.headers["retry-after"] == "1"
            assert time.monotonic() < deadline
        assert reply.body == jpeg(pixels)
