"""Progress without anything to see."""

from streamvis.cli.progress import progress
from streamvis.runners.progress import Progress, silent


def test_items_pass_unchanged_and_nothing_is_printed(capsys):
    shown: list[Progress] = [silent, progress]
    for one in shown:
        assert list(one(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")  # stderr is no terminal here
