"""Numbers inside the texts of arrivals and lengths, which are read back and stored."""

from __future__ import annotations

PATTERN = r"(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
"""Matches what `text` writes and what people write, to be used with re.IGNORECASE."""


def text(value: float) -> str:
    """As short as it can be and still read back as the same number.

    >>> text(8.0), text(0.1), text(12345678.0)
    ('8', '0.1', '12345678.0')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
