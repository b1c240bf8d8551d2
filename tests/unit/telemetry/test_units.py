"""The units of telemetry, written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.metrics import METRICS

NEW = ["count", "tok", "W", "J", "J/tok", "Hz", "cores"]


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("3", "count", 3.0),
        ("2.5 tok", "tok", 2.5),
        ("0.7 kW", "W", 700.0),
        ("700 w", "W", 700.0),
        ("1 kWh", "J", 3.6e6),
        ("300 mJ/tok", "J/tok", 0.3),
        ("1.98 GHz", "Hz", 1.98e9),
        ("1980 MHz", "Hz", 1.98e9),
        ("1 core", "cores", 1.0),
    ],
)
def test_people_write_them(text, unit, value):
    assert units.parse(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "count", "0"),
        (0.25, "count", "0.25"),
        (12.0, "count", "12"),
        (2.345, "tok", "2.35 tok"),
        (699.6, "W", "700 W"),
        (1250.0, "W", "1.25 kW"),
        (5.4e6, "J", "5400 kJ"),
        (0.31, "J/tok", "310 mJ/tok"),
        (1.98e9, "Hz", "1.98 GHz"),
        (3.456, "cores", "3.46 cores"),
        (None, "W", "not measured"),
    ],
)
def test_people_read_three_digits(value, unit, text):
    assert units.format_value(value, unit) == text


@given(value=st.floats(1e-3, 1e9), unit=st.sampled_from(NEW))
def test_what_is_printed_can_be_read_back(value, unit):
    text = units.format_value(value, unit)
    assert units.parse(text, unit) == pytest.approx(value, rel=0.006)
    assert units.format_value(units.parse(text, unit), unit) == text


@pytest.mark.parametrize(
    ("text", "unit", "do"),
    [("3 apples", "count", "write 3"), ("3", "W", "write 3 W or 3 kW"), ("3 mJ", "J", "write 3 J or 3 kJ")],
)
def test_what_cannot_be_read_says_what_to_write(text, unit, do):
    with pytest.raises(UsageError) as error:
        units.parse(text, unit)
    assert error.value.do == do


def test_every_metric_has_a_unit_that_can_be_printed():
    assert all(units.format_value(1.0, quantity.unit) for quantity in METRICS.values())
