import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge.errors import UsageError
from pytest_inferforge.workload import lengths
from pytest_inferforge.workload.lengths import Empirical, Fixed, Lognormal, Mixture, Normal, Uniform

TOKENS = st.integers(1, 100_000)
ROOM = st.none() | st.integers(0, 10_000)
SIMPLE = (
    st.builds(Fixed, TOKENS)
    | st.tuples(TOKENS, TOKENS).map(lambda pair: Uniform(min(pair), max(pair)))
    | st.builds(
        lambda median, sigma, low, room: Lognormal(median, sigma, None if room is None else low + room, low),
        st.floats(1, 1e6), st.floats(0, 9), TOKENS, ROOM,
    )
    | st.builds(
        lambda mean, sd, low, room: Normal(mean, sd, low, None if room is None else low + room),
        st.floats(1, 1e6), st.floats(0, 1e6), TOKENS, ROOM,
    )
)  # fmt: skip
SHARES = st.lists(st.floats(0.01, 1), min_size=2, max_size=4).map(lambda s: [x / sum(s) for x in s])
MIXTURES = SHARES.flatmap(
    lambda shares: st.tuples(*(SIMPLE for _ in shares)).map(
        lambda laws: Mixture(tuple(zip(shares, laws, strict=True)))
    )
)
WRITTEN = SIMPLE | MIXTURES
LENGTHS = WRITTEN | st.lists(TOKENS, min_size=1, max_size=9).map(lambda v: Empirical(tuple(v), "a.txt"))
FORMS = (
    'write 128, "uniform 64..512", "lognormal median=256 sigma=0.5 max=2048",'
    ' "normal mean=256 sd=64 max=512", "70 % uniform 64..128 | 30 % 1024"'
    ' or "empirical lengths.csv column=prompt_tokens"'
)
FILE_FORM = 'have one whole number from 1 a line, or name a column: "empirical FILE.csv column=NAME"'


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
        ("normal mean=256 sd=64 min=16 max=512", Normal(256.0, 64.0, 16, 512)),
        ("Normal sd = 0 mean = 9", Normal(9.0, 0.0)),
        (
            "70 % uniform 64..128 | 30 % lognormal median=1024 sigma=0.4",
            Mixture(((0.7, Uniform(64, 128)), (0.3, Lognormal(1024.0, 0.4)))),
        ),
        ("33.3% 1|33.3% 2|33.3% 3", Mixture(((0.333, Fixed(1)), (0.333, Fixed(2)), (0.333, Fixed(3))))),
        ("0.5 8 | 0.5 16", Mixture(((0.5, Fixed(8)), (0.5, Fixed(16))))),
    ],
)
def test_people_write_lengths_in_many_ways(value, meant):
    assert lengths.parse(value, "prompt_tokens") == meant


@given(WRITTEN)
def test_what_is_printed_is_read_back(value):
    assert lengths.parse(str(value), "prompt_tokens") == value
    assert lengths.parse(value, "prompt_tokens") is value


def test_what_was_written_is_printed():
    for text in (
        "normal mean=256 sd=64 min=16 max=512",
        "70 % uniform 64..128 | 30 % lognormal median=1024 sigma=0.4",
        "12.5 % 8 | 87.5 % 16",
    ):
        assert str(lengths.parse(text, "prompt_tokens")) == text


@given(LENGTHS, st.integers(0, 50), st.integers(0, 2**31))
def test_lengths_are_as_many_as_asked_for_and_inside_their_bounds(value, n, seed):
    drawn = lengths.draw(value, np.random.default_rng(seed), n)
    assert len(drawn) == n
    assert all(isinstance(k, int) and k >= lengths.smallest(value) >= 1 for k in drawn)
    largest = lengths.largest(value)
    assert largest is None or all(k <= largest for k in drawn)
    assert drawn == lengths.draw(value, np.random.default_rng(seed), n)
    assert drawn == lengths.draw(value, np.random.default_rng(seed), n + 10)[:n]
    array = lengths.draw_array(value, np.random.default_rng(seed), n)
    assert (array.dtype, array.tolist()) == (np.int64, drawn)


def test_lengths_follow_their_law():
    rng = np.random.default_rng(7)
    uniform = lengths.draw(Uniform(1, 4), rng, 4000)
    assert [uniform.count(k) / 4000 for k in (1, 2, 3, 4)] == pytest.approx([0.25] * 4, abs=0.02)
    drawn = lengths.draw(Lognormal(256.0, 0.5), rng, 4000)
    assert np.median(drawn) == pytest.approx(256, rel=0.03)
    assert np.log(drawn).std() == pytest.approx(0.5, rel=0.05)
    noise = rng.random(4000) - 0.5  # what rounding took away
    normal = lengths.draw_array(Normal(500.0, 50.0), rng, 4000) + noise
    assert stats.kstest(normal, stats.norm(500, 50).cdf).pvalue > 0.01


