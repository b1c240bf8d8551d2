"""The packs as lm-eval itself runs them."""

import os
import random

import pytest

from pytest_inferforge.quality.packs import PACKS, as_lm_eval, forms_of, items

TASKS = [(pack, form) for pack in PACKS for form in forms_of(pack)]
every_task = pytest.mark.parametrize(("pack", "form"), TASKS)
N = 60


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory):
    """The whole of lm-eval, offline, with a model that knows every answer or none."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install '.[quality]'")
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
