"""The whole gate as values in and verdicts out: who asks for more boots, and what they decide."""

import dataclasses
import math

import pytest

from pytest_inferforge import gate
from pytest_inferforge.gate import CONTROL, CURRENT, REFERENCE, Confirming, Measured, Slot, Turns
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import (
    BootResult,
    Comparison,
    Fingerprint,
    RequestCounts,
    RunVerdict,
    SessionResult,
    TestResult,
)
from pytest_inferforge.records import ComparisonVerdict as V

OPTIONS = JudgeOptions()
MEAN, RATE = "ttft_s.mean", "output_tok_per_s"
QUIET = [0.098, 0.101, 0.1, 0.102, 0.099]
COUNTS = RequestCounts(issued=1000, completed=1000, failed=0, cancelled=0)


def boot(number=1, *, valid=True, requests=1000, tails=None, **metrics):
    return BootResult(
        boot=number, ready_s=None, requests=dataclasses.replace(COUNTS, completed=requests, issued=requests),
        metrics={name.replace("__", "."): value for name, value in metrics.items()},
        verdict=RunVerdict.VALID if valid else RunVerdict.INVALID, tails=tails or {},
    )  # fmt: skip


def mean(value, number=1, **more):
    return boot(number, ttft_s__mean=value, **more)


def session(day, *tests, planned=1):
    return SessionResult(
        schema=1, id=f"s{day}", started_at=f"2026-01-{day + 1:02}T00:00:00+00:00", version="0", seed=1,
        fingerprint=Fingerprint(), planned_boots=planned, complete=True, accepted=True,
        tests=tuple(
            TestResult(nodeid=name, fingerprint=Fingerprint(), gated=gated, boots=tuple(boots))
            for name, gated, boots in tests
        ),
    )  # fmt: skip


def one(value, day=20):
    return session(day, ("a", (MEAN,), [mean(value)]))


STORED = [one(v, day) for day, v in enumerate(QUIET)]
TWO_STORED = [
    session(day, ("a", (MEAN,), [mean(v)]), ("b", (MEAN,), [mean(v)])) for day, v in enumerate(QUIET)
]


def slots(reference, current, key="a"):
    """Boots in turns, from the values of each side in their order."""
    values = {REFERENCE: iter(reference), CURRENT: iter(current)}
    order = gate.in_turns((REFERENCE, CURRENT), len(reference))
    return tuple(Slot(arm=arm, boots={key: mean(next(values[arm]))}) for arm in order)


class Asked:
    """What the gate asked for, answered by one `Measured`."""

    def __init__(self, answer=None):
        self.keys = []
        self.answer = answer or Measured()

    def __call__(self, keys):
        self.keys.append(keys)
        return self.answer


def judged(current, stored, more, **options):
    return gate.judge_session(current, stored, name="main", options=OPTIONS, more=more, **options)


# -- who asks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 0.09, 0.1015])
def test_what_does_not_look_worse_asks_for_nothing(value):
    for kind in (Turns, Confirming):
        asked = Asked()
        extra = {"name": "against:old"} if kind is Turns else {}
        (found,) = judged(one(value), STORED, kind(can={"a"}, measure=asked, **extra))
        assert asked.keys == []
        assert found == judged(one(value), STORED, None)[0]


def test_only_the_suspects_of_a_family_are_measured_again():
    asked = Asked(Measured(slots=slots([0.1] * 4, [0.11] * 4, key="b")))
    current = session(20, ("a", (MEAN,), [mean(0.1)]), ("b", (MEAN,), [mean(0.115)]))
    a, b = judged(current, TWO_STORED, Turns(name="against:old", can={"a", "b"}, measure=asked))
    assert asked.keys == [("b",)]
    assert (a.verdict, a.evidence, b.verdict, b.evidence) == (V.NOT_REGRESSED, "stored", V.REGRESSED, "abba")
    assert b.reference == "against:old"


def test_what_cannot_be_measured_again_is_left_to_the_stored_sessions():
    asked = Asked()
    (found,) = judged(one(0.13), STORED, Turns(name="against:old", can=set(), measure=asked))
    assert (asked.keys, found.verdict, found.evidence) == ([], V.REGRESSED, "stored")


# -- in turns --------------------------------------------------------------------------------------------


def test_fresh_boots_alone_decide_and_may_clear_a_suspect():
    clear = Asked(Measured(slots=slots([0.1, 0.101, 0.099, 0.1], [0.1, 0.1, 0.101, 0.0995])))
    (found,) = judged(one(0.13), STORED, Turns(name="against:old", can={"a"}, measure=clear))
    assert (found.verdict, found.evidence) == (V.NOT_REGRESSED, "abba")
    assert (found.n_reference, found.n_current_boots) == (4, 4)
    assert [side for side, _ in found.slots] == [
        {"R": "reference", "C": "current"}[letter] for letter in "RCCRCRRC"
    ]


