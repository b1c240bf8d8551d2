from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.engines.settings import (
    Speculative,
    Table,
    Written,
    flag,
    key,
    one_of,
    only,
    refuse_unknown,
    share,
    speculative,
    switch,
    value_of,
    variable,
    whole,
    word,
    write,
    yes_no,
)
from pytest_inferforge.errors import UsageError
from pytest_inferforge.servers.spec import ServerSpec, pairs

if TYPE_CHECKING:
    from pytest_inferforge.engines.settings import Put, Read


def spec(**settings: object) -> ServerSpec:
    return ServerSpec(engine="some engine", settings=pairs(settings))


def put(where: Put, value: object) -> Written:
    written = Written()
    where(written, value)
    return written


# -- how a value is read


@pytest.mark.parametrize(
    ("read", "value", "taken"),
    [
        (whole(), 1, 1),
        (whole(low=0), 0, 0),
        (whole(high=2**50), 2**50, 2**50),
        (yes_no(), False, False),
        (share(), 1, 1.0),
        (share(), 0.25, 0.25),
        (one_of(("a", "b")), "b", "b"),
        (one_of(("a",), {"c": "a"}), "c", "a"),
        (word(), "anything", "anything"),
        (speculative("ngram"), "ngram", Speculative("ngram", None, 4)),
    ],
)
def test_what_is_meant_is_taken(read: Read, value: object, taken: object) -> None:
    seen = read(value)
    assert seen == taken
    assert type(seen) is type(taken)


