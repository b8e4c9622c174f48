"""How the end of a run is reported."""

from types import SimpleNamespace

import pytest

from streamvis import errors
from streamvis.runtime.errors import error_of, failure


def core(*streams, failed=None, serve=False):
    named = {
        str(n): SimpleNamespace(ending=ending, error=error, message=message)
        for n, (ending, error, message) in enumerate(streams)
    }
    return SimpleNamespace(failed=failed, streams=named, serve=serve)


@pytest.mark.parametrize("name", ["SourceError", "WeightsError", "DataError", "RunError"])
def test_an_error_of_another_process_keeps_its_class_and_message(name):
    error = error_of(name, "x: found y")
    assert type(error) is getattr(errors, name)
    assert str(error) == "x: found y"


@pytest.mark.parametrize("name", ["", "ValueError", "NoSuchError", "__doc__"])
def test_an_error_of_no_class_of_ours_is_one_of_the_run(name):
    assert type(error_of(name, "x")) is errors.RunError


LOST = ("failed", "SourceError", "source 'a' was lost")


def test_a_run_fails_if_all_its_sources_do():
    error = failure(core(LOST, ("failed", "RunError", "other")))
    assert type(error) is errors.SourceError
    assert str(error) == "source 'a' was lost"
    assert failure(core(LOST, ("eof", "", ""))) is None
    assert failure(core(LOST, serve=True)) is None


def test_the_error_of_the_run_goes_before_those_of_its_sources():
    cause = SimpleNamespace(error="DeviceError", message="no cuda")
    error = failure(core(LOST, failed=cause))
    assert type(error) is errors.DeviceError
    assert str(error) == "no cuda"