def test_a_suspect_is_never_red_by_the_first_look_where_its_reference_can_be_booted():
    for answer in (Measured(fault="no time left"), Measured(slots=slots([0.1], [0.13]), fault="it died")):
        (found,) = judged(one(0.13), STORED, Turns(name="against:old", can={"a"}, measure=Asked(answer)))
        assert found.verdict is V.INCONCLUSIVE
        assert answer.fault in found.reason
    assert judged(one(0.13), STORED, None)[0].verdict is V.REGRESSED


def test_what_no_stored_session_knows_is_measured_in_turns_too():
    asked = Asked(Measured(slots=slots([0.1] * 4, [0.12] * 4)))
    (found,) = judged(one(0.12), [], Turns(name="against:old", can={"a"}, measure=asked))
    assert (asked.keys, found.verdict) == ([("a",)], V.REGRESSED)
    (against,) = gate.judge_against(
        one(0.12), Turns(name="against:old", can={"a"}, measure=asked), options=OPTIONS
    )
    assert (against.verdict, against.reference) == (V.REGRESSED, "against:old")
    nothing = Asked(Measured(fault="it did not boot"))
    (found,) = gate.judge_against(
        one(0.12), Turns(name="against:old", can={"a"}, measure=nothing), options=OPTIONS
    )
    assert (found.verdict, "it did not boot" in found.reason) == (V.INCOMPARABLE, True)


def test_invalid_boots_in_turns_do_not_count():
    measured = list(slots([0.1, 0.1, 0.1, 9.0], [0.1] * 4))
    last = max(k for k, slot in enumerate(measured) if slot.arm == REFERENCE)
    measured[last] = Slot(arm=REFERENCE, boots={"a": mean(9.0, valid=False)})
    (found,) = gate.decided_by_turns([draft()], measured, reference="against:old", options=OPTIONS)
    assert (found.n_reference, found.verdict) == (3, V.NOT_REGRESSED)


def test_holm_runs_over_what_was_measured_in_turns():
    both = tuple(
        Slot(arm=arm, boots={"a": mean(value), "b": mean(value)})
        for arm, value in zip(
            gate.in_turns((REFERENCE, CURRENT), 4),
            [0.1, 0.107, 0.105, 0.101, 0.108, 0.099, 0.1, 0.106],
            strict=True,
        )
    )
    (alone,) = gate.decided_by_turns([draft()], both, reference="r", options=OPTIONS)
    pair = gate.decided_by_turns([draft(), draft("b")], both, reference="r", options=OPTIONS)
    assert alone.p_adjusted == pytest.approx(alone.p)
    assert [c.p_adjusted for c in pair] == pytest.approx([2 * alone.p] * 2)
    part = gate.decided_by_turns([draft()], both, reference="r", options=OPTIONS, family=3)
    assert part[0].p_adjusted == pytest.approx(3 * alone.p)


def test_a_control_that_differs_makes_everything_incomparable():
    arms = gate.in_turns((REFERENCE, CURRENT, CONTROL), 4)
    level = {REFERENCE: 0.1, CURRENT: 0.12, CONTROL: 0.12}
    measured = [
        Slot(arm=arm, boots={"a": mean(level[arm] * (1 + 0.001 * (k % 3)))}) for k, arm in enumerate(arms)
    ]
    (found,) = gate.decided_by_turns([draft()], measured, reference="r", options=OPTIONS)
    assert found.verdict is V.INCOMPARABLE
    assert "this machine moves: the same server, booted as a control, came out worse by" in found.reason
    level[CONTROL] = 0.1
    measured = [
        Slot(arm=arm, boots={"a": mean(level[arm] * (1 + 0.001 * (k % 3)))}) for k, arm in enumerate(arms)
    ]
    (found,) = gate.decided_by_turns([draft()], measured, reference="r", options=OPTIONS)
    assert found.verdict is V.REGRESSED


def draft(key="a", metric=MEAN):
    return Comparison(nodeid=key, metric=metric, verdict=V.INCOMPARABLE, margin=0.05)


# -- confirming ------------------------------------------------------------------------------------------


def test_one_bad_boot_is_cleared_by_two_good_ones_of_the_same_session():
    asked = Asked(Measured(boots={"a": (mean(0.1, 2), mean(0.1, 3))}))
    (found,) = judged(one(0.115), STORED, Confirming(can={"a"}, measure=asked))
    assert judged(one(0.115), STORED, None)[0].verdict is V.REGRESSED
    assert (found.verdict, found.evidence, found.n_current_boots) == (V.INCONCLUSIVE, "confirmed", 3)
    assert found.value == pytest.approx((0.115 * 0.1 * 0.1) ** (1 / 3))
    assert "with 2 confirming boots, all of them one session" in found.reason


