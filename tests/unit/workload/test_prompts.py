"""Prompts against tokenizers in which words cost what they like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.words import WORDS
from pytest_inferforge.workload import prompts
from pytest_inferforge.workload.prompts import PromptMaker

TEMPLATE = 5


class Tokenizer:
    """Counts words; some cost more, and a template stands around them."""

    def __init__(self, dear, *, cost=2, template=TEMPLATE):
        self.dear = set(dear)
        self.cost = cost
        self.template = template
        self.asked = 0

    def __call__(self, text):
        self.asked += 1
        return self.template + sum(self.cost if word in self.dear else 1 for word in text.split())


def maker(bank, salt="run", seed=1):
    return PromptMaker(
        words=bank.words, ring=prompts.ring(bank, seed), overhead_tokens=bank.overhead_tokens, salt=salt
    )


@given(st.sets(st.sampled_from(WORDS), max_size=12), st.integers(2, 3))
def test_prompts_have_exactly_the_tokens_asked_for(dear, cost):
    count = Tokenizer(dear | {prompts.OPENING}, cost=cost)
    bank = prompts.learn(count)
    assert bank.overhead_tokens == TEMPLATE + cost  # the opening word is dear too
    assert set(bank.words) == set(WORDS) - dear
    for salt in ("run", None):
        for tokens in (bank.overhead_tokens, bank.overhead_tokens + 1, 40, 1000, 9000):
            assert count(maker(bank, salt).text(3, tokens)) == tokens


def test_what_a_word_costs_is_learned_in_a_handful_of_questions():
    few, some = Tokenizer(()), Tokenizer(WORDS[::50])
    prompts.learn(few)
    assert few.asked <= 8
    prompts.learn(some)
    assert some.asked <= 8 * 20


@pytest.mark.parametrize(
    ("count", "seen"),
    [
        (lambda _: 7, "a: 0 tokens for 8; about: 0 tokens for 8; above: 0 tokens for 8"),
        (Tokenizer(WORDS[31:]), "only 31 of"),
        (lambda text: len(text), "a: 16 tokens for 8"),
    ],
)
def test_a_server_whose_counts_fit_no_prompt_is_refused(count, seen):
    with pytest.raises(MeasuringError) as error:
        prompts.learn(count)
    assert error.value.what == "prompts of an exact length cannot be made for this server"
    assert error.value.seen.startswith(seen)
    assert error.value.do == "check that its usage.prompt_tokens counts the prompt that was sent"


def test_counts_that_change_with_the_length_are_found_out():
    with pytest.raises(MeasuringError, match="is counted as"):
        prompts.learn(lambda text: len(text.split()) - (len(text.split()) == 101))


@pytest.fixture(scope="module")
def bank():
    return prompts.learn(Tokenizer(()))


def test_no_prompt_begins_like_another_of_its_run_or_of_another_run(bank):
    texts = [
        maker(bank, salt).text(k, 40) for salt in ("run 1", "run 2") for k in (*range(100), *range(-100, 0))
    ]
    openings = {" ".join(text.split()[: 1 + prompts.SALT_WORDS]) for text in texts}
    assert len(openings) == 400


def test_the_same_run_makes_the_same_prompts(bank):
    assert [maker(bank).text(k, 64) for k in range(9)] == [maker(bank).text(k, 64) for k in range(9)]


def test_where_a_prefix_cache_is_wanted_prompts_share_their_beginning(bank):
    shared = maker(bank, salt=None)
    assert shared.text(1, 64) == shared.text(2, 64)
    assert shared.text(2, 128).startswith(shared.text(1, 64))
    assert maker(bank, salt=None, seed=2).text(1, 64) != shared.text(1, 64)


def test_the_shortest_prompt_is_its_opening_word(bank):
    assert maker(bank).text(0, bank.overhead_tokens) == prompts.OPENING
    assert maker(bank).text(0, 0) == prompts.OPENING
