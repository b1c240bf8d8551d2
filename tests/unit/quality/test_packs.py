"""What the packs ask: the same for everybody, in few words, and never what a model was trained on."""

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.forge_tiny import vocabulary
from pytest_inferforge.quality.packs import PACKS, Rule, chance, collection, forms_of, items, training_text
from pytest_inferforge.quality.packs.lexicon import LISTED, LOOKS, PLACES, THINGS
from pytest_inferforge.quality.packs.lm_eval_tasks import document_of
from pytest_inferforge.words import WORDS

every_pack = pytest.mark.parametrize("pack", PACKS)
with_choices = pytest.mark.parametrize("pack", [pack for pack in PACKS if "choice" in forms_of(pack)])


def of_both_splits(pack, n=250):
    return [*items(pack, seed=3, n=n, split="test"), *items(pack, seed=4, n=n, split="train")]


def tokens(text):
    """As forge-tiny reads it: a known word with its space is one token, any other character one each."""
    known = set(WORDS)
    found = []
    for word in re.findall(r" [a-z]+|.", text, re.DOTALL):
        found += [word] if word[1:] in known else list(word)
    return found


@every_pack
def test_nothing_but_known_words_digits_and_marks_is_written(pack):
    for item in of_both_splits(pack):
        for text in (f"{item.prompt} {item.answer}\n", *(f": {choice}\n" for choice in item.choices)):
            strange = {
                token
                for token in tokens(text)
                if token[1:] not in WORDS and token not in "0123456789.,?:+-=<> \n"
            }
            assert strange == set(), text
            assert "  " not in text
            assert " \n" not in text
            assert not text.startswith(" ")


def test_the_tokens_counted_here_are_those_of_forge_tiny():
    assert {f"\u0120{word}" for word in WORDS} <= set(vocabulary.tokens())
    assert tokens("- the boat : 42\n") == ["-", " the", " boat", " ", ":", " ", "4", "2", "\n"]


def test_the_lexicon_has_no_word_twice_and_none_that_is_unknown():
    for words in (LOOKS, THINGS, PLACES, LISTED):
        assert len(set(words)) == len(words)
        assert {part for word in words for part in word.split()} <= set(WORDS)


@every_pack
def test_a_prompt_ends_where_the_answer_begins(pack):
    for item in of_both_splits(pack):
        assert item.prompt.endswith(" :")
        assert "\n" not in item.answer


# The first two of seed 1. They change only when the questions do, and then every stored score is void.
GOLDEN = {
    "forge_arithmetic": ["56b03271ef11a3d1", "cc1d2fda5e50d04a"],
    "forge_recall": ["004a51a394be4988", "41a7d279931180dc"],
    "forge_instructions": ["1e15fa562d2db418", "5f2284012a5c1839"],
    "forge_grounded": ["d37ad0a9b32907a6", "e4f1bb1c52643266"],
    "forge_consistency": ["2e80895d1c3c9992", "818a711205bf5738"],
}


@every_pack
def test_the_first_items_are_known(pack):
    assert [item.id for item in items(pack, seed=1, n=2, split="test")] == GOLDEN[pack]


