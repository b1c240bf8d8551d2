import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import arrivals
from pytest_inferforge.workload.arrivals import Closed, Constant, Poisson

RATES = st.floats(1e-6, 1e9)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("poisson 8 req/s", Poisson(8.0)),
        ("Poisson 0.5 rps", Poisson(0.5)),
        ("poisson 8/s", Poisson(8.0)),
        ("constant 2 requests/s", Constant(2.0)),
        ("constant .25 per second", Constant(0.25)),
        ("poisson 1e3 req/s", Poisson(1000.0)),
        (" closed 32 ", Closed(32)),
    ],
)
def test_people_write_arrivals_in_many_ways(text, meant):
    assert arrivals.parse(text) == meant


@given(st.builds(Poisson, RATES) | st.builds(Constant, RATES) | st.builds(Closed, st.integers(1, 10**6)))
def test_what_is_printed_is_read_back(value):
    assert arrivals.parse(str(value)) == value
    assert arrivals.parse(value) is value


@pytest.mark.parametrize(
    ("value", "what", "do"),
    [
        ("poisson 8", "arrivals without a unit", 'write "poisson 8 req/s"'),
        ("poisson 0 req/s", "arrivals must be more than zero", None),
        ("closed 0", "arrivals must be more than zero", None),
        (Poisson(-1.0), "arrivals must be more than zero", None),
        (Poisson(math.nan), "arrivals must be more than zero", None),
        (Constant(math.inf), "arrivals must be finite", None),
        ("poisson 1.2.3 req/s", "unknown arrivals", None),
        ("poisson eight req/s", "unknown arrivals", None),
        ("closed 1.5", "unknown arrivals", None),
        ("gauss 8 req/s", "unknown arrivals", None),
        ("", "unknown arrivals", None),
    ],
)
def test_what_cannot_be_read_says_what_to_write(value, what, do):
    with pytest.raises(UsageError) as error:
        arrivals.parse(value)
    assert error.value.what == what
    assert error.value.seen in (str(value), repr(value))
    assert error.value.do == (do or 'write "poisson 8 req/s", "constant 2 req/s" or "closed 32"')
