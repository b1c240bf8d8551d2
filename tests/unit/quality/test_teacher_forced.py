"""Next tokens' log probabilities as llama.cpp writes them, and how a continuation's are found in them."""

import pytest

from pytest_inferforge.quality.teacher_forced import ids_in, read, shared

# llama.cpp at 0c1e57098, prompt [763, 357, 514], max_tokens=1, logprobs=3.
LLAMACPP = {
    "choices": [
        {
            "text": " him",
            "index": 0,
            "logprobs": {
                "content": [
                    {
                        "id": 497,
                        "token": " him",
                        "bytes": [32, 104, 105, 109],
                        "logprob": -2.091169834136963,
                        "top_logprobs": [
                            {"id": 824, "token": " want", "logprob": -2.1757278442382812},
                            {"id": 497, "token": " him", "logprob": -2.091169834136963},
                            {"id": 483, "token": " hard", "logprob": -2.617879629135132},
                        ],
                    }
                ]
            },
            "finish_reason": "length",
        }
    ],
    "usage": {"completion_tokens": 1, "prompt_tokens": 3, "total_tokens": 4},
}


def with_tops(*tops):
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": list(tops)}]}}]}


def test_the_best_stands_first():
    told = read(LLAMACPP, 3)
    assert list(told.logprobs) == [497, 824, 483]
    assert not told.whole
    assert read(LLAMACPP, 100).whole


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"choices": [{"text": "x", "logprobs": None}]}, "no logprobs.content"),
        (with_tops({"token": " x", "logprob": -1.0}), "no logprobs.content with ids"),
        (with_tops(), "is empty"),
        (with_tops({"id": 1, "logprob": 0.5}), "no log probabilities"),
        (with_tops({"id": 1, "logprob": -0.1}, {"id": 2, "logprob": -0.1}), "more than 1 in all"),
    ],
)
def test_what_is_no_distribution_is_refused(body, said):
    assert said in read(body, 3)


def test_ids_in_either_shape():
    assert ids_in({"tokens": [1, 2]}) == (1, 2)
    assert ids_in({"tokens": [{"id": 1, "piece": "a"}]}) == (1,)
    assert ids_in({"ids": [1]}) is None
    assert shared((1, 2, 3), (1, 2, 4, 5)) == 2
    assert shared((), (1,)) == 0
