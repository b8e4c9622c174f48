from hypothesis import given
from hypothesis import strategies as st

from streamvis.sources.ledger import Ledger


@given(st.lists(st.booleans(), min_size=1), st.integers(0, 3), st.sampled_from([1, 3, 40]))
def test_every_lost_picture_is_counted_once(kept, delay, step):
    """Stamps go in; those kept come out `delay` packets later, in order."""
    ledger = Ledger(trusted=True, ticks_per_s=25)
    stamps = [step * n for n in range(len(kept))]
    lost = 0
    waiting = []
    for stamp, keep in zip(stamps, kept, strict=True):
        ledger.sent(stamp)
        waiting += [stamp] if keep else []
        if len(waiting) > delay:
            lost += ledger.came(waiting.pop(0))
    lost += sum(ledger.came(stamp) for stamp in waiting)
    assert lost + ledger.ended() == kept.count(False)


def test_reordered_packets_lose_nothing():
    ledger = Ledger(trusted=True, ticks_per_s=25)
    lost = 0
    for group in range(0, 40, 4):
        for stamp in (group, group + 3, group + 1, group + 2):
            ledger.sent(stamp)
        lost += sum(ledger.came(group + k) for k in range(4))
    assert (lost, ledger.ended()) == (0, 0)


def test_stamps_that_start_again_lose_nothing():
    ledger = Ledger(trusted=True, ticks_per_s=25)
    stamps = [*range(100), *range(50)]
    out = iter(stamps)
    lost = 0
    for number, stamp in enumerate(stamps):
        ledger.sent(stamp)
        if number >= 3:  # the decoder still holds old pictures when the new stamps arrive
            lost += ledger.came(next(out))
    lost += sum(ledger.came(stamp) for stamp in out)
    assert (lost, ledger.ended()) == (0, 0)


def test_without_stamps_nothing_is_counted():
    ledger = Ledger(trusted=True, ticks_per_s=25)
    ledger.sent(0)
    ledger.sent(None)
    assert not ledger.trusted
    assert (ledger.came(5), ledger.ended()) == (0, 0)