def test_a_slow_server_stays_slow_and_is_red():
    asked = Asked(Measured(boots={"a": (mean(0.114, 2), mean(0.116, 3))}))
    (found,) = judged(one(0.115), STORED, Confirming(can={"a"}, measure=asked))
    assert (asked.keys, found.verdict) == ([("a",)], V.REGRESSED)
    # still one session against five: its mean alone gives the same p
    (alone,) = judged(one(found.value), STORED, None)
    assert found.p == pytest.approx(alone.p)


def test_nothing_is_red_by_its_first_boot_alone_but_the_first_look_decides_when_nothing_came():
    silent = Asked(Measured(fault="it did not boot"))
    (found,) = judged(one(0.115), STORED, Confirming(can={"a"}, measure=silent))
    assert found.reason.startswith("it did not boot; ")


# -- a pinned reference ----------------------------------------------------------------------------------


def test_small_steps_away_from_a_pinned_release_are_seen():
    window = [one(0.125 * v / 0.1, day + 10) for day, v in enumerate(QUIET)]
    rolling, pinned = judged(one(0.125), window, None, pinned=STORED)
    assert (rolling.reference, rolling.verdict) == ("baseline:main", V.NOT_REGRESSED)
    assert (pinned.reference, pinned.verdict) == ("baseline:main (pinned)", V.REGRESSED)
    assert pinned.margin == pytest.approx(0.10)
    near = judged(one(0.108), window, None, pinned=STORED)[1]
    assert near.verdict is not V.REGRESSED


def test_the_pinned_family_has_a_small_share_of_alpha():
    plain = judged(one(0.107), STORED, None)[0]
    rolling, pinned = judged(one(0.107), STORED, None, pinned=STORED)
    assert rolling.p_adjusted == pytest.approx(plain.p / 0.8)
    assert pinned.p_adjusted == pytest.approx(min(1.0, plain.p / 0.2))


# -- tails -----------------------------------------------------------------------------------------------


def tail(scale):
    """Upper quantiles of a law whose P99 is `scale`."""
    from pytest_inferforge.stats.tails import LEVELS

    return {"ttft_s": tuple(scale * (1.0 + (level - 0.99) * 5.0) for level in LEVELS)}


def tailed(day, scale, *, requests=1000, gated=("ttft_s.p99",)):
    return session(day, ("a", gated, [boot(requests=requests, tails=tail(scale), ttft_s__p99=scale)]))


def test_the_share_beyond_the_baselines_quantile_is_compared_beside_it():
    stored = [tailed(day, 0.2 * v / 0.1) for day, v in enumerate(QUIET)]
    p99, beyond = judged(tailed(20, 0.2), stored, None)
    assert (p99.metric, beyond.metric) == ("ttft_s.p99", "ttft_beyond_ratio")
    assert beyond.reference_value == pytest.approx(0.01, abs=0.002)
    assert beyond.verdict is not V.REGRESSED
    slow = judged(tailed(20, 0.26), stored, None)[1]
    assert slow.value == pytest.approx(0.056, abs=0.006)
    assert slow.verdict is V.REGRESSED
    # a part of the suite is judged by a family that counts both
    other = [session(d, ("b", ("ttft_s.p99",), [boot(tails=tail(0.2), ttft_s__p99=0.2)])) for d in range(5)]
    both = [dataclasses.replace(s, tests=(*s.tests, *o.tests)) for s, o in zip(stored, other, strict=True)]
    alone = judged(tailed(20, 0.21), both, None)[0]
    assert alone.p_adjusted == pytest.approx(min(1.0, 4 * alone.p))


def test_a_session_from_before_tails_were_kept_has_none_beside_it():
    stored = [session(d, ("a", ("ttft_s.p99",), [boot(ttft_s__p99=v)])) for d, v in enumerate(QUIET)]
    (found,) = judged(tailed(20, 0.1), stored, None)
    assert (found.metric, found.verdict) == ("ttft_s.p99", V.NOT_REGRESSED)


