"""The loop delivers everything at least once and in order, whatever fails or is killed."""

import random
from itertools import count

import msgspec
import pytest
from bridged import ONLINE, GrowingLog, begin, growing, update
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.bridges.follower import LogFollower, after
from streamvis.bridges.loop import NOTHING, Loop, Settings, UnreachableError
from streamvis.bridges.place import BridgeProgress, Place, ProgressFile, digest_of
from streamvis.bridges.stop import Stop
from streamvis.errors import DataError, InUseError
from streamvis.events.log import Row

FAST = Settings(poll_s=0.001, retry_first_s=0.001, retry_longest_s=0.002, until_ended=True)


class KilledError(BaseException):
    """Stands for kill -9: nothing that the loop has in memory is stored afterwards."""


class Counting:
    """A mapping that numbers the events, so that a state that does not fit shows."""

    def __init__(self):
        self.seen = 0

    def messages(self, rows):
        first = self.seen
        self.seen += len(rows)
        return [(first + i, row.source, row.offset) for i, row in enumerate(rows)]

    def state(self):
        return msgspec.Raw(msgspec.json.encode(self.seen))

    def restore(self, state):
        self.seen = msgspec.json.decode(state)


class Unreliable:
    """A sink that takes, fails before or after it took something, or kills, by chance."""

    def __init__(self, chance, batch):
        self.taken, self.batch, self._chance = [], batch, chance
        self.closed = False

    def deliver(self, messages):
        for message in messages:
            what = self._chance.choice(["take"] * 60 + ["fail", "lose the answer", "die"])
            if what == "fail":
                raise UnreachableError("down")
            self.taken.append(message)
            if what == "lose the answer":
                raise UnreachableError("reset")
            if what == "die":
                raise KilledError
        return 0

    def idle(self, seconds):
        if self._chance.random() < 0.1:
            raise UnreachableError("down")

    def close(self):
        self.closed = True


def loop_at(folder, settings=FAST, ticks=None):
    now = ticks or count().__next__
    follower = LogFollower(folder / "events.db")
    return Loop(follower, ProgressFile(folder / "bridge.json"), Stop(), settings, now)


def deliver(folder, sink, mapping=None, **options):
    loop = loop_at(folder)
    loop.run(mapping or Counting(), sink, **options)
    return loop


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), batch=st.sampled_from([1, 3, 100]))
def test_whatever_fails_all_is_delivered_in_order(tmp_path_factory, seed, batch):
    """The oracle: deliveries without repetitions are the log, with the state that belongs to it."""
    folder = tmp_path_factory.mktemp("log")
    chance = random.Random(seed)
    with growing(folder / "events.db") as log:
        for number in range(20):
            log.walk(chance.choice("ab"), number)
        log.finish("a", "b")
        expected = [(i, row.source, row.offset) for i, row in enumerate(log.rows)]
    sink, ended = Unreliable(chance, batch), False
    while not ended:
        loop = loop_at(folder)
        if chance.random() < 0.5:
            loop._store = lambda: None  # killed before it could store the progress, too
        try:
            loop.run(Counting(), sink)
            ended = True
        except KilledError:
            pass
    assert list(dict.fromkeys(sink.taken)) == expected
    first = [sink.taken.index(one) for one in expected]
    assert first == sorted(first)
    assert sink.closed


def test_a_log_that_is_not_there_yet_is_waited_for_and_followed(tmp_path, monkeypatch):
    sink, steps, logs = Reliable(), count(), []
    path = tmp_path / "out" / "events.db"

    def run_goes_on(seconds):
        """Whatever a run does while the bridge waits."""
        match next(steps):
            case 2:
                path.parent.mkdir()
                logs.append(GrowingLog(path))
                logs[0].write("a", ONLINE)
            case 5:
                logs[0].walk("a", 1)
            case 8:
                logs[0].finish("a")
                logs[0].close()

    loop = loop_at(path.parent)
    monkeypatch.setattr(loop._stop, "wait", run_goes_on)
    monkeypatch.setattr(sink, "idle", run_goes_on)
    loop.run(Counting(), sink)
    assert [offset for *_, offset in sink.taken] == list(range(6))


def test_a_log_that_takes_the_place_of_another_is_delivered_from_its_first_event(tmp_path):
    sink = Reliable()
    with growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.finish("a")
    deliver(tmp_path, sink)
    (tmp_path / "events.db").unlink()
    with growing(tmp_path / "events.db") as log:
        for number in range(5):
            log.walk("b", number)
        log.finish("b")
    deliver(tmp_path, sink)
    assert [(source, offset) for _, source, offset in sink.taken] == [
        *(("a", n) for n in range(5)),
        *(("b", n) for n in range(21)),
    ]


