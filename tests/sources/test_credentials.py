"""No user name or password is shown, and those that break an address are recognised."""

import base64
import re
import stat
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtsp_server import Camera, encode_film, serving

from streamvis.errors import SourceError, UsageError
from streamvis.sources import open_source, resolve
from streamvis.sources.credentials import (
    ENCODE,
    is_cut,
    password_in,
    redacted,
    with_credentials,
    without_credentials,
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://joe:secret@host:554/live", "rtsp://host:554/live"),
        ("rtsp://joe:a/b@c@host/live", "rtsp://host/live"),
        ("http://host/live?user=joe&x=secret", "http://host/live?…"),
        ("http://host/user=joe/password=secret", "http://host/…"),
        ("rtsp://[::1]:554/live", "rtsp://[::1]:554/live"),
    ],
)
def test_a_url_is_shown_without_user_password_and_query(url, shown):
    assert without_credentials(url) == shown
    assert without_credentials(shown.removesuffix("?…")) == shown.removesuffix("?…")


@given(st.text(min_size=1), st.text(min_size=1))
def test_nothing_before_the_last_at_sign_is_shown(user, password):
    assert without_credentials(f"rtsp://{user}:{password}@host/live") == "rtsp://host/live"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gate=rtsp://joe:secret@host/live", "gate=rtsp://host/live"),
        ("rtsp://joe:secret@host/live", "rtsp://host/live"),
        ("gate=street.mp4", "gate=street.mp4"),
        ("a@b.mp4", "a@b.mp4"),
        ("rtsp:/joe:secret@host/live", "rtsp://host/live"),
        ("gate=HTTP:joe:secret@host/live", "gate=HTTP://host/live"),
        ("rtsp://host/live#read_s=3&password=secret", "rtsp://host/live#read_s=3&…"),
        ("rtsp://host/live#user=joe&password=p@ss", "rtsp://…"),
    ],
)
def test_an_argument_keeps_its_id_and_a_path_stays_as_it_is(text, shown):
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("url", "cut"),
    [
        ("rtsp://joe:a%2Fb@host/live", "no"),
        ("rtsp://host/live", "no"),
        ("http://host/@joe", "no"),
        ("http://host:80/@joe", "perhaps"),
        ("rtsp://joe:1/b@host", "perhaps"),
        ("rtsp://joe:a/b@host", "yes"),
        ("rtsp://joe:a?b@host", "yes"),
        ("rtsp://joe:a#b@host", "yes"),
        ("rtsp://[::1]:80/@joe", "perhaps"),
    ],
)
def test_a_password_that_ends_the_authority_is_recognised(url, cut):
    assert is_cut(url) == cut


def test_the_advice_gives_the_percent_encoding_of_each_character():
    words = ENCODE.partition("write ")[2].split(", ")
    assert [word.split(" for ") for word in words] == [[f"%{ord(c):02X}", c] for c in "#/?@%"]


ODD = ["p@:#%/?ss", "100%25", "пароль ß", "a+b c&d=e", "ends in @", "%", "$&'()*+,;=!~\"\\"]


@pytest.mark.parametrize("password", ODD)
@pytest.mark.parametrize("written", ["address", "settings", "file"])
def test_any_password_is_the_same_in_the_address_as_a_setting_and_in_a_file(
    tmp_path, password, written
):
    texts = {
        "address": f"rtsp://j%C3%B6e:{quote(password, safe='')}@host:554/live",
        "settings": f"rtsp://host:554/live#user=j%C3%B6e&password={quote(password, safe='')}",
        "file": f"rtsp://host:554/live#user=jöe&password_file={secret(tmp_path, password)}",
    }
    (spec,) = resolve([f"gate={texts[written]}"])
    login, _, host = spec.uri.removeprefix("rtsp://").rpartition("@")
    assert host == "host:554/live"
    assert list(map(unquote, login.split(":"))) == ["jöe", password]
    assert spec.label == "rtsp://host:554/live"
    assert password not in repr(spec)
    assert spec.options == {}


def secret(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(mode)
    return path


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=":")),
    st.text(st.characters(exclude_categories=[])),
)
def test_the_address_holds_what_was_given_and_the_label_nothing_of_it(user, password):
    try:
        url = with_credentials("http://host/a@b?c", user, password, "source 'a'")
    except UsageError as error:
        assert re.search("control character|longer than|half of", str(error))  # noqa: PT017
        return
    login = url.removeprefix("http://").removesuffix("@host/a@b?c")
    parts = [unquote(part, errors="surrogateescape") for part in login.split(":")]
    assert parts == [user, password]
    assert is_cut(f"http://{login}@host/") == "no"


