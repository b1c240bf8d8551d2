"""The gate on literals: every verdict, every reason not to give one."""

import dataclasses
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_inferforge import gate
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import (
    BootResult,
    Fingerprint,
    RequestCounts,
    RunVerdict,
    SessionResult,
    TestResult,
)

OPTIONS = JudgeOptions()
HOST = Fingerprint(hard={"cpu_model": "A"}, identity={"model": "m", "dtype": "bf16"}, soft={"kernel": "6.1"})
QUIET = [0.0995, 0.1005, 0.1, 0.0998, 0.1002]  # five sessions, sd 0.4 %
NOISY = [0.095, 0.105, 0.1, 0.097, 0.103]  # sd 4.1 %
MEAN = "ttft_s.mean"


def boot(k, *, valid=True, requests=1000, **metrics):
    counts = RequestCounts(issued=requests, completed=requests, failed=0, cancelled=0)
    verdict = RunVerdict.VALID if valid else RunVerdict.INVALID
    return BootResult(
        boot=k,
        ready_s=1.0,
        requests=counts,
        metrics=metrics,
        verdict=verdict,
        reasons=() if valid else ("late",),
    )


def case(nodeid="t.py::test_a", *, metric=MEAN, boots=(0.1,), gated=None, fingerprint=None):
    """One test whose boots have these values of one metric; a BootResult stands for itself."""
    made = [b if isinstance(b, BootResult) else boot(k, **{metric: b}) for k, b in enumerate(boots, start=1)]
    return TestResult(
        nodeid=nodeid, fingerprint=fingerprint or Fingerprint(), gated=gated or (metric,), boots=tuple(made)
    )


def session(day, *tests, id_=None, fingerprint=HOST, **more):
    settings = {"planned_boots": 9, "complete": True, "accepted": True, **more}
    return SessionResult(
        schema=1,
        id=id_ or f"s{day}",
        started_at=f"2026-01-{1 + day:02d}T03:00:00+00:00",
        version="0.1",
        seed=1,
        fingerprint=fingerprint,
        tests=tests,
        **settings,
    )


def stored(values, *, metric=MEAN, **more):
    """One session a day, each with one test with these boots (a number: one boot)."""
    return [
        session(day, case(metric=metric, boots=v if isinstance(v, tuple) else (v,)), **more)
        for day, v in enumerate(values)
    ]


def judge(current, reference, *, metric=MEAN, options=OPTIONS, **more):
    """The one comparison of a session whose test has these boots."""
    now = session(
        20, case(metric=metric, boots=current if isinstance(current, tuple) else (current,)), id_="now"
    )
    (found,) = gate.compare_session(now, reference, name="main", options=options, **more)
    return found


# -- verdicts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "reference", "verdict", "said"),
    [
        (0.110, QUIET, "regressed", "worse by 10 %, the margin is 5 %"),
        (0.1056, QUIET, "regressed", "worse by 5.6 %"),
        (0.103, QUIET, "not_regressed", "worse by 3 %, inside the margin of 5 %"),
        (0.100, QUIET, "not_regressed", "at the most worse by 1."),
        (0.093, QUIET, "improved", "better by 7 %, the margin is 5 %; accept it into the baseline"),
        (0.097, QUIET, "not_regressed", "better by 3 %, at the most better by"),
        (0.108, NOISY, "inconclusive", "cannot tell: better by 1.85 % to worse by 19 %"),
        (0.100, NOISY, "inconclusive", "cannot tell: better by 9.12 % to worse by 10.2 %"),
        (0.094, NOISY, "not_regressed", "better by 5.9"),
        (0.130, NOISY, "regressed", "worse by 30"),
        (0.080, NOISY, "improved", "better by 19.9"),
    ],
)
def test_verdicts(current, reference, verdict, said):
    found = judge(current, stored(reference))
    assert found.verdict == verdict
    assert said in found.reason


