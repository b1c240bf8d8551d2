"""From logged samples to outcomes."""

import math

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality import scoring
from pytest_inferforge.quality.scoring import Leaf

KNOWN_AS = {"lm_eval": "0.4.13"}


def sample(place, *, likelihoods=None, target=0, filter_="none", reply=None, doc=None, **metrics):
    responses = likelihoods if reply is None else [reply]
    return {
        "doc_id": place,
        "doc": doc or {},
        "target": target,
        "arguments": [(f"q{place}", f" {k}") for k in range(len(responses))],
        "resps": [[response] for response in responses],
        "filtered_resps": list(responses) if reply is not None else [(value, False) for value in responses],
        "filter": filter_,
        "metrics": list(metrics),
        "doc_hash": f"d{place}",
        "prompt_hash": f"p{place}",
        "target_hash": f"t{target}",
        **metrics,
    }


def leaf(
    samples, *, name="task", kind="multiple_choice", unanswered=(), truncated=(), alone=None, higher=None
):
    return Leaf(
        name=name,
        generated=kind == "generate_until",
        choices=kind == "multiple_choice",
        metrics=tuple(dict.fromkeys(metric for one in samples for metric in one["metrics"])),
        filters=tuple(dict.fromkeys(one["filter"] for one in samples)),
        higher_is_better=higher or {"acc": True},
        alone=alone or {},
        samples=samples,
        unanswered=set(unanswered),
        truncated=set(truncated),
        tokens={(f"q{k}", f" {c}"): 2 for k in range(9) for c in range(9)},
    )


def outcomes(*leaves, metric="acc", filter_="none"):
    return scoring.outcomes("task", leaves, metric=metric, filter_=filter_, known_as=KNOWN_AS)


def test_choices():
    result = outcomes(
        leaf([
            sample(0, likelihoods=[-1.0, -2.0], acc=1.0, acc_norm=0.0),
            sample(1, likelihoods=[-3.0, -3.0], target=1, acc=0.0, acc_norm=0.0),
        ])
    )  # fmt: skip
    assert (result.scores, result.likelihoods) == ((1.0, 0.0), ((-1.0, -2.0), (-3.0, -3.0)))
    assert (result.tied, result.chance, result.unanswered) == (1, 0.5, 0)
    assert result.perplexity == pytest.approx(math.exp(4.0 / 4))
    assert len(set(result.keys)) == 2
    assert all(len(key) == 16 for key in result.keys)
    assert set(result.identity) == {"lm_eval", "data"}
    assert scoring.notes(result, examples={}) == [
        "task: 1 of 2 items have no best choice",
        "task: acc 0.5 of 2 items where a coin gets 0.5",
    ]


def test_replies_and_what_was_not_answered():
    samples = [
        sample(k, reply=text, target="4", doc={"pack": "p", "cluster": f"c{k}"}, acc=float(text == "4"))
        for k, text in enumerate(["4", "5", "", "4"])
    ]
    result = outcomes(leaf(samples, kind="generate_until", unanswered=[2], truncated=[1, 2]))
    assert (result.scores, result.clusters, result.said) == (
        (1.0, 0.0, 1.0),
        ("c0", "c1", "c3"),
        ("4", "5", "4"),
    )
    assert (result.unanswered, result.truncated, result.tied, result.chance) == (1, 1, 0, None)
    assert result.replies[0] == result.replies[2] != result.replies[1]
    notes = scoring.notes(result, examples={"timeout": "not answered in 5 s"})
    assert notes == [
        "task: 1 of 4 items unanswered (timeout: not answered in 5 s)",
        "task: 1 of 3 replies (33%) cut at the most tokens allowed",
    ]


def test_one_filter_is_gated_and_the_others_are_observed():
    samples = [
        sample(0, reply="4", filter_="strict", exact=1.0),
        sample(0, reply="4", filter_="loose", exact=0.0),
    ]
    leaves = [leaf(samples, kind="generate_until")]
    assert scoring.gated("task", "filter", None, [leaves[0].filters]) == "strict"
    assert scoring.gated("task", "filter", "loose", [leaves[0].filters]) == "loose"
    assert outcomes(*leaves, metric="exact", filter_="strict").scores == (1.0,)
    assert scoring.observed(leaves, but=("exact", "strict")) == {"exact,loose": 0.0}
    with pytest.raises(UsageError) as caught:
        scoring.gated("task", "metric", "bleu", [leaves[0].metrics])
    assert caught.value.do == "it has: exact"


def test_a_group_is_pooled_and_its_leaves_keep_apart():
    one = leaf([sample(0, likelihoods=[-1.0, -2.0], acc=1.0)], name="one")
    two = leaf([sample(0, likelihoods=[-1.0, -2.0], acc=0.0)], name="two", unanswered=[])
    result = outcomes(one, two)
    assert (result.scores, result.value, len(set(result.keys))) == ((1.0, 0.0), 0.5, 2)
    other = leaf([sample(0, likelihoods=[-1.0], f1=0.0)], name="three")
    with pytest.raises(UsageError, match="no metric in common"):
        scoring.gated("group", "metric", None, [one.metrics, other.metrics])


def test_raw_values_that_are_no_numbers_are_scored_one_by_one():
    samples = [sample(0, reply="a", strict=[True, False]), sample(1, reply="b", strict=[True, True])]
    alone = {"strict": lambda value: sum(value) / len(value)}
    result = outcomes(leaf(samples, kind="generate_until", alone=alone), metric="strict")
    assert result.scores == (0.5, 1.0)
    nothing = outcomes(leaf([sample(0, reply="a", strict=math.nan)], kind="generate_until"), metric="strict")
    assert (nothing.scores, nothing.unanswered) == ((), 1)


def test_a_metric_that_some_items_do_not_have_leaves_them_out():
    samples = [sample(0, reply="a", acc=1.0), sample(1, reply="b", acc=1.0, made_up=0.0)]
    result = outcomes(leaf(samples, kind="generate_until"), metric="made_up")
    assert (result.scores, result.unanswered) == ((0.0,), 0)


def test_asked_twice():
    first = outcomes(leaf([sample(k, reply=str(k), acc=1.0) for k in range(3)], kind="generate_until"))
    again = outcomes(leaf([sample(k, reply="1", acc=float(k)) for k in range(2)], kind="generate_until"))
    repeat = scoring.with_repeat(first, again).repeat
    assert (repeat.n, repeat.flipped, repeat.changed) == (2, 1, 1)
    chosen = outcomes(leaf([sample(0, likelihoods=[-1.0, -2.0], acc=1.0)]))
    assert scoring.with_repeat(chosen, chosen).repeat.changed is None


def test_unconditional_likelihoods_are_left_out():
    given = sample(0, likelihoods=[-1.0, -2.0, -3.0, -4.0], acc=1.0)
    given["arguments"] = [("q", " a"), ("q", " b"), ("", " a"), ("", " b")]
    assert outcomes(leaf([given])).likelihoods == ((-1.0, -2.0),)


def test_all_the_same_is_told():
    same = outcomes(leaf([sample(k, reply="!", acc=0.0) for k in range(4)], kind="generate_until"))
    assert scoring.notes(same, examples={}) == ["task: 4 of 4 items share one reply, '!'"]
    tied = outcomes(leaf([sample(k, likelihoods=[0.0, 0.0], acc=1.0) for k in range(4)]))
    assert "the log-likelihoods say nothing" in scoring.notes(tied, examples={})[0]
