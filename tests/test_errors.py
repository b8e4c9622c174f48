"""The tree of errors is the one that its docstring draws, exit codes included."""

import re

import pytest

from streamvis import errors


def subclasses(kind):
    return {kind} | {deeper for child in kind.__subclasses__() for deeper in subclasses(child)}


KINDS = {
    kind.__name__: kind
    for kind in subclasses(errors.StreamvisError)
    if kind.__module__ == errors.__name__
}


def drawn():
    """Each class of the drawing with its parent and exit code; the parent's where none is given."""
    above = []  # (column, name, code)
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)(\w+Error) +(?:exit code )?(\d*)", line)
        if match is None:
            continue
        column = len(match[1])
        above = [one for one in above if one[0] < column]
        code = int(match[3]) if match[3] else above[-1][2]
        yield match[2], above[-1][1] if above else "Exception", code
        above.append((column, match[2], code))


def test_every_class_is_drawn_once():
    assert sorted(name for name, _, _ in drawn()) == sorted(KINDS)


@pytest.mark.parametrize(("name", "parent", "code"), list(drawn()))
def test_parent_and_exit_code_are_as_drawn(name, parent, code):
    kind = KINDS[name]
    assert [base.__name__ for base in kind.__bases__] == [parent]
    error = kind("x", code - 128) if kind is errors.EndedEarlyError else kind("x")
    assert (str(error), error.exit_code) == ("x", code)


@pytest.mark.parametrize(("signal", "code"), [(2, 130), (15, 143)])
def test_the_exit_code_of_a_run_ended_by_a_signal_is_that_of_a_shell(signal, code):
    assert errors.EndedEarlyError("ended", signal).exit_code == code