def test_a_comparison_carries_its_evidence():
    found = judge(0.110, stored(QUIET))
    logs = [math.log(v) for v in QUIET]
    floor_se = 0.005 * math.sqrt(1 + 1 / 5)  # the sessions agree within 0.4 %: the floor holds
    diff, half = math.log(0.110) - sum(logs) / 5, stats.t.ppf(0.95, 4) * floor_se
    assert found.ratio == pytest.approx(math.exp(diff))
    assert (found.lower, found.upper) == (
        pytest.approx(math.exp(diff - half)),
        pytest.approx(math.exp(diff + half)),
    )
    assert found.p == pytest.approx(stats.t.sf(diff / floor_se, 4))
    assert found.p_adjusted == found.p  # a family of one
    assert (found.value, found.reference_value) == (pytest.approx(0.110), pytest.approx(0.1, rel=1e-4))
    assert (found.n_reference, found.n_current_boots, found.margin) == (5, 1, 0.05)
    assert found.reference == "baseline:main"
    assert (found.value, found.reference_value) == (pytest.approx(0.110), pytest.approx(0.100, rel=1e-3))


def test_more_tokens_are_better():
    slower = judge(
        900.0, stored([1000.0, 1004.0, 996.0], metric="output_tok_per_s"), metric="output_tok_per_s"
    )
    assert (slower.verdict, slower.ratio) == ("regressed", pytest.approx(0.9, rel=1e-4))
    assert slower.lower < 0.9 < slower.upper < 1
    assert "worse by 10 %, the margin is 4.76 %" in slower.reason
    faster = judge(
        1100.0, stored([1000.0, 1004.0, 996.0], metric="output_tok_per_s"), metric="output_tok_per_s"
    )
    assert faster.verdict == "improved"


@pytest.mark.parametrize(
    ("metric", "margin"),
    [
        ("ttft_s.mean", 0.05), ("tpot_s.p50", 0.05), ("e2e_s.p90", 0.08), ("e2e_s.p95", 0.08),
        ("ttft_s.p99", 0.10), ("ttft_s.p99.9", 0.10), ("ttft_s.max", 0.10), ("output_tok_per_s", 0.05),
        ("ready_s", 0.20), ("goodput_req_per_s", 0.05), ("goodput_ratio", 0.02), ("error_ratio", 0.02),
    ],
)  # fmt: skip
def test_margins_by_metric(metric, margin):
    assert judge(0.1, [], metric=metric).margin == margin


def test_a_margin_is_inside_until_it_is_reached():
    quiet = [0.1] * 12
    assert judge(0.1 * 1.0501, stored(quiet)).verdict == "regressed"
    assert judge(0.1 * 1.0499, stored(quiet)).verdict == "inconclusive"  # significant, but not by the margin
    assert judge(0.1 * 1.0999, stored(quiet, metric="ttft_s.p99"), metric="ttft_s.p99").verdict != "regressed"
    assert judge(0.1 * 1.1001, stored(quiet, metric="ttft_s.p99"), metric="ttft_s.p99").verdict == "regressed"


def test_inconclusive_names_its_price():
    found = judge(0.103, stored([(v, v * 1.01) for v in (0.098, 0.102, 0.1, 0.0985, 0.1015)]))
    assert found.verdict == "inconclusive"
    assert found.mde_ratio > 1.05
    assert f"a worsening by {100 * (found.mde_ratio - 1):.3g} % would be seen" in found.reason
    assert "more stored sessions" in found.reason
    hopeless = judge(0.103, stored(NOISY))
    assert "no number of sessions up to 1000 would show 5 %: sessions differ too much" in hopeless.reason


def test_boots_are_offered_where_boots_are_what_differs():
    boots = [(0.1 * (1 + d), 0.1 * (1 - d)) for d in (0.03, 0.031, 0.029, 0.03, 0.03)]
    values = [(a * s, b * s) for (a, b), s in zip(boots, (0.98, 1.02, 1.0, 0.985, 1.015), strict=True)]
    found = judge((0.103, 0.103), stored(values))
    assert found.verdict == "inconclusive"
    assert "boots in every session would show 5 %" in found.reason


# -- the family ------------------------------------------------------------------------------------------


def test_a_family_makes_a_verdict_harder():
    one = judge(0.1065, stored([0.098, 0.102, 0.1, 0.099, 0.101]))
    assert one.verdict == "regressed"
    others = [case(f"t.py::test_{k}", boots=(0.1,)) for k in range(19)]
    reference = [
        dataclasses.replace(s, tests=(*s.tests, *others)) for s in stored([0.098, 0.102, 0.1, 0.099, 0.101])
    ]
    now = session(20, case(boots=(0.1065,)), *others, id_="now")
    found = gate.compare_session(now, reference, name="main", options=OPTIONS)
    assert found[0].verdict == "inconclusive"
    assert found[0].p == one.p
    assert found[0].p_adjusted == pytest.approx(20 * one.p)
    assert f"{20 * one.p:.2g} over 20 comparisons" in found[0].reason


