from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamvis.sources.loss_counter import MOST_DUE, LossCounter, MatchedPacket


def through(
    counter: LossCounter, packets, *, held: int, delay: int = 0, lost=()
) -> list[MatchedPacket]:
    """Send (pts, dts) packets; a decoder gives pictures by pts, `held` packets late."""
    found = []
    inside: list[tuple[int, int]] = []

    def give(dts):
        picture = inside.pop(inside.index(min(inside)))
        found.append(counter.match_picture(picture[0], dts, delay))

    for pts, dts in packets:
        counter.add_packet(pts, dts)
        inside += [] if pts in lost else [(pts, dts)]
        if len(inside) > held:
            give(dts)
    while inside:
        give(None)
    return found


def reordered(groups: int, step: int = 1, delay: int = 2) -> list[tuple[int, int]]:
    """Packets of B-pictures: I3B1B2 … with a decoding stamp `delay` pictures before."""
    order = [4 * group + k for group in range(groups) for k in (0, 3, 1, 2)]
    return [(step * pts, step * (n - delay)) for n, pts in enumerate(order)]


@given(st.lists(st.booleans(), min_size=1), st.integers(0, 3), st.sampled_from([1, 3, 40]))
def test_every_lost_picture_is_counted_once(kept, held, step):
    """Stamps go in; those kept come out `held` packets later, in order."""
    counter = LossCounter(trusted=True)
    packets = [(step * n, step * n) for n in range(len(kept))]
    lost = {step * n for n, keep in enumerate(kept) if not keep}
    found = through(counter, packets, held=held, lost=lost)
    assert [came.stamp for came in found] == [pts for pts, _ in packets if pts not in lost]
    assert sum(came.lost for came in found) + counter.outstanding() == kept.count(False)


@given(st.integers(1, 10), st.sampled_from([1, 40, 10**6]), st.integers(2, 8))
def test_reordered_packets_lose_nothing_whatever_the_rate(groups, step, held):
    counter = LossCounter(trusted=True)
    found = through(counter, reordered(groups, step), held=held, delay=16)
    assert found == [MatchedPacket(step * n, 0, restarted=False) for n in range(4 * groups)]
    assert counter.outstanding() == 0


def test_a_picture_lost_among_reordered_ones_is_counted_in_its_place():
    counter = LossCounter(trusted=True)
    found = through(counter, reordered(5), held=2, delay=16, lost=[9])
    assert [came.stamp for came in found] == [n for n in range(20) if n != 9]
    assert [came.stamp for came in found if came.lost] == [10]


@given(st.integers(1, 10), st.integers(2, 8), st.booleans())
def test_stamps_of_decoding_are_put_in_order(groups, held, known):
    """As of AVI, and of MP4 made of bare streams: pictures come by stamps that are not sent."""
    counter = LossCounter(trusted=True, decoding=known)
    order = [pts for pts, _ in reordered(groups)]
    inside, found = [], []
    for n, shown in enumerate(order):
        counter.add_packet(n, n)
        inside.append((shown, n))
        if len(inside) > held:
            found.append(counter.match_picture(inside.pop(inside.index(min(inside)))[1], n, 16))
    found += [counter.match_picture(stamp, None, 16) for _, stamp in sorted(inside)]
    assert found == [MatchedPacket(n, 0, restarted=False) for n in range(4 * groups)]
    assert counter.outstanding() == 0


def test_with_stamps_of_decoding_a_lost_picture_is_missed_when_its_delay_is_over():
    counter = LossCounter(trusted=True, decoding=True)
    found = []
    for n in range(10):
        counter.add_packet(n, n)
        if n not in {4, 5}:
            found.append(counter.match_picture(n, n, delay=0))
    assert [came.stamp for came in found] == [n for n in range(10) if n not in {4, 5}]
    assert [came.lost for came in found] == [0, 0, 0, 0, 2, 0, 0, 0]


def test_with_stamps_of_decoding_reordered_pictures_that_are_lost_are_missed_at_the_key_frame():
    counter = LossCounter(trusted=True, decoding=True)
    inside, found = [], []
    for n, (shown, _) in enumerate(reordered(4)):
        counter.add_packet(n, n, key=shown in {0, 8})
        inside += [] if shown in {2, 5} else [(shown, n)]
        if len(inside) > 2:
            found.append(counter.match_picture(inside.pop(inside.index(min(inside)))[1], n, 16))
    found += [counter.match_picture(stamp, None, 16) for _, stamp in sorted(inside)]
    assert [came.lost for came in found] == [0] * 6 + [2] + [0] * 7
    assert [came.stamp for came in found[6:]] == list(range(8, 16))


def test_stamps_that_only_grow_are_believed_when_pictures_do_not_contradict_them():
    counter = LossCounter(trusted=True)
    found = through(counter, [(n, n) for n in range(60)], held=2, delay=16, lost=[20])
    assert all(a.stamp < b.stamp for a, b in pairwise(found))
    assert sum(came.lost for came in found) == 1
    assert [came.stamp for came in found[-20:]] == list(range(40, 60))


def test_stamps_that_start_again_lose_nothing():
    for count in (2, 12, 100):
        counter = LossCounter(trusted=True)
        out = iter([*range(count), *range(50)])
        found = []
        for number, stamp in enumerate([*range(count), *range(50)]):
            counter.add_packet(stamp, stamp, key=stamp == 0)
            if number >= 3:  # the decoder still holds old pictures when the new stamps arrive
                found.append(counter.match_picture(next(out), None, 0))
        found += [counter.match_picture(stamp, None, 0) for stamp in out]
        assert [came.restarted for came in found].index(True) == count
        assert sum(came.restarted for came in found) == 1
        assert (sum(came.lost for came in found), counter.outstanding()) == (0, 0)


def test_pictures_whose_references_lie_before_a_cut_are_not_lost():
    counter = LossCounter(trusted=True)
    for pts, dts in ((8, 2), (6, 3), (7, 4), (12, 5), (10, 6)):  # 6 and 7 need what came before 8
        counter.add_packet(pts, dts)
    assert counter.match_picture(8, 5, 16) == MatchedPacket(8, 0, restarted=False)
    assert counter.match_picture(10, 6, 16) == MatchedPacket(10, 0, restarted=False)


def test_without_stamps_nothing_is_counted():
    counter = LossCounter(trusted=True)
    counter.add_packet(0, 0)
    counter.add_packet(None, None)
    assert (counter.trusted, counter.partial) == (False, True)
    assert (counter.match_picture(5, 5, 0), counter.outstanding()) == (
        MatchedPacket(5, 0, restarted=False),
        0,
    )


def test_a_decoder_that_gives_nothing_does_not_fill_the_memory():
    counter = LossCounter(trusted=True)
    for n in range(MOST_DUE + 10):
        counter.add_packet(n, n)
    assert len(counter._due) == MOST_DUE
    assert counter.outstanding() == MOST_DUE + 10
