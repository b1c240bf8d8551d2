"""What infer_quality's arguments mean, and what is refused."""

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.options import JudgeOptions, QualityOptions
from pytest_inferforge.pytest_plugin import quality_words


@pytest.fixture
def read(tmp_path):
    def go(**arguments):
        given = {"tasks": ["a", "b"], **arguments}
        return quality_words.from_arguments(given, QualityOptions(), JudgeOptions(), folder=tmp_path)

    return go


def test_what_nobody_says_is_the_default(read):
    asked = read(tasks="a")
    assert [task.name for task in asked.tasks] == ["a"]
    assert (asked.limit, asked.at_least, asked.under_load, asked.chat) == (None, {}, None, False)
    options = QualityOptions()
    assert (asked.concurrency, asked.timeout_s, asked.retries, asked.seed) == (
        options.concurrency, options.timeout_s, options.retries, options.seed,
    )  # fmt: skip
    assert asked.not_worse_than == JudgeOptions().quality_margin


@pytest.mark.parametrize("said", ["2 pt", "2pt", "2 pts", "2 points", "2 %", "0.02", 0.02, " 2.0 pt "])
def test_points_in_all_their_forms(read, said):
    assert read(not_worse_than=said).not_worse_than == pytest.approx(0.02)


def test_a_floor_for_all_tasks_or_for_some(read):
    assert read(at_least="80 %").at_least == {"a": 0.8, "b": 0.8}
    assert read(at_least={"b": 0.5}).at_least == {"b": 0.5}


def test_a_metric_for_all_tasks_or_for_some(read):
    assert [t.metric for t in read(metric="acc_norm").tasks] == ["acc_norm", "acc_norm"]
    first, second = read(filter={"b": "strict-match"}).tasks
    assert (first.filter, second.filter) == (None, "strict-match")


def test_files_lie_beside_the_test(read, tmp_path):
    for name in ("test.jsonl", "train.jsonl", "own.yaml"):
        (tmp_path / name).write_text("{}\n")
    path = str(tmp_path / "test.jsonl")
    (alone,) = read(tasks="a", data="test.jsonl").tasks
    assert alone.data == {"test": path}
    (alone,) = read(tasks="a", data={"test": "test.jsonl", "train": "train.jsonl"}).tasks
    assert set(alone.data) == {"test", "train"}
    first, second = read(data={"b": "test.jsonl"}).tasks
    assert (first.data, second.data) == ({}, {"test": path})
    (own,) = read(tasks=["own.yaml"]).tasks
    assert own.name == str(tmp_path / "own.yaml")


def test_numbers_may_be_texts_as_the_command_line_gives_them(read):
    asked = read(limit="50", concurrency=16, timeout="2 min", retries="0", max_tokens=64)
    assert (asked.limit, asked.concurrency, asked.timeout_s, asked.retries, asked.max_gen_toks) == (
        50, 16, 120.0, 0, 64,
    )  # fmt: skip


def test_quick_asks_little_and_never_under_load(read):
    quick = read(limit=100, under_load=8).quick(4)
    assert (quick.limit, quick.under_load) == (4, None)
    assert read(limit=2).quick(4).limit == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"timeout": 5}, "timeout: a time needs a unit"),
        ({"not_worse_than": "-1 pt"}, "not_worse_than"),
        ({"at_least": "eighty"}, "at_least: "),
        ({"at_least": {"a": 1.5}}, "at_least: "),
        ({"limit": -1}, "limit is a whole number"),
        ({"seed": True}, "a seed is a whole number"),
    ],
)
def test_an_error_names_its_argument(read, arguments, said):
    with pytest.raises(UsageError) as caught:
        read(**arguments)
    assert said in caught.value.what
    assert caught.value.do


def test_a_misspelt_pack_is_said_before_anything_boots(read):
    with pytest.raises(UsageError, match="no such task") as error:
        read(tasks=["forge_recal"])
    assert "the nearest: forge_recall" in str(error.value)
    with pytest.raises(UsageError, match="forge_instructions has no such form"):
        read(tasks=["forge_instructions_choice"])


def test_so_few_items_that_nothing_can_be_shown_are_told(read):
    told = quality_words.too_few_items(read(tasks=["forge_recall", "gsm8k"], limit=100), JudgeOptions())
    assert told == [
        f"100 items of {task} can never show that less than 2 pt were lost: it takes 133 or more"
        for task in ("forge_recall", "gsm8k")
    ]
    assert quality_words.too_few_items(read(tasks=["forge_recall", "gsm8k"]), JudgeOptions()) == []