def test_the_share_beyond_is_measured_in_turns_too():
    measured = tuple(
        Slot(arm=arm, boots={"a": boot(tails=tail(level), ttft_s__p99=level)})
        for arm, level in zip(
            gate.in_turns((REFERENCE, CURRENT), 4), [0.2, 0.26, 0.27, 0.199, 0.262, 0.201, 0.2, 0.265],
            strict=True,
        )
    )  # fmt: skip
    asked = Asked(Measured(slots=measured))
    p99, beyond = gate.judge_against(
        tailed(20, 0.26), Turns(name="against:old", can={"a"}, measure=asked), options=OPTIONS
    )
    assert (p99.verdict, beyond.metric, beyond.verdict) == (V.REGRESSED, "ttft_beyond_ratio", V.REGRESSED)
    assert beyond.reference_value == pytest.approx(0.01, abs=0.003)


def test_a_quantile_of_many_requests_is_compared_as_one_of_as_few():
    stored = [tailed(day, 0.2, requests=300) for day in range(5)]
    alike = judged(tailed(20, 0.2, requests=310), stored, None)[0]
    assert alike.value == pytest.approx(0.2)
    many = judged(tailed(20, 0.2, requests=3000), stored, None)[0]
    expected = 0.2 * (1.0 + (297.0 / 301.0 - 0.99) * 5.0)  # the mean of a Beta(297, 4), on a straight tail
    assert many.value == pytest.approx(expected, rel=1e-3)


# -- what is expected of a variant -----------------------------------------------------------------------


def c(verdict, metric=MEAN, lower=0.99, upper=1.01):
    return Comparison(nodeid="a", metric=metric, verdict=verdict, margin=0.05, lower=lower, upper=upper)


@pytest.mark.parametrize(
    ("expect", "comparisons", "missed", "doubt"),
    [
        ("not slower", [c(V.NOT_REGRESSED), c(V.IMPROVED)], "", ""),
        ("not slower", [c(V.REGRESSED)], "and it is slower: ttft_s.mean", ""),
        ("not slower", [c(V.INCONCLUSIVE)], "", "not shown to be as fast"),
        ("not slower", [c(V.INCOMPARABLE)], "", "could not be compared"),
        ("not slower", [], "", "nothing of it is compared"),
        ("faster", [], "", "nothing of it is compared"),
        ("same", [c(V.NOT_REGRESSED)], "", ""),
        ("same", [c(V.NOT_REGRESSED, lower=0.94)], "", "not shown to be the same"),
        ("same", [c(V.IMPROVED, lower=0.8, upper=0.9)], "and it is faster", ""),
        ("faster", [c(V.IMPROVED), c(V.NOT_REGRESSED, RATE)], "", ""),
        ("faster", [c(V.NOT_REGRESSED)], "and it is not: ttft_s.mean", ""),
        ("faster", [c(V.NOT_REGRESSED, RATE, lower=0.99, upper=1.2)], "", "not shown to be faster"),
        ("faster", [c(V.IMPROVED), c(V.REGRESSED, RATE)], "and it is slower", ""),
    ],
)
def test_expectations(expect, comparisons, missed, doubt):
    found = gate.held_against(expect, comparisons, ())
    assert (missed in found[0], bool(found[0])) == (True, bool(missed))
    assert (doubt in found[1], bool(found[1])) == (True, bool(doubt))


def test_an_expectation_on_one_metric_tells_what_the_others_pay():
    found = gate.held_against("faster", [c(V.IMPROVED), c(V.REGRESSED, RATE)], (MEAN,))
    assert found == ("", f"faster in {MEAN}, but slower: {RATE}")


# -- what moved with it ----------------------------------------------------------------------------------


def test_telemetry_far_from_the_stored_sessions_is_told():
    def day(k, hits, power):
        return session(k, ("a", (MEAN,), [mean(0.1, prefix_hit_ratio=hits, gpu_power_w=power)]))

    stored = [day(k, 0.80 + 0.01 * (k % 2), 500.0 + k) for k in range(5)]
    assert gate.moved_with(day(20, 0.43, 505.0), stored, "a", frozenset()) == (
        "prefix_hit_ratio 80.4 % -> 43 %",
    )
    assert gate.moved_with(day(20, 0.805, 503.0), stored, "a", frozenset()) == ()
    assert gate.moved_with(day(20, 0.43, 505.0), stored[:1], "a", frozenset()) == ()
    assert gate.moved_with(day(20, 0.43, 505.0), stored, "b", frozenset()) == ()


def test_what_boots_in_turns_could_see_is_known_before():
    found = gate.detectable_in_turns(STORED, ["a"], pairs=4, options=OPTIONS)
    assert 1.05 < found["a", MEAN] < 1.12
    more = gate.detectable_in_turns(STORED, ["a"], pairs=8, options=OPTIONS)
    assert more["a", MEAN] < found["a", MEAN]
    assert gate.detectable_in_turns(STORED[:2], ["a"], pairs=4, options=OPTIONS) == {("a", MEAN): None}
    assert math.isfinite(found["a", MEAN])
