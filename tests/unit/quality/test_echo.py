"""Replies to `echo`, as servers write them: which tokens are the continuation's, and their sum."""

import pytest

from pytest_inferforge.quality.echo import Echoed, first_of, read, summed
from pytest_inferforge.quality.likelihoods import Score, Unscored, moved_border

# vLLM 0.32.0, prompt "The cat is black", max_tokens=1, logprobs=1, echo=true; a tokenizer without BOS.
VLLM = {
    "object": "text_completion",
    "choices": [
        {
            "index": 0,
            "text": "The cat is black and",
            "logprobs": {
                "text_offset": [0, 3, 7, 10, 16],
                "token_logprobs": [None, -7.25, -1.5, -3.0, -0.75],
                "tokens": ["The", " cat", " is", " black", " and"],
                "top_logprobs": [
                    None,
                    {" cat": -7.25, " sun": -1.0},
                    {" is": -1.5},
                    {" black": -3.0, " is": -0.5},
                    {" and": -0.75},
                ],
            },
            "finish_reason": "length",
        }
    ],
    "usage": {"prompt_tokens": 4, "total_tokens": 5, "completion_tokens": 1},
}


def with_logprobs(**changed):
    told = {**VLLM["choices"][0]["logprobs"], **changed}
    return {**VLLM, "choices": [{**VLLM["choices"][0], "logprobs": told}]}


# SGLang 0.5.23: the same, where no token has an offset.
SGLANG = with_logprobs(text_offset=[-1] * 5)
# llama.cpp at 0c1e57098: echo is ignored, and log probabilities come in the shape of the chat API.
LLAMACPP = {
    "choices": [
        {
            "text": " and",
            "index": 0,
            "logprobs": {
                "content": [{"id": 7, "token": " and", "logprob": -0.75, "top_logprobs": []}],
            },
            "finish_reason": "length",
        }
    ],
    "usage": {"completion_tokens": 1, "prompt_tokens": 4, "total_tokens": 5},
}


@pytest.mark.parametrize("body", [VLLM, SGLANG], ids=["vLLM", "SGLang"])
def test_the_generated_token_is_no_part_of_it(body):
    echoed = read(body)
    assert echoed.tokens == ("The", " cat", " is", " black")
    assert echoed.logprobs == (None, -7.25, -1.5, -3.0)
    assert echoed.greedy == (False, False, True, False)
    assert summed(echoed, first_of(echoed.tokens, " is black")) == Score(logprob=-4.5, greedy=False, tokens=2)
    assert summed(echoed, 2).logprob == -4.5
    assert summed(echoed, 0) == Score(logprob=-11.75, greedy=False, tokens=3)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (LLAMACPP, "echo or logprobs is ignored"),
        ({}, "echo or logprobs is ignored"),
        ({"choices": [{"text": "x", "logprobs": None}]}, "echo or logprobs is ignored"),
        (with_logprobs(tokens=["The"]), "not lists of one length"),
        (with_logprobs(tokens=[" and"], token_logprobs=[-1.0], top_logprobs=[{}]), "no echo"),
        ({**VLLM, "usage": {"prompt_tokens": 9, "completion_tokens": 1}}, "of a prompt of 9 tokens"),
    ],
)
def test_what_is_no_echo_is_found_out(body, said):
    assert said in read(body)


@pytest.mark.parametrize(
    ("tokens", "continuation", "first"),
    [
        (["The", " cat", " is"], " is", 2),
        (["The", " cat", " is"], " cat is", 1),
        (["", "The", " cat", " is"], " cat is", 2),  # a BOS without text
        (["<s>", "The", " cat", " is"], " is", 3),  # one with a text that the prompt does not have
        (["Th", "e c", "at is"], "cat is", 1),  # "e c" straddles the border, and belongs to it
        (["A", " ", "", "é"], "é", 2),  # the bytes of one character over two tokens
        (["A", " ", "\ufffd", "\ufffd"], "é", None),
        (["A"], " is not there", None),
    ],
)
def test_the_continuation_is_looked_for_from_the_end(tokens, continuation, first):
    assert first_of(tokens, continuation) == first


def test_what_has_no_probability_is_no_score():
    echoed = Echoed(tokens=("a", "b"), logprobs=(None, None), greedy=(False, False))
    assert summed(echoed, 1).reason == "not_scored"
    endless = Echoed(tokens=("a", "b"), logprobs=(None, float("-inf")), greedy=(False, False))
    assert isinstance(summed(endless, 1), Unscored)


def test_white_space_at_the_end_of_the_context_is_the_continuations():
    assert moved_border("Answer: \n", "yes") == ("Answer:", " \nyes")
    assert moved_border("Answer:", " yes") == ("Answer:", " yes")
