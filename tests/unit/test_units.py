import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("300 ms", "s", 0.3),
        ("300ms", "s", 0.3),
        (" 5 us ", "s", 5e-6),
        ("5 \N{MICRO SIGN}s", "s", 5e-6),
        ("5 \N{GREEK SMALL LETTER MU}s", "s", 5e-6),
        (".5 h", "s", 1800.0),
        ("2 m", "s", 120.0),
        ("2 min", "s", 120.0),
        ("1e3 MS", "s", 1.0),
        ("8 req/s", "req/s", 8.0),
        ("8 rps", "req/s", 8.0),
        ("8/s", "req/s", 8.0),
        ("900 tok/s", "tok/s", 900.0),
        ("900 tokens/s", "tok/s", 900.0),
        ("900 token/s", "tok/s", 900.0),
        ("900 tps", "tok/s", 900.0),
        ("95 %", "ratio", 0.95),
        ("0.95", "ratio", 0.95),
        ("0", "ratio", 0.0),
        ("2 GiB", "bytes", 2.0**31),
        ("2 GB", "bytes", 2e9),
    ],
)
def test_people_write_quantities_in_many_ways(text, unit, value):
    assert units.parse(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "what", "do"),
    [
        ("300", "s", "a time needs a unit", "write 300 ms or 300 s"),
        ("900", "tok/s", "a token rate needs a unit", "write 900 tok/s"),
        ("300 req/s", "s", "a time cannot be in req/s", "write 300 ms or 300 s"),
        ("fast", "s", "a time is not readable", "write 300 ms or 300 s"),
        ("", "s", "a time is not readable", "write 300 ms or 300 s"),
        ("nan s", "s", "a time is not readable", "write 300 ms or 300 s"),
        ("-3 ms", "s", "a time cannot be -3", "write a positive number"),
        ("1e999 s", "s", "a time cannot be 1e999", "write a positive number"),
        ("95", "ratio", "a share above 1", "write 95 % or a number from 0 to 1"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(text, unit, what, do):
    with pytest.raises(UsageError) as error:
        units.parse(text, unit)
    assert (error.value.what, error.value.seen, error.value.do) == (what, text, do)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1823, "s", "182 ms"),
        (1.2444, "s", "1.24 s"),
        (0.9996, "s", "1 s"),
        (0.0000042, "s", "4.2 \N{MICRO SIGN}s"),
        (90.0, "s", "90 s"),
        (600.0, "s", "10 min"),
        (7200.0, "s", "2 h"),
        (0.0, "s", "0 s"),
        (-0.0012, "s", "-1.2 ms"),
        (913.2, "tok/s", "913 tok/s"),
        (12345.0, "tok/s", "12300 tok/s"),
        (0.004, "ratio", "0.4 %"),
        (1.0, "ratio", "100 %"),
        (3.2e9, "bytes", "3.2 GB"),
        (None, "s", "not measured"),
        (math.nan, "s", "not measured"),
        (math.inf, "s", "never"),
    ],
)
def test_people_read_three_digits(value, unit, text):
    assert units.format_value(value, unit) == text


@given(value=st.floats(1e-9, 1e9), unit=st.sampled_from(["s", "req/s", "tok/s", "bytes"]))
def test_what_is_printed_can_be_read_back(value, unit):
    assert units.parse(units.format_value(value, unit), unit) == pytest.approx(value, rel=0.006)


@given(value=st.floats(0, 1))
def test_shares_can_be_read_back(value):
    assert units.parse(units.format_value(value, "ratio"), "ratio") == pytest.approx(value, rel=0.006)


@given(value=st.floats(1e-9, 1e9), unit=st.sampled_from(["s", "req/s", "tok/s", "bytes"]))
def test_printing_what_was_read_back_prints_the_same(value, unit):
    text = units.format_value(value, unit)
    assert units.format_value(units.parse(text, unit), unit) == text


@pytest.mark.parametrize(
    ("text", "unit"),
    [("300 ms", "s"), ("9 tps", "tok/s"), ("4/s", "req/s"), ("1 %", "ratio"), ("7", None), ("?", None)],
)
def test_the_unit_tells_the_kind_of_quantity(text, unit):
    assert units.unit_of(text) == unit