def test_evicted_events_are_counted(tmp_path):
    with growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.finish("a")
        sink = Reliable()
        deliver(tmp_path, sink)
        log.walk("a", 2)
        log.finish("a")
        log.writer._db.execute("DELETE FROM events WHERE offset < 7")
    assert deliver(tmp_path, sink).counts.evicted == 2
    assert [offset for *_, offset in sink.taken] == [0, 1, 2, 3, 4, 7, 8, 9]


def test_from_now_on_the_mapping_still_knows_what_was_before(tmp_path):
    sink = Reliable()
    with growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.finish("a")
        deliver(tmp_path, sink, skip=True)
        assert sink.taken == []
        log.walk("a", 2)
        log.finish("a")
        deliver(tmp_path, sink, skip=True)
    assert sink.taken == [(n, "a", n) for n in range(5, 10)]


def test_from_now_on_a_log_that_comes_later_is_delivered_whole(tmp_path, monkeypatch):
    sink, loop = Reliable(), loop_at(tmp_path)

    def comes(seconds):
        if not (tmp_path / "events.db").exists():
            with growing(tmp_path / "events.db") as log:
                log.walk("a", 1)
                log.finish("a")

    monkeypatch.setattr(loop._stop, "wait", comes)
    loop.run(Counting(), sink, skip=True)
    assert len(sink.taken) == 5


class Reliable:
    batch = 2

    def __init__(self):
        self.taken = []

    def deliver(self, messages):
        self.taken += messages
        return 0

    def idle(self, seconds):
        pass

    def close(self):
        pass


def row(number):
    return Row("a", number, number + 1, "track.begin", 0, b"%d" % number)


ROWS = [(number, row(number)) for number in range(1, 6)]


@pytest.mark.parametrize(
    ("place", "rows", "numbers", "evicted", "replaced"),
    [
        (Place(), ROWS, [1, 2, 3, 4, 5], 0, False),
        (Place(3, digest_of(row(3))), ROWS[2:], [4, 5], 0, False),
        (Place(5, digest_of(row(5))), ROWS[4:], [], 0, False),
        (Place(2, digest_of(row(2))), ROWS[2:], [3, 4, 5], 0, False),  # the place itself was
        (Place(2, digest_of(row(2))), ROWS[3:], [4, 5], 1, False),
        (Place(3, "another"), ROWS[2:], [], 0, True),
        (Place(9, digest_of(row(9))), [], [], 0, True),
    ],
)
def test_what_follows_a_place(place, rows, numbers, evicted, replaced):
    reading = after(place, rows, ended=False)
    assert [number for number, _ in reading.rows] == numbers
    assert (reading.evicted, reading.replaced) == (evicted, replaced)


def test_lag_is_what_is_not_delivered(tmp_path):
    follower = LogFollower(tmp_path / "events.db")
    assert follower.lag(Place()) == (0, 0.0)
    with growing(tmp_path / "events.db") as log:
        log.write("a", begin("a", 1), update("a", 1), update("a", 1))
        events, seconds = follower.lag(Place())
        assert events == 3
        assert 0 <= seconds < 60
        assert follower.lag(Place(2, digest_of(log.rows[1])))[0] == 1
        assert follower.lag(Place(3, digest_of(log.rows[2]))) == (0, 0.0)
        assert follower.lag(Place(3, "of another log"))[0] == 3


@given(st.integers(0, 2**62), st.text(max_size=30), st.dictionaries(st.text(), st.integers()))
def test_progress_is_loaded_as_it_was_stored(tmp_path_factory, number, digest, state):
    file = ProgressFile(tmp_path_factory.mktemp("progress") / "bridge.json")
    assert file.load() is None
    progress = BridgeProgress(Place(number, digest), msgspec.Raw(msgspec.json.encode(state)))
    file.store(progress)
    assert file.load() == progress


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"place": 3}', b"\xff", b'{"version": 2}'])
def test_a_progress_file_that_is_none_is_refused_with_advice(tmp_path, data):
    (tmp_path / "bridge.json").write_bytes(data)
    with pytest.raises(DataError, match=r"delete it|use the version"):
        ProgressFile(tmp_path / "bridge.json").load()


def test_two_bridges_of_one_name_are_refused(tmp_path):
    file = ProgressFile(tmp_path / "bridge.json")
    with file.held(), pytest.raises(InUseError, match="--name"), file.held():
        pass
    with file.held():
        pass


def test_a_file_that_is_no_log_is_refused_after_some_seconds(tmp_path):
    (tmp_path / "events.db").write_text("no database" * 100)
    times = iter(range(100))
    follower = LogFollower(tmp_path / "events.db", lambda: next(times))
    for _ in range(6):
        assert follower.read(Place(), 1) is None
    with pytest.raises(DataError, match="cannot be read as an event log"):
        follower.read(Place(), 1)


def test_nothing_is_remembered_is_null():
    assert bytes(NOTHING) == b"null"