def test_a_part_of_the_suite_is_judged_like_the_whole():
    others = [case(f"t.py::test_{k}", boots=(0.1,)) for k in range(19)]
    reference = [
        dataclasses.replace(s, tests=(*s.tests, *others)) for s in stored([0.098, 0.102, 0.1, 0.099, 0.101])
    ]
    whole = gate.compare_session(
        session(20, case(boots=(0.1065,)), *others, id_="now"), reference, name="main", options=OPTIONS
    )
    part = judge(0.1065, reference)
    assert part == whole[0]


def test_the_newest_complete_session_knows_the_family():
    others = [case(f"t.py::test_{k}", boots=(0.1,)) for k in range(19)]
    reference = stored([0.098, 0.102, 0.1, 0.099, 0.101])
    wide = dataclasses.replace(reference[3], tests=(*reference[3].tests, *others))
    for newest_complete, family in ((True, 1), (False, 20)):
        last = dataclasses.replace(reference[4], complete=newest_complete)
        found = judge(0.1065, [*reference[:3], wide, last])
        assert found.p_adjusted == pytest.approx(min(1, family * found.p))


# -- which sessions --------------------------------------------------------------------------------------


def test_a_session_is_one_observation_whatever_its_boots():
    found = judge((0.11, 0.11, 0.11), stored([(0.098, 0.1, 0.102)] * 5))
    assert (found.n_reference, found.n_current_boots) == (5, 3)
    assert found.lower < found.ratio / math.exp(
        stats.t.ppf(0.95, 4) * 0.005
    )  # one value against five, not three


def test_stored_sessions_are_cut_to_as_many_boots_as_now():
    reference = stored([(v, v * 2.0) for v in QUIET])
    assert judge((0.1,), reference).reference_value == pytest.approx(0.1, rel=1e-4)
    assert judge((0.1, 0.1), reference).reference_value == pytest.approx(0.1 * math.sqrt(2), rel=1e-4)


def test_only_planned_valid_boots_count():
    boots = (
        boot(1, valid=False, **{MEAN: 9.0}),
        boot(2, **{MEAN: 0.1}),
        boot(3, **{MEAN: 0.1}),
        boot(4, **{MEAN: 9.0}),
    )
    now = session(20, case(boots=boots), id_="now", planned_boots=3)
    (found,) = gate.compare_session(now, stored(QUIET), name="main", options=OPTIONS)
    assert (found.n_current_boots, found.value) == (2, pytest.approx(0.1))


def test_only_accepted_sessions_count():
    reference = stored(QUIET)
    reference += [session(9, case(boots=(9.0,)), accepted=False)]
    assert judge(0.1, reference).reference_value == pytest.approx(0.1, rel=1e-4)
    assert judge(0.1, stored(QUIET, accepted=False)).verdict == "no_baseline"


def test_a_session_is_not_its_own_reference():
    now = session(20, case(boots=(0.2,)), id_="now")
    (found,) = gate.compare_session(now, [*stored(QUIET), now], name="main", options=OPTIONS)
    assert (found.verdict, found.n_reference) == ("regressed", 5)


def test_the_window_holds_the_newest_sessions():
    reference = stored([0.2] * 5 + QUIET)
    found = judge(0.1, reference, options=dataclasses.replace(OPTIONS, window_sessions=5))
    assert (found.n_reference, found.reference_value) == (5, pytest.approx(0.1, rel=1e-4))
    assert (
        judge(0.1, list(reversed(reference)), options=dataclasses.replace(OPTIONS, window_sessions=5))
        == found
    )


