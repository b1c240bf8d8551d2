"""What a request for a reply says, and what a reply said."""

import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.quality.generating import Written, body, wanted, written

GSM8K = {"until": ["Question:", "</s>", "<|im_end|>"], "do_sample": False, "temperature": 0.0}
CHAT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]


def test_what_a_task_leaves_open_is_as_in_lm_eval():
    want = wanted(GSM8K, max_gen_toks=None)
    assert (want.until, want.max_tokens, want.temperature, want.sampling) == (
        tuple(GSM8K["until"]),
        256,
        0.0,
        {},
    )
    assert wanted({"until": "\n", "max_gen_toks": 7}, max_gen_toks=None).until == ("\n",)
    assert wanted({"max_gen_toks": 7}, max_gen_toks=None).max_tokens == 7
    assert wanted({"max_gen_toks": 7}, max_gen_toks=3).max_tokens == 3
    drawn = wanted({"do_sample": True, "temperature": 0.8, "top_p": 0.9, "num_beams": 2}, max_gen_toks=None)
    assert (drawn.temperature, drawn.sampling) == (0.8, {"top_p": 0.9})
    assert wanted({"do_sample": False, "temperature": 0.8}, max_gen_toks=None).temperature == 0.0


def test_a_completion():
    want = wanted({"until": list("abcdef"), "max_gen_toks": 9}, max_gen_toks=None)
    assert body(DIALECTS["vllm"], "m", "Say.", want, seed=1) == {
        "model": "m",
        "prompt": "Say.",
        "max_tokens": 9,
        "temperature": 0.0,
        "stop": ["a", "b", "c", "d"],
    }
    drawn = wanted({"temperature": 0.8, "top_p": 0.9}, max_gen_toks=None)
    asked = body(DIALECTS["vllm"], "m", "Say.", drawn, seed=1)
    assert (asked["temperature"], asked["top_p"], asked["seed"], "stop" in asked) == (0.8, 0.9, 1, False)
    asked = body(DIALECTS["transformers"], "m", "Say.", want, seed=1)
    assert asked["generation_config"] == '{"max_new_tokens": 9, "do_sample": false}'


def test_a_chat():
    want = wanted({"until": ["\n", "x"], "max_gen_toks": 9}, max_gen_toks=None)
    asked = body(DIALECTS["openai"], "m", CHAT, want, seed=1)
    assert (asked["messages"], asked["max_completion_tokens"]) == (CHAT, 9)
    asked = body(DIALECTS["anthropic"], "m", CHAT, want, seed=1)
    assert (asked["system"], asked["messages"], asked["stop_sequences"]) == ("Be short.", CHAT[1:], ["x"])


def completion(text, reason="stop"):
    return {"choices": [{"text": text, "finish_reason": reason}]}


def message(content, reason="stop"):
    return {
        "choices": [{"message": {"content": content, "reasoning_content": "hm"}, "finish_reason": reason}]
    }


@pytest.mark.parametrize(
    ("answer", "text", "truncated"),
    [
        (completion(" 4\nQ: and"), " 4", False),
        (completion(" 4\nQ: and", "length"), " 4", False),
        (completion(" 4 and", "length"), " 4 and", True),
        (completion(""), "", False),
        (message("4"), "4", False),
        (message(None, "length"), "", True),
        (message([{"type": "text", "text": "4"}, {"type": "image"}]), "4", False),
        (
            {"content": [{"type": "thinking"}, {"type": "text", "text": "4"}], "stop_reason": "max_tokens"},
            "4",
            True,
        ),
    ],
)
def test_a_reply_ends_at_the_first_stop_sequence(answer, text, truncated):
    assert written(answer, ["</s>", "\n"]) == Written(text=text, truncated=truncated)


@pytest.mark.parametrize(
    "answer", [{}, {"choices": []}, {"choices": [{}]}, completion(None), {"choices": ["x"]}]
)
def test_what_is_no_reply(answer):
    assert written(answer, ["\n"]) is None
