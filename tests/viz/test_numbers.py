"""Numbers as tables and sheets write them."""

import pytest

from streamvis.viz.numbers import decimals


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (1.9996, "2.000"), (12.34, "12.3"), (None, "–"), ("as it is", "as it is")],
)
def test_shares_have_three_decimals_and_larger_numbers_one(value, text):
    assert decimals(value) == text