def test_young_sessions_have_a_larger_floor():
    young = [
        dataclasses.replace(s, started_at=f"2026-01-01T0{k}:00:00+00:00") for k, s in enumerate(stored(QUIET))
    ]
    assert judge(0.1056, stored(QUIET)).verdict == "regressed"
    found = judge(0.1056, young)
    assert found.verdict != "not_regressed"
    assert found.p == pytest.approx(stats.t.sf(math.log(found.ratio) / (0.02 * math.sqrt(1.2)), 4))
    assert "the stored sessions span less than 3 days: 2 % noise assumed" in found.reason
    for hours, expected in ((71, True), (72, False)):
        spread = [dataclasses.replace(s, started_at="2026-01-01T00:00:00Z") for s in young]
        spread[0] = dataclasses.replace(
            spread[0], started_at=f"2026-01-0{1 + hours // 24}T{hours % 24:02d}:00:00Z"
        )
        assert ("span less than" in judge(0.1056, spread).reason) is expected


@pytest.mark.parametrize("sessions", [1, 2])
def test_one_or_two_sessions_decide_nothing_but_a_gross_loss(sessions):
    few = stored(QUIET[:sessions])
    found = judge(0.14, few)
    assert (found.verdict, found.p, found.ratio) == ("no_baseline", None, pytest.approx(1.4, rel=0.01))
    assert f"the baseline has {sessions} comparable session" in found.reason
    assert "3 are needed" in found.reason
    gross = judge(0.16, few)
    assert gross.verdict == "regressed"
    assert gross.reason.startswith("gross: worse by 6")


@pytest.mark.parametrize(
    ("metric", "current", "verdict"),
    [
        ("output_tok_per_s", 60.0, "regressed"), ("goodput_req_per_s", 60.0, "regressed"),
        ("output_tok_per_s", 70.0, "no_baseline"), ("ttft_s.p99", 900.0, "no_baseline"),
        ("ready_s", 900.0, "no_baseline"),
    ],
)  # fmt: skip
def test_gross_is_for_means_and_rates(metric, current, verdict):
    assert judge(current, stored([100.0, 100.0], metric=metric), metric=metric).verdict == verdict


# -- what cannot be compared -----------------------------------------------------------------------------


def conditions(**keys):
    return dataclasses.replace(HOST, **keys)


def judge_under(fingerprint, reference=None, **more):
    now = session(20, case(boots=(0.1,)), id_="now", fingerprint=fingerprint)
    (found,) = gate.compare_session(now, reference or stored(QUIET), name="main", options=OPTIONS, **more)
    return found


def test_other_hardware_is_incomparable():
    found = judge_under(conditions(hard={"cpu_model": "B"}))
    assert (found.verdict, found.p) == ("incomparable", None)
    assert "cpu_model: A -> B" in found.reason
    assert (
        judge_under(conditions(hard={"cpu_model": "B"}), under_test=frozenset({"cpu_model"})).verdict
        == "incomparable"
    )


def test_another_model_is_incomparable_unless_it_is_under_test():
    other = conditions(identity={"model": "m", "dtype": "fp8"})
    found = judge_under(other)
    assert (found.verdict, "dtype: bf16 -> fp8" in found.reason) == ("incomparable", True)
    assert judge_under(other, under_test=frozenset({"dtype"})).verdict == "not_regressed"
    assert judge_under(other, under_test=frozenset({"model"})).verdict == "incomparable"


def test_a_key_that_only_one_side_has_differs():
    assert "gpu: (absent) -> H200" in judge_under(conditions(hard={"cpu_model": "A", "gpu": "H200"})).reason
    assert "dtype: bf16 -> (absent)" in judge_under(conditions(identity={"model": "m"})).reason


def test_soft_keys_may_differ():
    assert judge_under(conditions(soft={"kernel": "6.9"})).verdict == "not_regressed"


def test_a_tests_own_fingerprint_counts():
    here = case(boots=(0.1,), fingerprint=Fingerprint(hard={"workload": "w2"}))
    reference = [
        session(d, case(boots=(v,), fingerprint=Fingerprint(hard={"workload": "w1"})))
        for d, v in enumerate(QUIET)
    ]
    (found,) = gate.compare_session(session(20, here, id_="now"), reference, name="main", options=OPTIONS)
    assert (found.verdict, "workload: w1 -> w2" in found.reason) == ("incomparable", True)


def test_comparable_sessions_are_used_and_others_passed_over():
    other = [
        session(9 + d, case(boots=(9.0,)), fingerprint=conditions(hard={"cpu_model": "B"})) for d in range(5)
    ]
    found = judge(0.1, [*stored(QUIET), *other])
    assert (found.verdict, found.n_reference) == ("not_regressed", 5)


