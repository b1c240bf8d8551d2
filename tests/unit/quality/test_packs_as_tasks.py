"""The packs as tasks of lm-eval: their data and scores. `tests/quality` runs them in lm-eval itself."""

import json

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.packs import PACKS, as_lm_eval, forms_of, items
from pytest_inferforge.quality.packs.lm_eval_tasks import chosen, document_of, documents, generated, item_of

TASKS = [(pack, form) for pack in PACKS for form in forms_of(pack)]
every_task = pytest.mark.parametrize(("pack", "form"), TASKS)
N = 60


def test_instructions_are_only_written():
    assert [form for pack, form in TASKS if pack == "forge_instructions"] == ["generate"]
    assert len(TASKS) == 9


@every_task
def test_a_document_is_an_item_as_json_would_hold_it(pack, form):
    task = as_lm_eval(pack, form, seed=4, n=N)
    docs = task["custom_dataset"](**task["metadata"], **task["dataset_kwargs"])[task["test_split"]]
    assert json.loads(json.dumps(docs)) == docs
    assert tuple(item_of(doc) for doc in docs) == items(pack, seed=4, n=N, split="test")
    assert {"prompt", "choices", "label", "answer"} <= set(docs.features)


def test_a_reply_is_scored():
    doc = document_of(items("forge_arithmetic", seed=4, n=1, split="test")[0])
    assert generated(doc, [f" {doc['answer']}"]) == {"acc": 1.0}
    assert generated(doc, [" snow"]) == {"acc": 0.0}


def test_hallucination_is_scored_only_where_the_story_is_silent():
    for item in items("forge_grounded", seed=4, n=30, split="test"):
        made_up = generated(document_of(item), ["in the moon"])
        assert made_up == ({"acc": 0.0, "hallucination": 1.0} if item.kind == "silent" else {"acc": 0.0})
        right = generated(document_of(item), [item.answer])
        assert right == ({"acc": 1.0, "hallucination": 0.0} if item.kind == "silent" else {"acc": 1.0})


def test_the_likeliest_choice_is_the_reply_and_a_tie_is_none():
    item = next(item for item in items("forge_grounded", seed=4, n=9, split="test") if item.kind == "silent")
    doc = document_of(item)
    likelihoods = [-5.0] * 4
    assert chosen(doc, [(x, False) for x in likelihoods]) == {"acc": 0.0, "hallucination": 0.0, "tied": 1.0}
    likelihoods[item.label] = -1.0
    assert chosen(doc, [(x, False) for x in likelihoods]) == {"acc": 1.0, "hallucination": 0.0, "tied": 0.0}
    likelihoods[item.label - 1] = -0.5
    assert chosen(doc, [(x, False) for x in likelihoods]) == {"acc": 0.0, "hallucination": 1.0, "tied": 0.0}


@pytest.mark.parametrize(
    ("pack", "form", "n", "what"),
    [
        ("forge_music", "generate", 1, "unknown pack"),
        ("forge_instructions", "choice", 1, "forge_instructions has no such form"),
        ("forge_recall", "essay", 1, "forge_recall has no such form"),
        ("forge_recall", "choice", 0, "a task needs items"),
    ],
)
def test_what_is_not_there_is_said(pack, form, n, what):
    with pytest.raises(UsageError) as caught:
        as_lm_eval(pack, form, seed=1, n=n)
    assert caught.value.what == what


def test_the_documents_are_those_of_the_seed():
    assert documents(pack="forge_recall", seed=1, n=2) != documents(pack="forge_recall", seed=2, n=2)