@pytest.mark.parametrize(
    ("read", "value", "instead"),
    [
        (whole(1, 10), 0, "give a whole number from 1 to 10"),
        (whole(1, 10), 11, "give a whole number from 1 to 10"),
        (whole(1, 10), 2.0, "give a whole number from 1 to 10"),
        (whole(1, 10), "4", "give a whole number from 1 to 10"),
        (whole(1, 10), True, "give a whole number from 1 to 10"),
        (yes_no(), "yes", "give true or false"),
        (yes_no(), 1, "give true or false"),
        (share(), 0, "give a share above 0 and at most 1, like 0.9"),
        (share(), 1.01, "give a share above 0 and at most 1, like 0.9"),
        (share(), math.nan, "give a share above 0 and at most 1, like 0.9"),
        (share(), True, "give a share above 0 and at most 1, like 0.9"),
        (share(), "90 %", "give a share above 0 and at most 1, like 0.9"),
        (one_of(("a",), {"c": "a"}), "b", "choose one of a, c"),
        (one_of(("1",)), 1, "choose one of 1"),
        (word(), "", "give a text"),
        (word(), 8, "give a text"),
        (word(), None, "give a text"),
    ],
)
def test_what_is_not_is_refused_with_what_to_give(read: Read, value: object, instead: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(value)
    assert str(caught.value) == instead


@given(st.integers(-50, 50), st.integers(-20, 20), st.integers(0, 40))
def test_whole_numbers_are_taken_in_their_range_and_nowhere_else(value: int, low: int, width: int) -> None:
    read = whole(low, low + width)
    if low <= value <= low + width:
        assert read(value) == value
    else:
        with pytest.raises(ValueError):
            read(value)


def read_table(**table: object) -> object:
    return speculative("ngram", "draft", "eagle", "mtp")(spec(speculative=table).settings[0][1])


def test_a_table_says_how_tokens_are_drafted() -> None:
    assert read_table(method="ngram", tokens=3) == Speculative("ngram", None, 3)
    assert read_table(method="draft", model="m", tokens=1) == Speculative("draft", "m", 1)
    assert read_table(method="mtp") == Speculative("mtp", None, 4)


@pytest.mark.parametrize(
    ("table", "instead"),
    [
        ({"method": "medusa"}, "give method (ngram, draft, eagle, mtp), model and tokens"),
        ({"tokens": 4}, "give method (ngram, draft, eagle, mtp), model and tokens"),
        ({"method": "ngram", "k": 4}, "give method (ngram, draft, eagle, mtp), model and tokens"),
        ({"method": "draft"}, "the method draft needs the model of the draft"),
        ({"method": "eagle", "model": 3}, "the method eagle needs the model of the draft"),
        ({"method": "ngram", "tokens": 0}, "give a whole number from 1 to 2147483647"),
    ],
)
def test_a_table_that_says_something_else_is_refused(table: dict[str, object], instead: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_table(**table)
    assert str(caught.value) == instead


@pytest.mark.parametrize("value", [(), ("ngram", 4), (1, 2), (("ngram", 4, 5),), 4, None])
def test_what_is_no_table_is_refused_as_such(value: object) -> None:
    with pytest.raises(ValueError, match=r"give method \(ngram\), model and tokens"):
        speculative("ngram")(value)


# -- where it is put


@pytest.mark.parametrize(
    ("where", "value", "argv"),
    [
        (flag("--n"), 4, ["--n", "4"]),
        (flag("--n"), 0.5, ["--n", "0.5"]),
        (flag("--n"), "text", ["--n", "text"]),
        (flag("--n"), True, ["--n", "1"]),
        (switch("--on", "--off"), True, ["--on"]),
        (switch("--on", "--off"), False, ["--off"]),
        (switch("--on"), False, []),
        (switch(None, "--off"), True, []),
        (only(True, "why"), True, []),
    ],
)
def test_arguments(where: Put, value: object, argv: list[str]) -> None:
    assert put(where, value) == Written(argv=argv)


def test_variables_and_keys() -> None:
    assert put(variable("N"), 4) == Written(env={"N": "4"})
    assert put(variable("N"), False) == Written(env={"N": "0"})
    written = put(key("cache.dtype"), "fp8")
    key("cache.size")(written, 3)
    key("top")(written, None)
    assert written == Written(config={"cache": {"dtype": "fp8", "size": 3}, "top": None})


# -- a whole table

TABLE: Table = {
    "max_num_seqs": (whole(), flag("--seqs")),
    "seed": (whole(low=0), variable("SEED")),
    "eager": (yes_no(), only(True, "it never compiles")),
}


def test_a_spec_is_written_setting_by_setting() -> None:
    assert write(spec(seed=0, max_num_seqs=2, eager=True), TABLE) == Written(
        argv=["--seqs", "2"], env={"SEED": "0"}
    )
    assert write(spec(), TABLE) == Written()


@pytest.mark.parametrize(
    ("settings", "do"),
    [
        ({"seed": -1}, "give a whole number from 0 to 2147483647"),
        ({"eager": False}, "it never compiles"),
    ],
)
def test_a_value_that_is_refused_is_a_usage_error(settings: dict[str, object], do: str) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(UsageError, match=f"some engine cannot take this {name}") as caught:
        write(spec(**settings), TABLE)
    assert caught.value.seen == f"{name}={value!r}"
    assert caught.value.do == do


def test_an_unknown_setting_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match="some engine has no setting 'max_num_seq'") as caught:
        write(spec(max_num_seq=4), TABLE)
    assert caught.value.seen == "max_num_seq=4"
    assert caught.value.do == "did you mean max_num_seqs? it takes max_num_seqs, seed, eager"
    with pytest.raises(UsageError) as caught:
        refuse_unknown(spec(tensor_parallel=4), ("max_num_seqs", "seed"))
    assert caught.value.do == "it takes max_num_seqs, seed"
    with pytest.raises(UsageError) as caught:
        refuse_unknown(spec(seed=4), ())
    assert caught.value.do == "it takes no settings"


def test_one_value_is_read_or_its_default() -> None:
    assert value_of(spec(), "seed", whole(), 7) == 7
    assert value_of(spec(seed=1), "seed", whole(), 7) == 1
    with pytest.raises(UsageError, match="cannot take this seed"):
        value_of(spec(seed="x"), "seed", whole(), 7)