@pytest.mark.parametrize(
    ("boots", "reason"),
    [
        ((), "not measured: no valid boot"),
        ((boot(1, valid=False, **{MEAN: 0.1}),), "not measured: no valid boot (late)"),
        ((boot(1),), "not measured: no boot has ttft_s.mean"),
        ((0.0,), "ttft_s.mean of boot 1 is 0: no ratio can be taken"),
        ((0.1, math.inf), "ttft_s.mean of boot 2 is reached by failed requests: no ratio can be taken"),
        ((math.nan,), "ttft_s.mean of boot 1 is nan"),
    ],
)
def test_what_has_no_ratio_is_incomparable_and_says_why(boots, reason):
    found = judge(boots, stored(QUIET))
    assert (found.verdict, found.p, found.ratio) == ("incomparable", None, None)
    assert reason in found.reason


def test_stored_sessions_without_a_usable_value_do_not_count():
    found = judge(0.1, stored([*QUIET, math.inf, 0.0]))
    assert (found.verdict, found.n_reference) == ("not_regressed", 5)
    none = judge(0.1, stored([0.0] * 5))
    assert (none.verdict, none.reason) == (
        "no_baseline",
        "the baseline has no usable ttft_s.mean of this test",
    )


@pytest.mark.parametrize("reference", [[], stored(QUIET)])
def test_a_new_test_has_no_baseline(reference):
    now = session(20, case("t.py::test_new", boots=(0.1,)), id_="now")
    (found,) = gate.compare_session(now, reference, name="main", options=OPTIONS)
    assert (found.verdict, found.reason) == (
        "no_baseline",
        "the baseline has no accepted session with this test",
    )


# -- shares ----------------------------------------------------------------------------------------------


def test_shares_are_compared_in_points():
    errors = stored([0.01, 0.012, 0.008, 0.01, 0.011], metric="error_ratio")
    worse = judge(0.09, errors, metric="error_ratio")
    assert worse.verdict == "regressed"
    assert "worse by 7.98 points, the margin is 2 points" in worse.reason
    assert worse.ratio == pytest.approx(0.09 / 0.0101, rel=0.02)
    same = judge(0.01, errors, metric="error_ratio")
    assert (same.verdict, same.lower < 1 < same.upper) == ("not_regressed", True)


def test_no_errors_at_all_have_no_ratio_but_a_verdict():
    found = judge(0.0, stored([0.0] * 5, metric="error_ratio"), metric="error_ratio")
    assert (found.verdict, found.ratio, found.lower, found.mde_ratio) == ("not_regressed", None, None, None)
    assert found.p == 0.5
    assert judge(0.05, stored([0.0] * 5, metric="error_ratio"), metric="error_ratio").verdict == "regressed"


def test_few_requests_prove_little_about_a_share():
    few = [
        session(d, case(boots=(boot(1, requests=50, goodput_ratio=0.96),), metric="goodput_ratio"))
        for d in range(5)
    ]
    now = session(
        20, case(boots=(boot(1, requests=50, goodput_ratio=0.92),), metric="goodput_ratio"), id_="now"
    )
    (found,) = gate.compare_session(now, few, name="main", options=OPTIONS)
    assert found.verdict == "inconclusive"
    # one session's 2 asin(sqrt p) of 50 independent requests has the sd 1 / sqrt(50)
    t = (2 * math.asin(math.sqrt(0.96)) - 2 * math.asin(math.sqrt(0.92))) / (
        math.sqrt(1 / 50) * math.sqrt(1.2)
    )
    assert found.p == pytest.approx(stats.t.sf(t, 4))


# -- laws ------------------------------------------------------------------------------------------------

levels = st.lists(st.floats(0.05, 0.2), min_size=3, max_size=8)


@settings(max_examples=60, deadline=None)
@given(values=levels, current=st.floats(0.05, 0.2), factor=st.floats(1e-3, 1e6))
def test_units_do_not_move_a_verdict(values, current, factor):
    one = judge(current, stored(values))
    other = judge(current * factor, stored([v * factor for v in values]))
    assert other.p == pytest.approx(one.p, abs=1e-9)
    assert other.ratio == pytest.approx(one.ratio)