def test_a_mixture_takes_its_shares_of_each_law():
    mixture = Mixture(((0.2, Fixed(7)), (0.5, Uniform(100, 200)), (0.3, Fixed(9))))
    drawn = lengths.draw_array(mixture, np.random.default_rng(3), 20_000)
    shares = [np.mean(drawn == 7), np.mean((drawn >= 100) & (drawn <= 200)), np.mean(drawn == 9)]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.015)
    assert np.corrcoef(drawn[1:], drawn[:-1])[0, 1] == pytest.approx(0.0, abs=0.03)
    assert drawn[drawn >= 100].mean() == pytest.approx(150, rel=0.01)


def test_empirical_lengths_come_as_often_as_in_the_file():
    drawn = lengths.draw(Empirical((5, 5, 5, 80), "a.txt"), np.random.default_rng(3), 20_000)
    assert set(drawn) == {5, 80}
    assert drawn.count(5) / 20_000 == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(
    ("value", "smallest", "largest", "mean"),
    [
        (Fixed(9), 9, 9, 9.0),
        (Uniform(4, 9), 4, 9, 6.5),
        (Lognormal(100.0, 0.5, 2048, 16), 16, 2048, 100 * math.exp(0.125)),
        (Lognormal(100.0, 0.0), 1, None, 100.0),
        (Normal(100.0, 5.0, 16, 512), 16, 512, 100.0),
        (Empirical((5, 6, 7, 82), "a.txt"), 5, 82, 25.0),
        (Mixture(((0.25, Fixed(8)), (0.75, Uniform(10, 14)))), 8, 14, 11.0),
        (Mixture(((0.333, Fixed(8)), (0.333, Fixed(8)), (0.333, Fixed(8)))), 8, 8, 8.0),
        (Mixture(((0.5, Fixed(8)), (0.5, Normal(9.0, 1.0)))), 1, None, 8.5),
    ],
)
def test_what_lengths_say_about_themselves(value, smallest, largest, mean):
    assert lengths.smallest(value) == smallest
    assert lengths.largest(value) == largest
    assert lengths.mean(value) == pytest.approx(mean, rel=1e-12)


@given(SIMPLE.filter(lambda law: not isinstance(law, Lognormal | Normal)), st.integers(0, 2**31))
def test_the_mean_is_what_draws_go_to(value, seed):
    drawn = lengths.draw_array(value, np.random.default_rng(seed), 2000)
    slack = 6 * max(drawn.std(), 1.0) / 2000**0.5
    assert drawn.mean() == pytest.approx(lengths.mean(value), abs=slack)


def test_files_of_lengths_are_read_from_the_folder(tmp_path):
    (tmp_path / "lengths.txt").write_text("128\n\n 64 \r\n512")
    (tmp_path / "my lengths.csv").write_text('\ufeffprompt_tokens,note\n8,"a, b"\n16,"two\nlines"\n\n4,\n')
    plain = lengths.parse("empirical lengths.txt", "prompt_tokens", folder=tmp_path)
    assert (plain.values, plain.name) == ((128, 64, 512), "lengths.txt")
    text = "Empirical 'my lengths.csv' column=prompt_tokens"
    column = lengths.parse(text, "prompt_tokens", folder=tmp_path)
    assert (column.values, column.name) == ((8, 16, 4), "my lengths.csv column=prompt_tokens")
    absolute = lengths.parse(f"empirical {tmp_path}/lengths.txt", "prompt_tokens")
    assert absolute == plain
    mixed = lengths.parse("50 % empirical lengths.txt | 50 % 9", "prompt_tokens", folder=tmp_path)
    assert mixed == Mixture(((0.5, plain), (0.5, Fixed(9))))


