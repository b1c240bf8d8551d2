"""Which replies are right, which are wrong, and which are made up."""

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.packs import (
    PACKS,
    Agreement,
    Check,
    Outcome,
    Rule,
    agreement,
    items,
    passes,
)
from pytest_inferforge.quality.packs.grounded import NOT_SAID
from pytest_inferforge.quality.packs.item import make

every_pack = pytest.mark.parametrize("pack", PACKS)


def of(pack, n=500):
    return items(pack, seed=3, n=n, split="test")


def asked(check, answer="x"):
    return make(
        pack="p", kind="k", subject="s", prompt="? :", answer=answer, difficulty=1, check=Check(**check)
    )


@every_pack
def test_the_answer_passes_as_a_model_would_write_it(pack):
    for item in of(pack):
        for reply in (
            item.answer,
            f" {item.answer}\n",
            f"{item.answer.capitalize()} .",
            f" {item.answer}.\n? what",
        ):
            assert passes(item, reply) == Outcome(correct=True, hallucinated=False, reason="right"), reply


@every_pack
def test_every_distractor_fails(pack):
    for item in of(pack):
        for choice in item.choices:
            assert passes(item, choice).correct == (choice == item.answer)


@every_pack
def test_what_is_nearly_the_answer_fails(pack):
    for item in of(pack):
        words = item.answer.split()
        nearly = [
            "",
            " . ",
            f"{item.answer} {words[-1]}",
            f"{item.answer} snow" if "snow" not in words else "",
            f"not {item.answer}",
            f"-{item.answer}",
            item.answer + "0",
            " ".join(words[:-1]),
        ]
        for reply in nearly:
            outcome = passes(item, reply)
            assert not outcome.correct, (item.prompt, reply)
            assert outcome.reason != "right"


def test_another_order_passes_only_where_the_order_was_free():
    found = of("forge_instructions")
    free = {"exactly", "without"}
    for item in found:
        words = item.answer.split()
        if len(set(words)) > 1:
            turned = " ".join(words[::-1])
            assert passes(item, turned).correct == (item.kind in free), item.prompt
    begins = [item for item in found if item.kind == "begin"]
    for item in begins:
        first, *others = item.answer.split()
        assert passes(item, " ".join([first, *others[::-1]])).correct


@pytest.mark.parametrize(
    ("check", "reply", "reason"),
    [
        ({"rule": Rule.ACCEPTED, "accepted": ("19",)}, "20", "'19' was right, '20' was said"),
        ({"rule": Rule.ACCEPTED, "accepted": ("19",)}, "\n", "said nothing"),
        ({"rule": Rule.ALL_OF, "words": ("a", "b"), "forbidden": "c"}, "a c b", "used 'c'"),
        ({"rule": Rule.ALL_OF, "words": ("a", "b"), "first": "b"}, "a b", "began with 'a' and not with 'b'"),
        ({"rule": Rule.ALL_OF, "words": ("a", "b"), "last": "a"}, "a b", "ended with 'b' and not with 'a'"),
        ({"rule": Rule.ALL_OF, "words": ("a", "b")}, "a", "the words were to be 'a b', 'a' was said"),
        ({"rule": Rule.SOME_OF, "words": ("a", "b", "c"), "count": 2}, "a b c", "wrote 3 and not 2"),
        ({"rule": Rule.SOME_OF, "words": ("a", "b", "c"), "count": 2}, "a a", "wrote a word twice: 'a a'"),
        ({"rule": Rule.SOME_OF, "words": ("a", "b", "c"), "count": 2}, "a d", "'d' was not in the list"),
    ],
)
def test_the_reason_says_what_was_wrong(check, reply, reason):
    assert passes(asked(check), reply) == Outcome(correct=False, hallucinated=False, reason=reason)


def test_commas_and_case_do_not_matter_where_words_are_listed():
    check = {"rule": Rule.SOME_OF, "words": ("a", "b", "c"), "count": 2}
    assert passes(asked(check), "A, c.").correct


def test_an_answer_to_a_silent_story_is_made_up():
    for item in of("forge_grounded"):
        elsewhere = "in the moon"
        if item.kind == "silent":
            assert passes(item, elsewhere) == Outcome(
                correct=False,
                hallucinated=True,
                reason=f"the story does not say it, '{elsewhere}' was said",
            )
            assert passes(item, "") == Outcome(correct=False, hallucinated=False, reason="said nothing")
            assert passes(item, NOT_SAID).correct
        else:
            for reply in (elsewhere, NOT_SAID, ""):
                outcome = passes(item, reply)
                assert not outcome.correct
                assert not outcome.hallucinated


def test_a_place_may_be_named_shortly_or_with_its_fact():
    item = next(item for item in of("forge_grounded") if item.answer == "in the garden")
    thing = item.prompt.partition("where is ")[2].partition(" ?")[0]
    for reply in ("in the garden", "The garden.", "garden", f"{thing} is in the garden ."):
        assert passes(item, reply).correct
    assert not passes(item, "by the garden").correct


class TestAgreement:
    asked = items("forge_consistency", seed=3, n=8, split="test")

    def test_right_everywhere(self):
        replies = [f" {item.answer} ." for item in self.asked]
        assert agreement(self.asked, replies) == Agreement(
            correct_ratio=1.0, phrasings_ratio=1.0, repeats_ratio=1.0
        )

    def test_wrong_but_always_the_same(self):
        assert agreement(self.asked, ["snow"] * 8) == Agreement(
            correct_ratio=0.0, phrasings_ratio=1.0, repeats_ratio=1.0
        )

    def test_one_phrasing_of_one_question_is_off(self):
        replies = [item.answer for item in self.asked]
        replies[1] = "snow"
        # of the five pairs with different prompts, three have the second phrasing
        assert agreement(self.asked, replies) == Agreement(
            correct_ratio=7 / 8, phrasings_ratio=(2 / 5 + 1) / 2, repeats_ratio=1.0
        )

    def test_a_repeat_that_differs(self):
        replies = [item.answer for item in self.asked]
        replies[3] = "snow"
        assert agreement(self.asked, replies).repeats_ratio == 0.5

    def test_saying_nothing_agrees_with_nothing(self):
        assert agreement(self.asked, [""] * 8) == Agreement(
            correct_ratio=0.0, phrasings_ratio=0.0, repeats_ratio=0.0
        )

    def test_right_replies_agree_however_worded(self):
        place = [
            item for item in items("forge_consistency", seed=3, n=24, split="test") if item.kind == "place"
        ][:4]
        replies = [place[0].answer, place[0].answer.split()[-1]] * 2
        assert agreement(place, replies).phrasings_ratio == 1.0

    def test_what_cannot_be_compared_is_not_a_number(self):
        assert agreement((), ()) == Agreement(correct_ratio=None, phrasings_ratio=None, repeats_ratio=None)
        assert agreement(self.asked[:1], ["snow"]).phrasings_ratio is None

    def test_each_item_needs_its_reply(self):
        with pytest.raises(UsageError, match="each item needs its reply"):
            agreement(self.asked, ["snow"])