def test_another_process_makes_the_same_items():
    code = """
import json
from pytest_inferforge.quality.packs import PACKS, items
from pytest_inferforge.quality.packs.lm_eval_tasks import document_of
print(json.dumps([document_of(x) for p in PACKS for x in items(p, seed=9, n=20, split="train")]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    here = [document_of(item) for pack in PACKS for item in items(pack, seed=9, n=20, split="train")]
    assert json.loads(done.stdout) == here


@every_pack
def test_the_first_of_a_larger_draw_are_those_of_a_smaller_one(pack):
    assert items(pack, seed=5, n=101, split="test")[:33] == items(pack, seed=5, n=33, split="test")
    assert items(pack, seed=5, n=0, split="test") == ()


@every_pack
def test_another_seed_asks_something_else(pack):
    assert items(pack, seed=5, n=50, split="test") != items(pack, seed=6, n=50, split="test")


@every_pack
def test_the_splits_share_nothing_whatever_the_seeds(pack):
    test = [item for seed in (1, 2) for item in items(pack, seed=seed, n=400, split="test")]
    train = [item for seed in (1, 2) for item in items(pack, seed=seed, n=400, split="train")]
    assert not {item.prompt for item in test} & {item.prompt for item in train}
    assert not {item.cluster for item in test} & {item.cluster for item in train}


def test_a_sum_is_on_the_same_side_in_either_order_and_in_every_pack():
    sums = {"test": set(), "train": set()}
    for pack in ("forge_arithmetic", "forge_consistency"):
        for split, found in sums.items():
            for item in items(pack, seed=1, n=1200, split=split):
                if item.kind in ("add", "sum"):
                    found.add(tuple(sorted(re.findall(r"\d+", item.prompt))))
    assert min(map(len, sums.values())) > 100
    assert not sums["test"] & sums["train"]


@every_pack
@pytest.mark.parametrize("split", ["test", "train"])
def test_two_thousand_items_are_all_different(pack, split):
    found = items(pack, seed=7, n=2000, split=split)
    assert len(found) == 2000
    assert len({item.id for item in found}) == 2000
    assert len({(item.prompt, item.repeat) for item in found}) == 2000


@every_pack
def test_the_kinds_are_balanced(pack):
    together = 4 if pack == "forge_consistency" else 1
    counts = Counter(item.kind for item in items(pack, seed=2, n=500, split="test"))
    assert set(counts) == set(PACKS[pack])
    assert max(counts.values()) - min(counts.values()) <= together


def test_lookups_are_short_and_long():
    found = items("forge_recall", seed=2, n=400, split="test")
    pairs = Counter(item.difficulty for item in found if item.kind == "lookup")
    assert set(pairs) == {4, 8, 16, 32, 64, 128, 200}
    assert min(pairs.values()) >= 10
    for item in found:
        if item.kind == "lookup":
            name = item.prompt.rpartition("\n> ")[2]
            assert item.prompt.count("\n- ") + 1 == item.difficulty
            assert item.prompt.count(f"- {name} {item.answer}\n") == 1
            assert item.prompt.count(f"- {name}") == 1


@with_choices
def test_choices_are_different_and_the_right_one_is_at_the_label(pack):
    for item in of_both_splits(pack):
        assert 2 <= len(item.choices) <= 4
        assert len(set(item.choices)) == len(item.choices)
        assert item.choices[item.label] == item.answer


@with_choices
def test_the_right_choice_is_at_any_place(pack):
    found = [
        item
        for item in items(pack, seed=8, n=2000, split="train")
        if len(item.choices) == 4 and not item.repeat
    ]
    labels = Counter(item.label for item in found)
    clusters = len({item.cluster for item in found})
    # five standard deviations of a fair draw, whose unit is the cluster
    bound = 5 * (0.25 * 0.75 / clusters) ** 0.5
    assert all(abs(labels[place] / len(found) - 0.25) < bound for place in range(4))


@with_choices
def test_chance_is_one_in_as_many_as_there_are(pack):
    found = items(pack, seed=8, n=300, split="test")
    assert chance(found) == pytest.approx(sum(1 / len(item.choices) for item in found) / 300)
    if pack != "forge_arithmetic":  # which compares two numbers as well as four
        assert chance(found) == 0.25


def test_there_is_no_chance_without_choices():
    with pytest.raises(UsageError) as caught:
        chance(items("forge_instructions", seed=8, n=3, split="test"))
    assert caught.value.seen == "3 items, 3 of them without choices"


@every_pack
def test_clusters_have_their_size(pack):
    sizes = Counter(item.cluster for item in items(pack, seed=2, n=1200, split="test"))
    assert set(sizes.values()) == {4 if pack == "forge_consistency" else 1}


def test_a_cluster_asks_for_one_answer_in_three_phrasings_and_the_first_twice():
    clusters = {}
    for item in items("forge_consistency", seed=2, n=120, split="test"):
        clusters.setdefault(item.cluster, []).append(item)
    for asked in clusters.values():
        assert [item.repeat for item in asked] == [0, 0, 0, 1]
        assert len({item.prompt for item in asked}) == 3
        assert asked[0].prompt == asked[3].prompt
        assert len({(item.answer, item.choices, item.label) for item in asked}) == 1


def test_silent_stories_do_not_say_it_and_the_others_do():
    for item in items("forge_grounded", seed=2, n=300, split="test"):
        story, question = item.prompt.split("\n? ")
        asked = re.match(r"(?:where is the|what is) (.*?) \?", question).group(1)
        assert (item.check.rule is Rule.SILENT) == (item.kind == "silent") == (asked not in story)
        assert story.count("\n- ") + 1 == item.difficulty


def test_the_answers_of_arithmetic_are_right():
    for item in items("forge_arithmetic", seed=2, n=400, split="test"):
        question = item.prompt.partition("\n>")[0]
        numbers = [int(number) for number in re.findall(r"\d+", question)]
        if item.kind == "add":
            expected = sum(numbers)
        elif item.kind == "subtract":
            expected = numbers[0] - numbers[1]
        elif item.kind == "compare":
            expected = max(numbers)
        else:
            wanted = re.search(r"how many (\w+)", question).group(1)
            expected = question.partition("\n")[0].split().count(wanted)
        assert item.answer == str(expected), item.prompt


def test_the_answers_of_instructions_do_what_is_asked():
    for item in items("forge_instructions", seed=2, n=350, split="test"):
        line, asked = item.prompt.split("\n")[:2]
        words, answer = line.split()[1:], item.answer.split()
        number = re.search(r"\d+", asked)
        named = asked.split()[-2]
        expected = {
            "exactly": words[: int(number.group()) if number else 0],
            "repeat": words * (int(number.group()) if number else 0),
            "without": [word for word in words if word != named],
            "begin": [named, *(word for word in words if word != named)],
            "end": [*(word for word in words if word != named), named],
            "reverse": words[::-1],
            "digits": [word for word in words if word.isdigit()],
        }[item.kind]
        assert answer == expected, item.prompt


def test_the_place_of_a_number_among_its_choices_tells_nothing():
    ranks = Counter(
        sorted(map(int, item.choices)).index(int(item.answer))
        for item in items("forge_arithmetic", seed=2, n=2000, split="train")
        if item.kind == "add" and int(item.answer) > 40
    )
    total = sum(ranks.values())
    assert total > 300
    assert all(abs(ranks[rank] / total - 0.25) < 5 * (0.25 * 0.75 / total) ** 0.5 for rank in range(4))


def test_the_distractors_of_a_lookup_are_its_neighbours():
    for item in items("forge_recall", seed=2, n=200, split="test"):
        if item.kind == "lookup":
            lines = item.prompt.split("\n? ")[0].split("\n")
            name = item.prompt.rpartition("\n> ")[2]
            place = next(k for k, line in enumerate(lines) if line.startswith(f"- {name}"))
            near = {line.split()[-1] for line in lines[max(0, place - 4) : place + 5]}
            assert len(near & set(item.choices)) >= 3


def test_training_text_has_no_test_item():
    texts = list(training_text(seed=1, items=6000))
    assert len(texts) == 6000
    tested = {
        f"{item.prompt} {item.answer}\n"
        for pack in PACKS
        for item in items(pack, seed=1, n=2000, split="test")
    }
    trained = {
        f"{item.prompt} {item.answer}\n"
        for pack in PACKS
        for item in items(pack, seed=1, n=2000, split="train")
    }
    assert not tested & set(texts)
    assert trained & set(texts)  # it would find them


def test_training_text_mixes_everything_and_repeats_by_its_seed():
    texts = list(training_text(seed=1, items=400))
    cues = (
        "what is",
        "write this line again",
        "which number has this name",
        "write only",
        "does not say",
        "find the",
    )
    assert all(any(cue in text for text in texts[:100]) for cue in cues)
    assert texts == list(training_text(seed=1, items=400))
    assert texts[:50] == list(islice(training_text(seed=1, items=10**9), 50))
    assert texts != list(training_text(seed=2, items=400))


def test_only_long_lookups_have_more_than_512_tokens():
    long = [text for text in training_text(seed=1, items=2000) if len(tokens(text)) > 512]
    assert long
    assert all("which number has this name" in text and text.count("\n") > 64 for text in long)


@pytest.mark.parametrize(
    ("pack", "n", "split", "what", "seen"),
    [
        ("forge_music", 1, "test", "unknown pack", "forge_music"),
        ("forge_recall", 1, "dev", "unknown split", "dev"),
        ("forge_recall", -1, "test", "a number of items cannot be negative", "-1"),
    ],
)
def test_what_is_not_there_is_said(pack, n, split, what, seen):
    with pytest.raises(UsageError) as caught:
        items(pack, seed=1, n=n, split=split)
    assert (caught.value.what, caught.value.seen) == (what, seen)


def test_a_pack_that_is_used_up_says_how_many_it_has(monkeypatch):
    monkeypatch.setattr(collection, "_PATIENCE", 100)
    with pytest.raises(UsageError) as caught:
        items("forge_arithmetic", seed=1, n=20_000, split="test")
    assert caught.value.what == "forge_arithmetic has no 20000 different items of its test split"
    most = int(caught.value.do.removeprefix("ask for at most "))
    assert most > 500
    assert len(items("forge_arithmetic", seed=1, n=most, split="test")) == most