def test_a_file_of_lengths_is_known_by_what_was_in_it(tmp_path):
    digest = hashlib.sha256(b"128,64").hexdigest()[:12]
    texts = []
    for folder, content in (("a", "128\n64\n"), ("b", "128\r\n\r\n64"), ("c", "64\n128\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "lengths.txt").write_text(content)
        texts.append(str(lengths.parse("empirical lengths.txt", "x", folder=tmp_path / folder)))
    assert texts[:2] == [f"empirical lengths.txt (2 values, sha256 {digest})"] * 2
    assert texts[2] != texts[0]


@pytest.mark.parametrize(
    ("text", "content", "what", "seen"),
    [
        ("empirical a.txt", "1\n2\nabc\n", "x: a length is not a whole number", "a.txt, line 3: 'abc'"),
        ("empirical a.txt", "1\n\n2.5\n", "x: a length is not a whole number", "a.txt, line 3: '2.5'"),
        ("empirical a.txt", "1\n0\n", "x: a length must be from 1 to 1,000,000,000", "a.txt, line 2: '0'"),
        ("empirical a.txt", "-4\n", "x: a length must be from 1 to 1,000,000,000", "a.txt, line 1: '-4'"),
        ("empirical a.txt", b"1\n\xff\xfe\n", "the file is not UTF-8 text", "a.txt, line 2: "),
        ("empirical a.txt", "\n", "x: the file has no lengths", "{folder}/a.txt"),
        ("empirical b.txt", "1\n", "x: no such file", "{folder}/b.txt"),
        ("empirical a.txt", "n,m\n1,2\n", "x: a length is not a whole number", "a.txt, line 1: 'n,m'"),
        ("empirical a.txt column=k", "n,m\n1,2\n", "the file has no column k", "a.txt, line 1: 'n,m'"),
        (
            "empirical a.txt column=m",
            "n,m\n1,2\n1\n",
            "x: a length is not a whole number",
            "a.txt, line 3: ''",
        ),
        ("empirical a.txt column=m", 'n,m\n"a" b,2\n', "the file is not CSV", "a.txt, line 2: "),
        ("empirical a.txt column=m", "n,m\n", "x: the file has no lengths", "{folder}/a.txt"),
        ("empirical a.txt column=m", "", "the file has no column m", "a.txt, line 1: ''"),
        ("empirical", "", "x: empirical is not readable", "'empirical'"),
        ("empirical 'a.txt", "", "x: empirical is not readable", '"empirical \'a.txt"'),
        ("empirical a.txt row=3", "", "x: empirical is not readable", "'empirical a.txt row=3'"),
    ],
)
def test_a_wrong_file_of_lengths_is_named_with_its_line(tmp_path, text, content, what, seen):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UsageError) as error:
        lengths.parse(text, "x", folder=tmp_path)
    assert error.value.what == what
    assert error.value.seen.startswith(seen.format(folder=tmp_path))
    assert error.value.do
    if what.startswith("x: a length"):
        assert error.value.do == FILE_FORM


def test_a_long_wrong_row_is_shortened(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 5000)
    with pytest.raises(UsageError) as error:
        lengths.parse("empirical a.txt", "x", folder=tmp_path)
    assert error.value.seen == f"a.txt, line 1: '{'x' * 100}...'"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (0, "output_tokens must be at least 1"),
        (-5, "output_tokens is not a length"),
        (2_000_000_000, "output_tokens must be at most 1,000,000,000"),
        ("uniform 0..8", "output_tokens must be at least 1"),
        ("uniform 8..4", "output_tokens: the range runs backwards"),
        ("lognormal median=256", "output_tokens: lognormal lacks sigma"),
        ("lognormal", "output_tokens: lognormal lacks median, sigma"),
        ("lognormal median=256 sigma=1 mean=3", "output_tokens: lognormal does not know mean"),
        ("lognormal median=0.5 sigma=1", "output_tokens: median must be at least 1 and sigma from 0 to 10"),
        ("lognormal median=5 sigma=999", "output_tokens: median must be at least 1 and sigma from 0 to 10"),
        ("lognormal median=5 sigma=1 max=4 min=8", "output_tokens: max is below min"),
        ("lognormal median=5 sigma=1 max=4.5", "output_tokens: not a number"),
        ("lognormal median=5 sigma=wide", "output_tokens: not a number"),
        ("normal mean=256", "output_tokens: normal lacks sd"),
        ("normal mean=256 sigma=1 sd=2", "output_tokens: normal does not know sigma"),
        ("normal mean=0 sd=2", "output_tokens: mean must be at least 1 and sd at least 0"),
        ("normal mean=9 sd=-2", "output_tokens: mean must be at least 1 and sd at least 0"),
        ("normal mean=9 sd=nan", "output_tokens: mean must be at least 1 and sd at least 0"),
        ("normal mean=9 sd=2 min=8 max=4", "output_tokens: max is below min"),
        ("normal mean=9 sd=2 min=0", "output_tokens must be at least 1"),
        (Empirical((), "a.txt"), "output_tokens must be at least 1"),
        ("70 % 8 | 20 % 16", "output_tokens: the shares add up to 90 %, not 100 %"),
        ("100 % 8 | 0 % 16", "output_tokens: a share must be more than zero"),
        ("60 % 8 | 40 % 0", "output_tokens must be at least 1"),
        (Mixture(((0.5, Fixed(8)), (0.5, Fixed(0)))), "output_tokens must be at least 1"),
        (Mixture(()), "output_tokens: the shares add up to 0 %, not 100 %"),
        (
            Mixture(((0.5, Fixed(8)), (0.5, Mixture(((1.0, Fixed(8)),))))),
            "output_tokens: a mixture cannot hold another",
        ),
        ("60 % 8 | 16", "output_tokens: a part of a mixture needs a share and lengths"),
        ("60 % 8 |", "output_tokens: a part of a mixture needs a share and lengths"),
        ("60 % 8 | 40 % long", "output_tokens is not a length"),
        (True, "output_tokens is not a length"),
        (1.5, "output_tokens is not a length"),
        ("long", "output_tokens is not a length"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(value, what):
    with pytest.raises(UsageError) as error:
        lengths.parse(value, "output_tokens")
    assert error.value.what == what
    assert error.value.seen.strip("'") in str(value)
    assert error.value.do == FORMS
