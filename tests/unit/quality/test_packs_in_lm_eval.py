"""The packs as lm-eval runs them: with its own evaluator where it is installed, and their data without."""

import json
import os
import random

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


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory):
    """The whole of lm-eval, offline, with a model that knows every answer or none."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'lm-eval>=0.4.12,<0.5'")
    patch = pytest.MonkeyPatch()
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "TQDM_DISABLE": "1",
    }.items():
        patch.setitem(os.environ, name, value)
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Parrot(LM):
        """`replies`: prompt -> what is said to it."""

        def __init__(self, replies):
            super().__init__()
            self.replies = replies
            self.asked = []

        def generate_until(self, requests, **_):
            self.asked += [request.args for request in requests]
            return [f" {self.replies[request.args[0]]}" for request in requests]

        def loglikelihood(self, requests, **_):
            self.asked += [request.args for request in requests]
            return [
                (0.0 if request.args[1] == f" {self.replies[request.args[0]]}" else -9.0, False)
                for request in requests
            ]

        def loglikelihood_rolling(self, requests, **_):
            raise NotImplementedError

    def evaluate(pack, form, replies):
        model = Parrot(replies)
        state = random.getstate()
        try:
            results = simple_evaluate(
                model,
                tasks=[as_lm_eval(pack, form, seed=4, n=N)],
                task_manager=TaskManager(include_defaults=False),
                bootstrap_iters=1,
            )
        finally:
            random.setstate(state)  # which lm-eval seeds
        return results, model.asked

    yield evaluate
    patch.undo()


def right_and_wrong(pack):
    asked = items(pack, seed=4, n=N, split="test")
    right = {item.prompt: item.answer for item in asked}
    wrong = {
        item.prompt: item.choices[item.label - 1] if item.choices else f"{item.answer} no" for item in asked
    }
    return asked, right, wrong


@every_task
def test_a_model_that_is_right_scores_one_and_one_that_is_wrong_zero(pack, form, evaluate):
    asked, right, wrong = right_and_wrong(pack)
    for replies, score in ((right, 1.0), (wrong, 0.0)):
        results, requests = evaluate(pack, form, replies)
        name = f"{pack}_{form}"
        assert results["results"][name]["acc,none"] == score
        assert results["n-samples"][name] == {"original": N, "effective": N}
        assert [sample["doc"]["id"] for sample in results["samples"][name]] == [item.id for item in asked]
        assert len(requests) == (N if form == "generate" else sum(len(item.choices) for item in asked))
        if pack == "forge_grounded":
            assert results["results"][name]["hallucination,none"] == 1.0 - score
            assert results["higher_is_better"][name]["hallucination"] is False
        else:
            assert "hallucination,none" not in results["results"][name]
        if form == "choice":
            assert results["results"][name]["tied,none"] == 0.0


def test_half_right_is_one_half(evaluate):
    asked, right, wrong = right_and_wrong("forge_recall")
    half = {item.prompt: (right if k % 2 else wrong)[item.prompt] for k, item in enumerate(asked)}
    for form in forms_of("forge_recall"):
        results, _ = evaluate("forge_recall", form, half)
        assert results["results"][f"forge_recall_{form}"]["acc,none"] == 0.5


def test_the_prompt_arrives_as_it_was_made(evaluate):
    asked, right, _ = right_and_wrong("forge_grounded")
    _, requests = evaluate("forge_grounded", "generate", right)
    assert [prompt for prompt, _ in requests] == [item.prompt for item in asked]
    settings = requests[0][1]
    assert (settings["until"], settings["temperature"], settings["do_sample"]) == (["\n"], 0.0, False)
    _, requests = evaluate("forge_grounded", "choice", right)
    assert [text for _, text in requests] == [f" {choice}" for item in asked for choice in item.choices]


def test_hallucination_is_a_share_of_the_silent_ones(evaluate):
    asked, right, wrong = right_and_wrong("forge_grounded")
    silent = [item.prompt for item in asked if item.kind == "silent"]
    replies = right | {prompt: wrong[prompt] for prompt in silent[: len(silent) // 4]}
    results, _ = evaluate("forge_grounded", "generate", replies)
    assert results["results"]["forge_grounded_generate"]["hallucination,none"] == 0.25
    assert results["results"]["forge_grounded_generate"]["acc,none"] == pytest.approx(1 - 5 / 60)