@settings(max_examples=60, deadline=None)
@given(values=levels, current=st.floats(0.05, 0.2))
def test_a_rate_is_a_time_turned_over(values, current):
    time_ = judge(current, stored(values))
    rate = judge(1 / current, stored([1 / v for v in values], metric="request_per_s"), metric="request_per_s")
    assert rate.p == pytest.approx(time_.p)
    assert rate.ratio == pytest.approx(1 / time_.ratio)
    assert (rate.lower, rate.upper) == (pytest.approx(1 / time_.upper), pytest.approx(1 / time_.lower))


@settings(max_examples=60, deadline=None)
@given(values=levels, current=st.floats(0.05, 0.2))
def test_mirrored_values_flip_the_sign(values, current):
    worse = judge(current, stored(values))
    better = judge(0.01 / current, stored([0.01 / v for v in values]))
    assert better.p == pytest.approx(1 - worse.p)
    assert math.log(better.ratio) == pytest.approx(-math.log(worse.ratio), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(values=levels, current=st.floats(0.05, 0.2), seed=st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(values, current, seed):
    reference = stored(values)
    shuffled = seed.sample(reference, len(reference))
    assert judge(current, shuffled) == judge(current, reference)


# -- beside the verdicts ---------------------------------------------------------------------------------


def test_detectable_is_what_a_comparison_would_say():
    reference = stored(NOISY)
    found = gate.detectable(reference, ["t.py::test_a", "t.py::test_new"], boots=1, options=OPTIONS)
    assert found == {("t.py::test_a", MEAN): pytest.approx(judge(0.1, reference).mde_ratio)}


def test_detectable_knows_boots_families_and_small_baselines():
    reference = stored([(v, 0.01 / v) for v in NOISY])
    one, two = (
        gate.detectable(reference, ["t.py::test_a"], boots=m, options=OPTIONS)["t.py::test_a", MEAN]
        for m in (1, 2)
    )
    assert two < one
    others = [case(f"t.py::test_{k}") for k in range(19)]
    wide = [dataclasses.replace(s, tests=(*s.tests, *others)) for s in reference]
    assert gate.detectable(wide, ["t.py::test_a"], boots=1, options=OPTIONS)["t.py::test_a", MEAN] > one
    assert gate.detectable(reference[:2], ["t.py::test_a"], boots=1, options=OPTIONS) == {
        ("t.py::test_a", MEAN): None
    }
    assert one >= 1.05 * 1.0


def test_nothing_below_the_margin_is_promised():
    found = gate.detectable(stored([0.1] * 12), ["t.py::test_a"], boots=1, options=OPTIONS)
    assert 1.05 < found["t.py::test_a", MEAN] < 1.06


def test_what_changed_since_the_newest_session():
    old = stored(QUIET)
    reference = [
        *old,
        session(
            9,
            case(fingerprint=Fingerprint(soft={"engine": "1"})),
            fingerprint=conditions(soft={"kernel": "6.2"}),
        ),
    ]
    here = case(fingerprint=Fingerprint(soft={"engine": "2"}))
    now = session(20, here, id_="now", fingerprint=conditions(soft={"kernel": "6.2", "python": "3.12"}))
    assert gate.changed_since(now, reference) == ("python: (absent) -> 3.12", "engine: 1 -> 2")
    assert gate.changed_since(now, []) == ()


def test_tests_not_exercised_are_those_of_the_newest_complete_session():
    b, c = case("t.py::test_b"), case("t.py::test_c")
    reference = [session(1, case(), b), session(2, case(), c, complete=False)]
    assert gate.tests_not_exercised(session(20, case(), id_="now"), reference) == (b,)
    assert gate.tests_not_exercised(session(20, case(), b, id_="now"), reference) == ()
    assert gate.tests_not_exercised(session(20, case(), id_="now"), []) == ()


def test_a_large_suite_is_judged_within_a_second():
    gated = ("ttft_s.mean", "ttft_s.p99", "tpot_s.mean", "e2e_s.p95", "output_tok_per_s")
    tests = [
        case(f"t.py::test_{k}", boots=(boot(1, **dict.fromkeys(gated, 1.0)),), gated=gated)
        for k in range(100)
    ]
    reference = [session(d, *tests) for d in range(20)]
    start = time.perf_counter()
    found = gate.compare_session(session(25, *tests, id_="now"), reference, name="main", options=OPTIONS)
    assert len(found) == 500
    assert time.perf_counter() - start < 3.0  # 1 s is the figure; a busy machine gets some air
