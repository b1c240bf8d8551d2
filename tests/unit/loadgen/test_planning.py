"""What a dialect makes of a workload, and what it cannot say."""

import pytest

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.loadgen import planning

NO_TOKEN_IDS = {name for name, dialect in DIALECTS.items() if not dialect.token_ids}


def test_completions_are_refused_where_there_are_none(plan_for):
    with pytest.raises(MeasuringError) as caught:
        plan_for("anthropic", api="completions")
    assert str(caught.value).splitlines() == [
        "the server offers no completions",
        "  seen: its dialect is anthropic, and the workload asks for api='completions'",
        "  do:   ask for api='chat'",
    ]
    assert plan_for("anthropic", api="chat").classes[0].path == "/v1/messages"


def test_which_servers_take_no_token_ids():
    assert {"tgi", "transformers", "lmdeploy", "ollama", "anthropic"} == NO_TOKEN_IDS


@pytest.mark.parametrize("dialect", sorted(NO_TOKEN_IDS - {"anthropic"}))
def test_token_ids_are_refused_where_a_prompt_is_a_text(plan_for, dialect):
    with pytest.raises(MeasuringError) as caught:
        plan_for(dialect, api="completions", token_ids=True)
    assert str(caught.value).splitlines() == [
        "prompts cannot be sent to this server as token ids",
        f"  seen: its dialect is {dialect}, and the workload asks for token_ids=True",
        "  do:   drop token_ids: prompts are then texts of the same length",
    ]


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - NO_TOKEN_IDS))
def test_token_ids_are_sent_where_they_are_taken(plan_for, dialect):
    assert plan_for(dialect, api="completions", token_ids=True).classes[0].token_ids


def test_one_class_that_cannot_be_said_is_enough(plan_for):
    classes = {"a": {"api": "chat"}, "b": {"api": "completions"}}
    with pytest.raises(MeasuringError, match="offers no completions"):
        plan_for("anthropic", classes=classes, api=None)


def test_both_can_be_asked_before_there_is_a_plan():
    planning.refuse_unspoken(DIALECTS["anthropic"], "chat", token_ids=False)
    with pytest.raises(MeasuringError, match="token ids"):
        planning.refuse_unspoken(DIALECTS["ollama"], "completions", token_ids=True)
