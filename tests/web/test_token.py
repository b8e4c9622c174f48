"""Token files, cookies and guesses."""

import os
import stat

import pytest

from streamvis.errors import UsageError
from streamvis.web import token
from streamvis.web.token import Logins, read_token


def test_a_token_is_created_once_and_for_the_owner_alone(tmp_path):
    path = tmp_path / "token"
    made = read_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made) >= 32
    assert read_token(path) == made


@pytest.mark.parametrize(
    ("text", "mode", "word"),
    [
        ("a" * 32, 0o640, "expected 600"),
        ("a" * 32, 0o604, "expected 600"),
        ("short", 0o600, "16 to 256 characters"),
        ("", 0o600, "no token"),
        ("a" * 1000, 0o600, "no token"),
        ("a b" * 10, 0o600, "without spaces"),
        ("é" * 32, 0o600, "no token"),
    ],
)
def test_a_file_that_is_no_token(tmp_path, text, mode, word):
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(UsageError) as told:
        read_token(path)
    assert word in str(told.value)
    assert not text or text not in str(told.value)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nowhere" / "token"):
        with pytest.raises(UsageError):
            read_token(path)


class Clock:
    now = 1e9

    def __call__(self):
        return self.now


def test_a_cookie_counts_until_it_expires_and_for_its_token_alone():
    clock = Clock()
    logins, others = Logins("a" * 32, clock), Logins("b" * 32, clock)
    cookie = logins.cookie()
    assert logins.is_cookie(cookie)
    assert Logins("a" * 32, clock).is_cookie(cookie)  # after a restart
    assert not others.is_cookie(cookie)
    clock.now += token.SESSION_S - 1
    assert logins.is_cookie(cookie)
    clock.now += 1
    assert not logins.is_cookie(cookie)


def test_after_five_wrong_tokens_one_is_looked_at_in_six_seconds():
    clock = Clock()
    logins = Logins("a" * 32, now=clock)
    tried = 0
    for _ in range(600):  # a minute
        if logins.wait_s("192.0.2.1") == 0:
            assert not logins.is_token("x", "192.0.2.1")
            tried += 1
        clock.now += 0.1
    assert tried == pytest.approx(5 + 60 / 6, abs=1)
    assert logins.wait_s("192.0.2.2") == 0
    clock.now += 60
    assert logins.wait_s("192.0.2.1") == 0
    assert logins.is_token("a" * 32, "192.0.2.1")


def test_a_wall_clock_that_is_set_back_makes_no_guess_wait():
    wall, clock = Clock(), Clock()
    logins = Logins("a" * 32, wall, clock)
    for _ in range(5):
        assert not logins.is_token("x", "192.0.2.1")
    wall.now -= 3600
    assert logins.wait_s("192.0.2.1") == pytest.approx(6)
    clock.now += 6
    assert logins.wait_s("192.0.2.1") == 0


def test_addresses_of_one_network_share_their_guesses_and_are_bounded(monkeypatch):
    monkeypatch.setattr(token, "ADDRESSES", 10)
    logins = Logins("a" * 32, now=Clock())
    for number in range(5):
        logins.is_token("x", f"2001:db8::{number}")
    assert logins.wait_s("2001:db8::ffff") > 0
    assert logins.wait_s("2001:db8:0:1::1") == 0
    for number in range(20):
        logins.is_token("x", f"192.0.2.{number}")
    assert len(logins._full_at) == 10
    assert logins.wait_s("not an address") == 0
