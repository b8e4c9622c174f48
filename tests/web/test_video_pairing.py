"""Pictures and tracks in any order and at any time: who watches gets pairs, and never goes back."""

from controlled_runs import picture
from hypothesis import given
from hypothesis import strategies as st

from streamvis.web.video_pairing import HOLD_S, MOST_KEPT, FrameKey, Pairing
from streamvis.web.video_viewer import MOST_UNACKNOWLEDGED, STALE_S, VideoState, Viewer


def frame(n, epoch=1):
    return picture("gate", n, stream_epoch=epoch)


def key(n, epoch=1):
    return FrameKey(epoch, 40_000 * n)


def tracks(n):
    return b"tracks of %d" % n


# frame number, delay of its picture and of its tracks in s; None: they do not come
deliveries = st.lists(
    st.tuples(
        st.none() | st.floats(0, 0.1), st.none() | st.floats(0, 0.1) | st.floats(0, 2 * HOLD_S)
    ),
    max_size=60,
)


@given(deliveries)
def test_every_picture_has_its_own_tracks_or_none_and_is_newer_than_the_one_before(frames):
    moments = []
    for n, (picture_s, tracks_s) in enumerate(frames):
        moments += [(n / 25 + picture_s, n, "picture")] if picture_s is not None else []
        moments += [(n / 25 + tracks_s, n, "tracks")] if tracks_s is not None else []
    pairing, shown = Pairing(), []
    came = {}
    for at, n, kind in sorted(moments):
        while (due := pairing.due()) is not None and due <= at:
            shown.append((due, pairing.overdue(due)))
        if kind == "picture":
            came[n] = at
            shown.append((at, pairing.picture(frame(n), at)))
        else:
            shown.append((at, pairing.tracks(key(n), tracks(n))))
    shown = [(at, one) for at, one in shown if one is not None]
    numbers = [one.picture.n for _, one in shown]
    assert numbers == sorted(set(numbers))
    assert all(one.tracks in (None, tracks(one.picture.n)) for _, one in shown)
    assert all(at - came[one.picture.n] <= HOLD_S + 1e-9 for at, one in shown)
    if came and (due := pairing.due()) is not None:
        shown.append((due, pairing.overdue(due)))
    if came:
        assert shown
        assert pairing.due() is None


@given(st.integers(0, 10), st.booleans())
def test_pictures_are_shown_with_tracks_however_long_the_stages_take(late, first):
    """Once tracks come, each picture is held for them, by the same number of frames."""
    pairing, shown = Pairing(), []
    for n in range(40):
        at = n / 25
        steps = [lambda n=n, at=at: pairing.picture(frame(n), at)]
        if n >= late:
            steps.insert(
                0 if first else 1, lambda n=n: pairing.tracks(key(n - late), tracks(n - late))
            )
        shown += [one for step in steps if (one := step()) is not None]
    with_tracks = [one.picture.n for one in shown if one.tracks is not None]
    assert len(with_tracks) >= 40 - 2 * late - 2
    assert with_tracks == list(range(with_tracks[0], with_tracks[-1] + 1))


def test_pictures_of_a_stream_epoch_are_newer_than_those_of_the_one_before():
    pairing = Pairing()
    assert pairing.picture(frame(9), 0.0).picture.n == 9
    assert pairing.picture(frame(8), 0.1) is None
    assert pairing.picture(frame(1, epoch=2), 0.2).key == key(1, epoch=2)


def test_what_is_kept_is_bounded():
    pairing = Pairing()
    for n in range(10 * MOST_KEPT):
        assert pairing.tracks(key(n), tracks(n)) is None
    for n in range(10 * MOST_KEPT, 20 * MOST_KEPT):
        assert pairing.picture(frame(n), 0.0) is None
    oldest = pairing.overdue(HOLD_S)
    assert oldest.picture.n == 20 * MOST_KEPT - 1
    assert pairing.due() is None


@given(st.lists(st.sampled_from(["offer", "send", "acknowledge", "state", "late"]), max_size=200))
def test_a_viewer_holds_one_picture_and_is_sent_two_at_most(steps):
    viewer, pairing = Viewer(), Pairing()
    sent, acknowledged, n = [], 0, 0
    for at, step in enumerate(steps):
        if step == "offer":
            n += 1
            viewer.offer(pairing.picture(frame(n), at), at)
        elif step == "acknowledge" and len(sent) > acknowledged:
            viewer.acknowledge(sent[acknowledged], at)
            acknowledged += 1
        elif step == "state":
            viewer.tell(VideoState(state="waiting", reason=str(at)))
        elif step == "late":
            for m in range(1, n + 1):
                viewer.late_tracks(key(m), tracks(m))
        elif step == "send":
            messages = viewer.messages(at)
            assert len(messages) <= 1 + MOST_UNACKNOWLEDGED + 1
            new = [int.from_bytes(one[5:13], "little") for one in messages if one[0] == 1]
            assert new in ([], [n])  # the newest one
            sent += new
        assert len(sent) - acknowledged <= MOST_UNACKNOWLEDGED
        assert viewer.credit <= MOST_UNACKNOWLEDGED - (len(sent) - acknowledged)


def test_a_picture_that_has_become_old_gives_way_to_a_new_one():
    viewer, pairing = Viewer(), Pairing()
    for n in (1, 2, 3):
        viewer.offer(pairing.picture(frame(n), 0.0), 0.0)
        assert bool(viewer.messages(0.0)) == (n < 3)
    viewer.acknowledge(1, STALE_S + 0.1)
    assert viewer.messages(STALE_S + 0.1) == []
    assert viewer.credit == 1
