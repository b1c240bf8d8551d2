"""Tasks as lm-eval ships them, over local files in the format of their data sets."""

import importlib.util
import math

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.evaluation import Task

SUMS = [
    {"question": f"There are {k} cats. {k} come.", "answer": f"{k}+{k}={2 * k}\n#### {2 * k}"}
    for k in range(12)
]
WALKS = [
    {
        "ind": k,
        "activity_label": "Walking",
        "ctx_a": f"A man walks {k} miles.",
        "ctx_b": "then he",
        "ctx": f"A man walks {k} miles. then he",
        "endings": ["eats a tree.", "rests a while.", "is a house.", "flies home."],
        "label": "1",
    }
    for k in range(6)
]
STARS = [
    {
        "question": f"Star {k}?",
        "subject": "astronomy",
        "choices": ["one", "two", "three", "four"],
        "answer": k % 4,
    }
    for k in range(8)
]
ABOUT = "The following are multiple choice questions (with answers) about astronomy.\n\n"
ORDERS = [
    {
        "key": 1,
        "prompt": "Write in all lower case.",
        "instruction_id_list": ["change_case:english_lowercase"],
        "kwargs": [{}],
    },
    {
        "key": 2,
        "prompt": "Write no commas.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    },
]


def test_gsm8k_is_scored_by_its_own_filters(fake, job, run, jsonl, replies):
    right = {row["question"]: row["answer"] for row in SUMS}

    def reply(body):
        question = body["prompt"].rpartition("Question: ")[2].removesuffix("\nAnswer:")
        said = (
            right[question]
            if not question.startswith("There are 3 ")
            else right[question].replace("####", "so")
        )
        return 200, replies(f" {said}\n\nQuestion: and more")

    fake.reply = reply
    data = {"train": jsonl("train", SUMS[6:]), "test": jsonl("test", SUMS[:6])}
    result = run(job(Task(name="gsm8k", data=data)))
    (task,) = result.tasks
    assert (task.metric, task.filter, task.scores) == ("exact_match", "strict-match", (1, 1, 1, 0, 1, 1))
    assert result.observed["gsm8k"] == {"exact_match,flexible-extract": 1.0}
    assert (task.identity["num_fewshot"], task.identity["version"]) == ("5", "3.0")
    prompt, stops = fake.asked[0][1]["prompt"], fake.asked[0][1]["stop"]
    assert prompt.count("Question:") == 6
    assert stops == ["Question:", "</s>", "<|im_end|>"]
    assert not any("and more" in said for said in task.said)
    flexible = run(job(Task(name="gsm8k", data=data, filter="flexible-extract", num_fewshot=0)))
    assert flexible.tasks[0].value == 1.0
    assert fake.asked[-1][1]["prompt"].count("Question:") == 1
    assert flexible.tasks[0].keys != task.keys


def test_the_same_data_elsewhere_is_the_same_task(fake, job, run, jsonl, replies, tmp_path):
    fake.reply = lambda _body: (200, replies(" 4"))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    first = jsonl("test", SUMS[:3])
    second = folder / "other.jsonl"
    second.write_text((tmp_path / "test.jsonl").read_text())
    one, other = (
        run(job(Task(name="gsm8k", data={"test": path}, num_fewshot=0))).tasks[0]
        for path in (first, str(second))
    )
    assert (one.keys, one.identity) == (other.keys, other.identity)
    third = jsonl("changed", [*SUMS[:2], SUMS[5]])
    (changed,) = run(job(Task(name="gsm8k", data={"test": third}, num_fewshot=0))).tasks
    assert changed.identity["data"] != one.identity["data"]
    assert changed.identity["config"] == one.identity["config"]
    assert changed.keys[:2] == one.keys[:2]


def test_hellaswag_and_mmlu_are_scored_by_likelihood(fake, job, run, jsonl, knowing):
    stars = [
        (
            f"{ABOUT}{row['question']}\nA. one\nB. two\nC. three\nD. four\nAnswer:",
            "ABCD"[row["answer"]],
        )
        for row in STARS
    ]
    walks = [(f"Walking: A man walks {k} miles. Then he", "rests a while.") for k in range(6)]
    fake.reply = knowing([*stars, *walks])
    result = run(
        job(
            Task(name="hellaswag", data={"validation": jsonl("walks", WALKS)}, metric="acc_norm"),
            Task(name="mmlu_astronomy", data={"test": jsonl("stars", STARS)}),
        )
    )
    hellaswag, mmlu = result.tasks
    assert (hellaswag.metric, hellaswag.value, hellaswag.chance) == ("acc_norm", 1.0, 0.25)
    assert result.observed["hellaswag"]["acc,none"] == 1.0
    assert (mmlu.metric, mmlu.value, len(mmlu.likelihoods[0]), mmlu.tied) == ("acc", 1.0, 4, 0)
    assert mmlu.perplexity == pytest.approx(1.105, abs=0.001)


def test_a_task_file_of_the_user(fake, job, run, jsonl, replies, tmp_path):
    data = jsonl("mine", [{"q": "Say a.", "a": "a"}, {"q": "Say b.", "a": "b"}])
    task = tmp_path / "mine.yaml"
    task.write_text(
        "task: mine\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ngeneration_kwargs: {until: ["\\n"], max_gen_toks: 4}\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    fake.reply = lambda _body: (200, replies("a\nb"))
    (result,) = run(job(str(task))).tasks
    assert (result.task, result.scores) == (str(task), (1.0, 0.0))
    assert fake.asked[0][1]["max_tokens"] == 4


def test_perplexities_and_last_words(fake, job, run, jsonl, knowing, tmp_path):
    data = jsonl("texts", [{"text": "one two three four"}, {"text": "five six"}])
    for name, kind, more in (
        ("whole", "loglikelihood_rolling", 'doc_to_text: ""\ndoc_to_target: "{{text}}"\n'),
        ("last", "loglikelihood", 'doc_to_text: "{{text}}"\ndoc_to_target: "ten"\n'),
    ):
        (tmp_path / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\noutput_type: {kind}\ntest_split: test\n"
            f"dataset_kwargs: {{data_files: {{test: {data}}}}}\n{more}"
        )
    fake.reply = knowing([("one two three four", "ten")])
    result = run(job(str(tmp_path / "whole.yaml"), str(tmp_path / "last.yaml")))
    whole, last = result.tasks
    assert whole.metric == "word_perplexity"
    assert not whole.higher_is_better
    # Words after the first have -3 nats each, and lm-eval divides by all words.
    assert whole.scores == pytest.approx((math.exp(9 / 4), math.exp(3 / 2)))
    assert whole.perplexity == pytest.approx(math.exp(12 / 4))
    assert (last.metric, last.higher_is_better, last.chance) == ("perplexity", False, None)
    assert result.observed[last.task] == {"acc,none": 1.0}


def test_a_group_is_one_task(fake, job, run, jsonl, knowing, tmp_path):
    rows = [{"q": f"Is {k} even?", "label": k % 2} for k in range(5)]
    data = jsonl("rows", rows)
    for name, mark in (("one", "?"), ("two", "!")):
        (tmp_path / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\noutput_type: multiple_choice\ntest_split: test\n"
            f"dataset_kwargs: {{data_files: {{test: {data}}}}}\n"
            f'doc_to_text: "{{{{q}}}}{mark}"\ndoc_to_choice: ["yes", "no"]\ndoc_to_target: label\n'
            "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
        )
    group = tmp_path / "both.yaml"
    group.write_text("group: both\ntask: [one, two]\n")
    fake.reply = knowing([(f"Is {k} even?{mark}", ["yes", "no"][k % 2]) for k in range(5) for mark in "?!"])
    (result,) = run(job(str(group), limit=4)).tasks
    assert (len(result.scores), len(set(result.keys)), result.value) == (8, 8, 1.0)


def test_data_that_are_missing_are_named(job, run, jsonl, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    with pytest.raises(UsageError) as caught:
        run(job("gsm8k"))
    assert caught.value.what == "the data of gsm8k are not here"
    assert "data set openai/gsm8k main, splits test, train" in caught.value.seen
    assert 'data={"test": "test.jsonl", "train": "train.jsonl"}' in caught.value.do
    assert "question, answer" in caught.value.do
    assert "HF_HOME" in caught.value.do
    with pytest.raises(UsageError) as caught:
        run(job(Task(name="gsm8k", data={"test": jsonl("test", SUMS)})))
    assert "missing: train" in caught.value.seen
    with pytest.raises(UsageError, match="are not there"):
        run(job(Task(name="gsm8k", data={"test": "nowhere.jsonl"})))
    with pytest.raises(UsageError) as caught:
        run(job(Task(name="gsm8k", data={"test": jsonl("wrong", [{"q": "a"}])}, num_fewshot=0)))
    assert caught.value.what == "the data of gsm8k do not fit it"
    assert "question" in caught.value.seen


def test_ifeval_is_scored_or_says_what_it_needs(fake, job, run, jsonl, replies):
    fake.reply = lambda _body: (200, replies("all of this is low, my friend, and that is that."))
    asked = job(Task(name="ifeval", data={"train": jsonl("orders", ORDERS)}))
    if any(importlib.util.find_spec(package) is None for package in ("langdetect", "immutabledict")):
        with pytest.raises(UsageError) as caught:
            run(asked)
        assert caught.value.what == "ifeval needs a package that is not installed"
        assert "lm-eval[ifeval]" in caught.value.do
        return
    result = run(asked)
    (task,) = result.tasks
    assert (task.metric, task.scores) == ("prompt_level_strict_acc", (1.0, 0.0))
    assert result.observed["ifeval"]["inst_level_loose_acc,none"] == 0.5
