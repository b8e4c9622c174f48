"""Numbers as tables and titles of sheets write them."""

DASH = "–"  # a value that does not exist


def decimals(value: float | str | None) -> str:
    """Return three decimals below 2 (shares), one above (times); a dash for None; text as it is."""
    if value is None:
        return DASH
    return value if isinstance(value, str) else f"{value:.3f}" if value < 2 else f"{value:.1f}"
