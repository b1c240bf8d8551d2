from __future__ import annotations

import pytest

from pytest_inferforge.engines.settings import one_of, refuse_unknown, whole, yes_no
from pytest_inferforge.errors import UsageError
from pytest_inferforge.servers.spec import ServerSpec


def spec(**settings: object) -> ServerSpec:
    return ServerSpec(engine="some engine", settings=tuple(settings.items()))


def test_values_that_are_not_set_are_the_default() -> None:
    assert whole(spec(), "seed", 7) == 7
    assert yes_no(spec(), "eager", default=True) is True
    assert one_of(spec(), "dtype", ["a", "b"], "b") == "b"


def test_values_that_are_set_are_taken() -> None:
    assert whole(spec(seed=0), "seed", 7, low=0) == 0
    assert yes_no(spec(eager=False), "eager", default=True) is False
    assert one_of(spec(dtype="a"), "dtype", ["a", "b"], "b") == "a"


@pytest.mark.parametrize("value", [0, -1, 11, 2.0, "4", True])
def test_what_is_no_whole_number_in_range_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="some engine cannot take this seed") as caught:
        whole(spec(seed=value), "seed", 7, low=1, high=10)
    assert caught.value.seen == f"seed={value!r}"
    assert caught.value.do == "give a whole number from 1 to 10"


def test_what_is_no_choice_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        one_of(spec(dtype="c"), "dtype", ["a", "b"], "a")
    assert caught.value.do == "choose one of a, b"
    with pytest.raises(UsageError, match="cannot take this eager"):
        yes_no(spec(eager="yes"), "eager", default=True)


def test_an_unknown_setting_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match="some engine has no setting 'max_num_seq'") as caught:
        refuse_unknown(spec(max_num_seq=4), ("max_num_seqs", "seed"))
    assert caught.value.do == "did you mean max_num_seqs? it takes max_num_seqs, seed"
    with pytest.raises(UsageError) as caught:
        refuse_unknown(spec(tensor_parallel=4), ("max_num_seqs", "seed"))
    assert caught.value.do == "it takes max_num_seqs, seed"
