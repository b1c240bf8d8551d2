"""Quality verdicts on literals: every verdict, every reason not to give one."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge.gate import pairing, quality
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.outcomes import Outcomes, QualityKind
from pytest_inferforge.records import Fingerprint, SessionResult, TestResult
from pytest_inferforge.stats import paired

OPTIONS = JudgeOptions()
ITEM = st.sampled_from([0.0, 1.0])
PAIRS = st.lists(st.tuples(ITEM, ITEM), min_size=2, max_size=60)


def task(scores, **more):
    fields = {
        "task": "gsm8k", "metric": "exact_match", "filter": "none", "higher_is_better": True,
        "keys": tuple(f"k{k}" for k in range(len(scores))), "scores": tuple(map(float, scores)),
    }  # fmt: skip
    return Outcomes(**{**fields, **more})


def answers(right, wrong, worse, better):
    """(now, then): so many items right on both sides, wrong on both, lost, and gained."""
    now = [1] * right + [0] * wrong + [0] * worse + [1] * better
    then = [1] * right + [0] * wrong + [1] * worse + [0] * better
    return now, then


def compare(now, then, *, margin=0.02, options=OPTIONS):
    return quality.compare_quality(
        now, then, nodeid="t.py::test_a", kind=QualityKind.NOT_WORSE_THAN, reference_name="baseline:main",
        margin=margin, options=options,
    )  # fmt: skip


def decide(now, then, *, margin=0.02, family=1, options=OPTIONS):
    weighed = compare(now, then, margin=margin, options=options)
    return quality.decide_quality([weighed], family=family, options=options)[0]


def counted(worse, better, *, n=1000, **more):
    now, then = answers(
        (n - worse - better) // 2, n - worse - better - (n - worse - better) // 2, worse, better
    )
    return decide(task(now), task(then), **more)


# -- the verdicts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worse", "better", "family", "verdict"),
    [
        (60, 20, 1, "regressed"),
        (60, 20, 10, "regressed"),
        (30, 10, 1, "regressed"),  # exactly the margin
        (29, 10, 1, "inconclusive"),  # a loss beyond doubt, and nearly the margin
        (40, 20, 10, "inconclusive"),  # p .0067: not among ten
        (40, 20, 1, "regressed"),
        (20, 60, 1, "improved"),
        (20, 40, 1, "improved"),
        (20, 40, 10, "not_regressed"),
        (10, 10, 1, "not_regressed"),
        (14, 4, 1, "not_regressed"),
        (0, 0, 1, "not_regressed"),
        (60, 55, 1, "inconclusive"),
    ],
)
def test_the_verdicts(worse, better, family, verdict):
    found = counted(worse, better, family=family)
    assert found.verdict == verdict
    assert (found.n, found.worse, found.better) == (1000, worse, better)
    assert found.loss == pytest.approx((worse - better) / 1000)
    assert found.p == pytest.approx(float(stats.binom.sf(worse - 1, worse + better, 0.5)))
    assert found.p_adjusted == pytest.approx(min(1.0, family * found.p))


def test_the_sentences():
    assert counted(60, 20, family=10).reason == (
        "4 pt worse, the margin is 2 pt; 60 of 1000 items got worse and 20 better; "
        "p 4.3e-06, 4.3e-05 over 10 comparisons"
    )
    assert (
        counted(14, 4).reason
        == "1 pt worse, inside the margin of 2 pt; 14 of 1000 items got worse and 4 better"
    )
    assert counted(10, 10).reason == (
        "as good as before, at the most 0.736 pt worse; the margin is 2 pt; "
        "10 of 1000 items got worse and 10 better"
    )
    assert counted(60, 55).reason == (
        "cannot tell: 0.5 pt worse, at the most 2.26 pt worse; the margin is 2 pt; "
        "60 of 1000 items got worse and 55 better; p 0.35; about 3200 items would decide"
    )


def test_four_changed_items_can_never_show_a_loss():
    few = counted(4, 0, n=100)
    assert few.verdict == "inconclusive"
    assert few.p == pytest.approx(1 / 16)
    assert "so few changes could not show a loss if all were for the worse" in few.reason
    assert counted(5, 0, n=100).verdict == "regressed"
    assert "so few changes" in counted(5, 0, n=100, family=10).reason


@given(PAIRS, st.sampled_from([0.01, 0.02, 0.1]))
def test_sides_exchanged_flip_the_sign(items, margin):
    now, then = (task(side) for side in zip(*items, strict=True))
    one, other = decide(now, then, margin=margin), decide(then, now, margin=margin)
    assert (one.worse, one.better, one.loss) == (other.better, other.worse, -other.loss)
    assert (one.lower, one.upper) == (pytest.approx(-other.upper), pytest.approx(-other.lower))
    assert (one.verdict == "regressed") == (other.verdict == "improved")
    assert (one.value, one.reference_value) == (other.reference_value, other.value)


@given(PAIRS, st.randoms())
def test_the_order_of_items_does_not_matter(items, random):
    numbered = list(enumerate(items))
    random.shuffle(numbered)
    now, then = (task(side) for side in zip(*items, strict=True))
    keys = tuple(f"k{k}" for k, _ in numbered)
    shuffled = task([pair[0] for _, pair in numbered], keys=keys)
    assert decide(shuffled, then) == decide(now, then)


@given(PAIRS)
def test_where_less_is_better_the_sign_is_turned(items):
    now, then = (task(side) for side in zip(*items, strict=True))
    turned = decide(replace(now, higher_is_better=False), replace(then, higher_is_better=False))
    assert turned.loss == -decide(now, then).loss
    assert turned.verdict == decide(then, now).verdict


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20))
def test_a_larger_family_is_never_redder(worse, better, family):
    alone, among = counted(worse, better), counted(worse, better, family=family)
    assert among.p_adjusted >= alone.p_adjusted
    assert alone.verdict == "regressed" or among.verdict != "regressed"


def test_holm_runs_over_the_tasks_given():
    now, then = answers(450, 450, 40, 15)
    weighed = [compare(task(now), task(then))] * 2
    found = quality.decide_quality(weighed, family=3, options=OPTIONS)
    p = weighed[0].evidence.p_worse
    assert [r.p_adjusted for r in found] == [pytest.approx(3 * p)] * 2
    assert quality.decide_quality(weighed, family=0, options=OPTIONS)[0].p_adjusted == pytest.approx(2 * p)


def test_so_many_items_decide():
    """At the loss and the share of changes that were seen: with ten times the items needed it is decided."""
    for worse, better in ((60, 55), (25, 14), (0, 0), (4, 0)):
        seen = counted(worse, better, n=100 if worse < 5 else 1000)
        assert seen.verdict == "inconclusive"
        times = math.ceil(10 * seen.needed / seen.n)
        assert seen.needed > seen.n
        assert counted(worse * times, better * times, n=seen.n * times).verdict != "inconclusive"
    on_the_border = counted(200, 181)
    assert on_the_border.needed is not None
    assert counted(200, 180).needed is not None  # the margin itself: then to show a loss


# -- clusters, and scores that are not 0 or 1 ------------------------------------------------------------


def test_items_of_one_cluster_count_as_less():
    now, then = answers(600, 600, 80, 40)
    fours = tuple(str(k // 4) for k in range(1320))
    alone, together = (
        decide(task(now), task(then)),
        decide(task(now, clusters=fours), task(then, clusters=fours)),
    )
    assert together.loss == alone.loss
    assert together.p > 100 * alone.p
    assert together.upper > alone.upper


def test_real_scores_are_judged_by_t():
    then = [0.5 + 0.3 * math.sin(k) for k in range(300)]
    now = [s - 0.04 + 0.1 * math.cos(3 * k) for k, s in enumerate(then)]
    found = decide(task(now), task(then))
    expected = stats.ttest_rel(then, now, alternative="greater")
    assert found.p == pytest.approx(expected.pvalue)
    assert found.verdict == "regressed"
    assert decide(task(then), task(then)).verdict == "not_regressed"


def test_one_cluster_or_one_item_shows_nothing():
    one = task([1, 0, 1], clusters=("a",) * 3)
    assert decide(one, one).verdict == "inconclusive"
    assert "one cluster" in decide(one, one).reason
    assert decide(task([0.5]), task([0.25])).verdict == "inconclusive"


# -- what cannot be paired -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ({"identity": {"num_fewshot": "5"}}, "num_fewshot: 5 -> (absent)"),
        ({"task": "mmlu"}, "task: mmlu -> gsm8k"),
        ({"metric": "acc"}, "metric: acc -> exact_match"),
        ({"filter": "strict"}, "filter: strict -> none"),
        ({"higher_is_better": False}, "higher_is_better: False -> True"),
        (
            {"keys": tuple(f"k{k}" for k in range(6, 106))},
            "only 94 of 106 items are in both, and 95 % must be",
        ),
        ({"unanswered": 2}, "in the reference 2 of 102 items were not answered; 1 % may be"),
    ],
)
def test_other_evaluations_are_incomparable(then, said):
    found = decide(task([1] * 100), task([1] * 100, **then))
    assert found.verdict == "incomparable"
    assert said in found.reason
    assert found.p is None


def test_a_reference_without_answers_is_incomparable():
    assert "in the reference none of 0 items was answered" in decide(task([1]), task([])).reason


def test_items_of_one_side_stand_aside_and_are_counted():
    then = task([1, 0] * 150, keys=tuple(f"k{k}" for k in range(1, 301)), unanswered=1)
    found = decide(task([1, 0] * 150, unanswered=2), then)
    assert found.n == 299
    assert found.worse + found.better == 299  # paired by their keys, one further
    assert "2 items are on one side only (2 unanswered now, 1 unanswered in the reference)" in found.reason
    alike = decide(task([1] * 300, unanswered=1), task([1] * 300, unanswered=1))
    assert "1 items were answered by neither side" in alike.reason


def test_without_a_reference_there_is_no_baseline():
    found = quality.decide_quality([compare(task([1, 0]), None)], family=1, options=OPTIONS)[0]
    assert found.verdict == "no_baseline"
    assert found.reason == "baseline:main has no evaluation of this task"
    assert found.value == 0.5


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (task([]), "none of 0 items was answered"),
        (task([], unanswered=7), "none of 7 items was answered"),
        (task([1] * 98, unanswered=2), "2 of 100 items were not answered; 1 % may be"),
        (task([1.0, math.nan]), "a score is not a number"),
        (task([1, 1], keys=("a", "a")), "two items have the same key"),
        (task([1] * 99, unanswered=1), None),
        (task([0]), None),
    ],
)
def test_what_must_not_be_judged(outcomes, said):
    assert pairing.unjudgeable(outcomes, OPTIONS) == said


# -- facts that stand against a verdict ------------------------------------------------------------------


def flagged(side, fields, worse=10, better=10, **more):
    now, then = answers((1000 - worse - better) // 2, (1000 - worse - better) // 2, worse, better)
    made = [task(now, **more), task(then, **more)]
    made[side] = replace(made[side], **fields)
    return decide(*made)


@pytest.mark.parametrize("side", [0, 1])
def test_choices_that_are_all_alike_leave_nothing_to_judge(side):
    assert flagged(side, {"tied": 50}).verdict == "not_regressed"
    for worse, better in ((10, 10), (60, 20), (20, 60)):
        found = flagged(side, {"tied": 51}, worse, better)
        assert found.verdict == "inconclusive"
        assert "no choice was the best on 51 of 1000 items" in found.reason
        assert "gives no real log probabilities" in found.reason
    assert "border" not in found.reason


@pytest.mark.parametrize("side", [0, 1])
def test_replies_that_were_cut_forbid_a_green_but_no_red(side):
    found = flagged(side, {"truncated": 51})
    assert found.verdict == "inconclusive"
    assert "were cut at the most tokens allowed: allow more" in found.reason
    assert "51 of 1000 replies" in found.reason
    assert flagged(side, {"truncated": 51}, 60, 20).verdict == "regressed"
    some = flagged(side, {"truncated": 3})
    assert some.verdict == "not_regressed"
    assert "3 of 1000 replies" in some.reason  # on one side only: said
    assert "replies" not in flagged(side, {"truncated": 3}, truncated=3).reason


def test_what_guessing_gets_cannot_be_lost():
    now, then = answers(240, 740, 10, 10)
    found = decide(task(now, chance=0.25), task(then, chance=0.25))
    assert found.verdict == "inconclusive"
    assert found.reason.startswith("0.25 and 0.25 of the reference are what guessing gets (0.25)")
    better_then = answers(500, 400, 60, 20)
    assert decide(*(task(side, chance=0.25) for side in better_then)).verdict == "regressed"
    above = answers(500, 480, 10, 10)
    assert decide(*(task(side, chance=0.25) for side in above)).verdict == "not_regressed"


# -- the second boot -------------------------------------------------------------------------------------


def again(worse, better):
    first = counted(60, 20)
    return quality.confirm(
        first, compare(*map(task, answers(450, 550 - worse - better, worse, better))), OPTIONS
    )


def test_a_second_boot_confirms_a_loss():
    found = again(50, 20)
    assert found.verdict == "regressed"
    assert found.reason == counted(60, 20).reason + "; confirmed on a second boot: 3 pt worse"
    assert found.loss == counted(60, 20).loss


@pytest.mark.parametrize(
    ("worse", "better", "said"),
    [
        (30, 28, "not confirmed on a second boot: 0.2 pt worse, p 0.45; the first was 4 pt worse"),
        (0, 0, "as good as before, p 1"),
        (20, 50, "3 pt better, p 1"),
    ],
)
def test_a_second_boot_that_is_fine_leaves_doubt(worse, better, said):
    found = again(worse, better)
    assert found.verdict == "inconclusive"
    assert said in found.reason


def test_both_boots_together_must_lose_the_margin():
    first = counted(30, 8)  # 2.2 points
    second = compare(*map(task, answers(500, 469, 24, 7)))  # 1.7 beyond doubt: 1.95 on average
    found = quality.confirm(first, second, OPTIONS)
    assert (first.verdict, found.verdict) == ("regressed", "inconclusive")
    assert "both lose 1.95 pt on average; 2 pt may be lost" in found.reason


def test_no_second_boot_is_a_reason_and_other_verdicts_stay():
    missing = quality.confirm(counted(60, 20), "the server did not boot again", OPTIONS)
    assert (missing.verdict, missing.needed) == ("inconclusive", None)
    assert missing.reason.startswith(
        "not confirmed on a second boot: the server did not boot again; the first"
    )
    other = compare(task([1] * 10), task([1] * 10, task="mmlu"))
    assert "not the same evaluation" in quality.confirm(counted(60, 20), other, OPTIONS).reason
    tied = compare(*(replace(task(s), tied=500) for s in answers(450, 470, 60, 20)))
    assert "no real log probabilities" in quality.confirm(counted(60, 20), tied, OPTIONS).reason
    for stays in (counted(10, 10), counted(60, 55), counted(20, 60)):
        assert quality.confirm(stays, "whatever", OPTIONS) is stays


# -- floors ----------------------------------------------------------------------------------------------


def floor(right, n, limit, **more):
    return quality.floor(task([1] * right + [0] * (n - right), **more), limit, nodeid="t", options=OPTIONS)


@pytest.mark.parametrize(
    ("right", "n", "limit", "verdict", "misses"),
    [
        (800, 1000, 0.75, "pass", False),
        (700, 1000, 0.75, "fail", True),
        (760, 1000, 0.75, "inconclusive", False),
        (740, 1000, 0.75, "inconclusive", True),
        (750, 1000, 0.75, "inconclusive", False),
        (0, 10, 0.5, "fail", True),
        (10, 10, 0.5, "pass", False),
        (10, 10, 0.75, "inconclusive", False),  # ten right ones show 74 %
        (11, 11, 0.75, "pass", False),
        (0, 10, 0.0, "pass", False),
        (1000, 1000, 1.0, "inconclusive", False),
        (999, 1000, 1.0, "fail", True),
    ],
)
def test_floors(right, n, limit, verdict, misses):
    found = floor(right, n, limit)
    exact = stats.binomtest(right, n).proportion_ci(0.90, method="exact")
    assert (found.verdict, found.misses_limit, found.n) == (verdict, misses, n)
    assert (found.lower, found.upper) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_a_floor_says_what_would_decide():
    found = floor(760, 1000, 0.75)
    assert found.reason == (
        "0.76 on 1000 items; at least 0.75 is wanted; 0.737 to 0.782 is possible; "
        "about 5100 items would decide"
    )
    assert floor(round(0.76 * found.needed) + 1, found.needed, 0.75).verdict == "pass"
    assert floor(800, 1000, 0.75).reason == (
        "0.8 on 1000 items; at least 0.75 is wanted; it is shown to be at least 0.778"
    )
    assert floor(700, 1000, 0.75).reason.endswith("it is shown to be at most 0.724")


def test_where_less_is_better_the_limit_is_the_most():
    assert floor(20, 1000, 0.05, higher_is_better=False).verdict == "pass"
    bad = floor(80, 1000, 0.05, higher_is_better=False)
    assert (bad.verdict, bad.misses_limit) == ("fail", True)
    assert "at most 0.05 is wanted; it is shown to be at least" in bad.reason


def test_facts_stand_against_a_floor_too():
    assert floor(800, 1000, 0.75, truncated=51).verdict == "inconclusive"
    assert floor(700, 1000, 0.75, truncated=51).verdict == "fail"
    tied = floor(700, 1000, 0.75, tied=51)
    assert (tied.verdict, tied.misses_limit) == ("inconclusive", True)
    guessed = floor(260, 1000, 0.2, chance=0.25)
    assert guessed.verdict == "pass"
    assert guessed.reason.endswith("0.26 is what guessing gets (0.25)")


def test_clusters_and_real_scores_have_wider_floors():
    fours = tuple(str(k // 4) for k in range(200))
    alone, together = floor(176, 200, 0.83), floor(176, 200, 0.83, clusters=fours)
    assert (alone.verdict, together.verdict) == ("pass", "inconclusive")
    real = quality.floor(task([0.7, 0.8, 0.9, 0.8] * 20), 0.75, nodeid="t", options=OPTIONS)
    assert real.verdict == "pass"
    one = quality.floor(task([1, 1, 0], clusters=("a",) * 3), 0.5, nodeid="t", options=OPTIONS)
    assert (one.verdict, one.lower) == ("inconclusive", None)


# -- the family ------------------------------------------------------------------------------------------


def session(name, *, quality_tasks, gated, complete=True):
    test = TestResult(
        nodeid="t", fingerprint=Fingerprint(), gated=gated, boots=(),
        quality=tuple(task([1], task=str(k)) for k in range(quality_tasks)),
    )  # fmt: skip
    return SessionResult(
        schema=1, id=name, started_at="2026-01-01T00:00:00+00:00", version="0", seed=1,
        fingerprint=Fingerprint(), planned_boots=1, complete=complete, accepted=True, tests=(test,),
    )  # fmt: skip


@pytest.mark.parametrize(("here", "stored", "complete"), [*itertools.product([1, 5], [0, 3], [True, False])])
def test_the_family_holds_speed_and_quality(here, stored, complete):
    now = session("now", quality_tasks=here, gated=("ttft_s.mean", "tpot_s.mean"))
    then = session("then", quality_tasks=stored, gated=("ttft_s.mean",), complete=complete)
    assert quality.family_of(now, [then]) == max(here + 2, stored + 1 if complete else 0)
    assert quality.family_of(now, [now]) == here + 2


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.03, 0.1])
def test_fewer_items_than_needed_cannot_rule_a_loss_out(margin):
    least = quality.fewest_items(margin, JudgeOptions())
    assert paired.loss_upper(0, 0, least, JudgeOptions().alpha) < margin
    assert paired.loss_upper(0, 0, least - 1, JudgeOptions().alpha) >= margin
