"""No user name or password is shown, and those that break an address are recognised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.sources.credentials import ENCODE, is_cut, redacted, without_credentials


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
