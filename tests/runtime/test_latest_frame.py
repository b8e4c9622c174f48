import threading

import numpy as np
import pytest

from streamvis.errors import SourceError
from streamvis.runtime.latest_frame import LatestFrame
from streamvis.sources.picture import Picture


def picture(n):
    return Picture(pixels=np.zeros((1, 1, 3), np.uint8), n=n, media_us=n)


class Script:
    """A source that yields pictures on request."""

    def __init__(self):
        self.steps = threading.Semaphore(0)
        self.seen = threading.Semaphore(0)
        self.numbers = []
        self.error = None

    def give(self, *numbers):
        for n in numbers:
            self.numbers.append(n)
            self.steps.release()
            self.seen.acquire()

    def end(self, error=None):
        self.error = error
        self.steps.release()

    def __iter__(self):
        while True:
            self.steps.acquire()
            if not self.numbers:
                if self.error:
                    raise self.error
                return
            yield picture(self.numbers.pop(0))
            self.seen.release()


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def newest(script):
    newest = LatestFrame(script)
    yield newest
    script.end()
    assert newest.close(5.0)


def wait_for_the_end(newest):
    while not newest.ended:
        pass


def taken(newest):
    found, gaps = newest.take()
    return found and found.n, [(m.reason, m.count, m.first_n, m.last_n) for m in gaps]


def test_the_newest_is_kept_and_what_it_replaced_is_counted(script, newest):
    script.give(0, 1, 2)
    assert taken(newest) == (2, [("overload", 2, 0, 1)])
    assert taken(newest) == (None, [])
    script.give(3)
    assert taken(newest) == (3, [])


def test_numbers_that_were_jumped_over_could_not_be_decoded(script, newest):
    script.give(0, 4)
    assert taken(newest) == (4, [("overload", 1, 0, 0), ("decode", 3, 1, 3)])


def test_the_last_picture_can_be_taken_after_the_end(script, newest):
    script.give(0)
    script.end()
    wait_for_the_end(newest)
    assert taken(newest)[0] == 0


def test_an_exception_of_the_source_is_raised(script, newest):
    script.end(SourceError("gone"))
    with pytest.raises(SourceError, match="gone"):
        wait_for_the_end(newest)


def test_closing_a_source_that_never_returns_reports_it(script, newest):
    assert not newest.close(0.01)
