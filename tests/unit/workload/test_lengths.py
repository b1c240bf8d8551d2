import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import lengths
from pytest_inferforge.workload.lengths import Fixed, Lognormal, Uniform

TOKENS = st.integers(1, 100_000)
LENGTHS = (
    st.builds(Fixed, TOKENS)
    | st.tuples(TOKENS, TOKENS).map(lambda pair: Uniform(min(pair), max(pair)))
    | st.builds(
        lambda median, sigma, low, room: Lognormal(median, sigma, None if room is None else low + room, low),
        st.floats(1, 1e6), st.floats(0, 9), TOKENS, st.none() | st.integers(0, 10_000),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (128, Fixed(128)),
        ("128", Fixed(128)),
        ("fixed 128", Fixed(128)),
        ("uniform 64..512", Uniform(64, 512)),
        ("Uniform 64-512", Uniform(64, 512)),
        ("uniform 64 to 512", Uniform(64, 512)),
        ("lognormal median=256 sigma=0.5 max=2048", Lognormal(256.0, 0.5, 2048)),
        ("lognormal sigma=.5 min=16 median=256", Lognormal(256.0, 0.5, None, 16)),
    ],
)
def test_people_write_lengths_in_many_ways(value, meant):
    assert lengths.parse(value, "prompt_tokens") == meant


@given(LENGTHS)
def test_what_is_printed_is_read_back(value):
    assert lengths.parse(str(value), "prompt_tokens") == value
    assert lengths.parse(value, "prompt_tokens") is value


@given(LENGTHS, st.integers(0, 50), st.integers(0, 2**31))
def test_lengths_are_as_many_as_asked_for_and_inside_their_bounds(value, n, seed):
    drawn = lengths.draw(value, np.random.default_rng(seed), n)
    assert len(drawn) == n
    assert all(isinstance(k, int) and k >= 1 for k in drawn)
    largest = lengths.largest(value)
    assert largest is None or all(k <= largest for k in drawn)
    assert drawn == lengths.draw(value, np.random.default_rng(seed), n)


def test_lengths_follow_their_law():
    rng = np.random.default_rng(7)
    uniform = lengths.draw(Uniform(1, 4), rng, 4000)
    assert [uniform.count(k) / 4000 for k in (1, 2, 3, 4)] == pytest.approx([0.25] * 4, abs=0.02)
    drawn = lengths.draw(Lognormal(256.0, 0.5), rng, 4000)
    assert np.median(drawn) == pytest.approx(256, rel=0.03)
    assert np.log(drawn).std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (0, "output_tokens must be at least 1"),
        ("uniform 0..8", "output_tokens must be at least 1"),
        ("uniform 8..4", "output_tokens: the range runs backwards"),
        ("lognormal median=256", "output_tokens: lognormal lacks sigma"),
        ("lognormal median=256 sigma=1 mean=3", "output_tokens: lognormal does not know mean"),
        ("lognormal median=0.5 sigma=1", "output_tokens: median must be at least 1 and sigma from 0 to 10"),
        ("lognormal median=5 sigma=999", "output_tokens: median must be at least 1 and sigma from 0 to 10"),
        ("lognormal median=5 sigma=1 max=4 min=8", "output_tokens: max is below min"),
        ("lognormal median=5 sigma=1 max=4.5", "output_tokens: not a number"),
        (True, "output_tokens is not a length"),
        (1.5, "output_tokens is not a length"),
        ("long", "output_tokens is not a length"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(value, what):
    with pytest.raises(UsageError) as error:
        lengths.parse(value, "output_tokens")
    assert error.value.what == what
    assert error.value.seen in (str(value), repr(value), repr(str(value)))
    assert error.value.do == 'write 128, "uniform 64..512" or "lognormal median=256 sigma=0.5 max=2048"'