@pytest.mark.parametrize(
    ("url", "user", "password", "message"),
    [
        ("rtsp://joe@host", "jim", None, "has a user in its address and as `user`"),
        ("rtsp://joe:pw1@host", None, "pw2", "has a password in its address and another"),
        ("rtsp://host", None, "pw2", "has a password without a user; add `user`"),
        ("rtsp://host", "j:oe", "pw2", "`user` has a ':', which ends a user name"),
        ("rtsp://host", "joe", "pw2\r\nX: y", "`password` has a control character"),
        ("rtsp://host", "joe", "pw2\ud800", "`password` has half of a surrogate pair"),
        ("rtsp://host", "joe", "pw2" + "x" * 121, "at most 127 bytes"),
        ("rtsp://host", "joe", "pw2" + "@" * 41, "at most 127 bytes"),
        ("http://host", "joe", "pw2" + "x" * 1017, "at most 1023 bytes"),
    ],
)
def test_what_cannot_be_sent_is_refused_without_the_password(url, user, password, message):
    with pytest.raises(UsageError) as error:
        with_credentials(url, user, password, "source 'a'")
    assert message in str(error.value)
    assert "pw" not in str(error.value)


def test_a_user_in_the_address_may_have_its_password_apart():
    assert with_credentials("rtsp://jo%40e@host/a", None, "pw", "") == "rtsp://jo%40e:pw@host/a"
    assert with_credentials("rtsp://host/a", "joe", None, "") == "rtsp://joe:@host/a"


def test_bytes_of_another_encoding_are_kept(tmp_path):
    path = tmp_path / "password"
    path.write_bytes("größer".encode("latin-1"))
    password = password_in(path, "source 'a'")
    assert with_credentials("rtsp://h", "joe", password, "") == "rtsp://joe:gr%F6%DFer@h"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has 0 lines and 0 bytes; expected one line"),
        (b"\n", "has 1 lines"),
        (b"geheim\ngeheim\n", "has 2 lines"),
        (b"geheim" * 1000, "4097 bytes"),
    ],
)
def test_a_file_without_one_password_is_refused(tmp_path, content, words):
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        password_in(path, "source 'a'")
    assert words in str(error.value)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("name", ["absent", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"source 'a': password_file .*: "):
        password_in(tmp_path / name, "source 'a'")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o644, 0o604, 0o660, 0o755])
def test_a_password_that_others_may_read_is_warned_of(tmp_path, capsys, mode):
    path = secret(tmp_path, "pw", mode)
    password_in(path, "source 'a'")
    warned = f"has the mode {mode:04o}; expected 0600 or 0640" in capsys.readouterr().err
    assert warned == bool(mode & ~(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP))


@contextmanager
def camera(**how):
    """A camera that wants a login and then sends the pictures of a short film."""
    film = encode_film([np.full((64, 64, 3), 40 * n, np.uint8) for n in range(5)], fps=25)
    with serving(Camera(films=[film], fps=200, **how)) as server:
        yield f"rtsp://127.0.0.1:{server.port}/main"


@pytest.mark.parametrize("auth", ["basic", "digest"])
@pytest.mark.parametrize("password", [*ODD, "x" * (127 - len("jöe:".encode()))])
def test_a_camera_accepts_the_password(tmp_path, auth, password):
    with camera(auth=auth, user="jöe", password=password) as url:
        (spec,) = resolve([f"{url}#user=jöe&password_file={secret(tmp_path, password)}"])
        source = open_source(spec)
        assert source.info.live
        source.close()


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_a_wrong_password_is_told_without_it(tmp_path, auth):
    with camera(auth=auth, user="joe", password="right") as url:
        (spec,) = resolve([f"{url}#user=joe&password=wrong"])
        with pytest.raises(SourceError, match="wants a user and password") as error:
            open_source(spec)
    assert "wrong" not in str(error.value).replace("are wrong", "")


@pytest.mark.parametrize("password", ODD)
def test_a_web_server_gets_the_password(tmp_path, password):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            login = self.headers.get("Authorization", "")
            asked.append(base64.b64decode(login.removeprefix("Basic ")).decode())
            self.send_response(404 if login else 401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        path = secret(tmp_path, password)
        url = f"http://127.0.0.1:{server.server_port}/a.mjpg#user=jöe&password_file={path}"
        with pytest.raises(SourceError, match="does not know this path"):
            open_source(*resolve([url]))
        server.shutdown()
        thread.join()
    assert f"jöe:{password}" in asked
