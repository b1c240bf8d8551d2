"""Sessions in, noise out: parts, drift, what is left out; and what follows from it."""

import dataclasses
import math
import statistics

import numpy as np
import pytest

from pytest_inferforge import gate, metrics
from pytest_inferforge.calibration import advice, concluding
from pytest_inferforge.calibration.noise import Noise, comparable, profile
from pytest_inferforge.calibration.requests import OfRequests
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.pytest_plugin.settings import MARGINS
from pytest_inferforge.records import BootResult, Fingerprint, RequestCounts, RunVerdict, TestResult
from pytest_inferforge.stats.components import components
from pytest_inferforge.stats.tails import upper_quantiles

OPTIONS = JudgeOptions()
COUNTS = RequestCounts(issued=500, completed=500, failed=0, cancelled=0)
MEAN, RATE, P99 = "ttft_s.mean", "output_tok_per_s", "ttft_s.p99"


@pytest.fixture
def sessions(make_session):
    """A function: values of a metric, session by session and boot by boot -> sessions a day apart."""

    def make(values, name=MEAN, *, gated=None, tails=None, invalid=(), **boot_fields):
        made = []
        for day, boots in enumerate(values):
            results = tuple(
                BootResult(
                    boot=k + 1, ready_s=2.0, requests=COUNTS, metrics={name: value}, tails=tails or {},
                    verdict=RunVerdict.INVALID if (day, k) in invalid else RunVerdict.VALID, **boot_fields,
                )
                for k, value in enumerate(boots)
            )  # fmt: skip
            test = TestResult(nodeid="a", fingerprint=Fingerprint(), gated=gated or (name,), boots=results)
            whole = make_session(f"s{day}", day=day + 1, tests={})
            made.append(dataclasses.replace(whole, tests=(test,), planned_boots=len(boots)))
        return made

    return make


VALUES = [[0.100, 0.103], [0.107, 0.104, 0.105], [0.099, 0.101], [0.102, 0.100]]


def test_the_parts_are_those_of_the_logs(sessions):
    (noise,) = profile(sessions(VALUES), (), OPTIONS)
    parts = components([[math.log(v) for v in boots] for boots in VALUES])
    assert (noise.session_sd, noise.one_boot_sd) == pytest.approx((parts.group_sd, parts.within_sd))
    assert (noise.session_df, noise.boot_df, noise.sessions, noise.boots) == (3, 5, 4, 9)
    assert noise.level == pytest.approx(math.exp(parts.mean))
    assert noise.request_sd is None
    assert noise.boot_sd == noise.one_boot_sd  # nothing known to be taken off
    assert (noise.requests, noise.boot_s, noise.load_s) == (500, 2.0, None)
    assert noise.first_to_last == pytest.approx(math.sqrt(0.102 * 0.100) / math.sqrt(0.100 * 0.103) - 1)


def test_what_requests_contribute_is_taken_off_the_boots(sessions):
    rows = [
        OfRequests(sds={("a", MEAN): sd}, load_s={"a": seconds})
        for sd, seconds in ((0.010, 4.0), (0.014, 6.0))
    ]
    (noise,) = profile(sessions(VALUES), rows, OPTIONS)
    assert noise.request_sd == pytest.approx(math.sqrt((0.010**2 + 0.014**2) / 2))
    assert noise.boot_sd == pytest.approx(math.sqrt(max(0.0, noise.one_boot_sd**2 - noise.request_sd**2)))
    assert noise.load_s == 5.0
    (drowned,) = profile(sessions(VALUES), [OfRequests(sds={("a", MEAN): 1.0}, load_s={})], OPTIONS)
    assert drowned.boot_sd == 0.0


def test_one_boot_a_session_cannot_tell_boots_from_sessions(sessions):
    values = [[0.1], [0.104], [0.099]]
    (noise,) = profile(sessions(values), (), OPTIONS)
    assert noise.one_boot_sd is noise.boot_sd is None
    assert noise.session_sd == pytest.approx(statistics.stdev(math.log(v) for (v,) in values))


def test_invalid_boots_and_sessions_under_other_conditions_are_out(sessions):
    (noise,) = profile(sessions(VALUES, invalid={(1, 2)}), (), OPTIONS)
    assert noise.boots == 8
    made = sessions(VALUES)
    other = dataclasses.replace(made[1].tests[0], fingerprint=Fingerprint(hard={"workload": "other"}))
    made[1] = dataclasses.replace(made[1], tests=(other,))
    (noise,) = profile(made, (), OPTIONS)
    assert noise.sessions == 3
    assert profile(made[:1], (), OPTIONS) == ()
    assert comparable(()) == {}


def test_whether_a_session_was_accepted_does_not_matter(sessions):
    red = [dataclasses.replace(s, accepted=False) for s in sessions(VALUES)]
    assert profile(red, (), OPTIONS) == profile(sessions(VALUES), (), OPTIONS)


def test_a_share_stands_beside_its_tail(sessions):
    tails = {"ttft_s": upper_quantiles(np.linspace(0.1, 0.3, 500))}
    found = profile(sessions([[0.29, 0.3]] * 4, P99, tails=tails), (), OPTIONS)
    assert [n.metric for n in found] == [P99, "ttft_beyond_ratio"]
    share = found[1]
    assert share.scale.share
    assert share.level == pytest.approx(0.01, abs=0.002)


def test_a_drift_is_told_from_chance(sessions):
    drifting = [[0.100, 0.1002], [0.103, 0.1031], [0.106, 0.1062], [0.109, 0.1091], [0.112, 0.1122]]
    (noise,) = profile(sessions(drifting), (), OPTIONS)
    assert noise.drifts
    assert noise.first_to_last == pytest.approx(0.12, abs=0.001)
    (back,) = profile(sessions(drifting[::-1]), (), OPTIONS)
    assert back.drifts
    assert back.first_to_last < 0
    (still,) = profile(sessions([drifting[k] for k in (2, 0, 4, 1, 3)]), (), OPTIONS)
    assert not still.drifts
    (few,) = profile(sessions(drifting[:3]), (), OPTIONS)
    assert few.trend is None
    assert not few.drifts


# -- what follows


def advised(noise, **more):
    given = {"family": 1, "boots": 1, "pairs": 4, "options": OPTIONS}
    return advice.advise(noise, **(given | more))


@pytest.mark.parametrize(("name", "level"), [(MEAN, 0.1), (RATE, 900.0)])
def test_what_can_be_seen_is_what_the_gate_says(sessions, name, level):
    """Of sessions of one boot the gate itself can say it, by way of the stored sessions."""
    values = [[level * f] for f in (1.0, 1.02, 0.98, 1.03, 0.97)]
    made = sessions(values, name)
    (noise,) = profile(made, (), OPTIONS)
    told = advised(noise).detectable[5]
    (ratio,) = gate.detectable(made, {"a"}, boots=1, options=OPTIONS).values()
    assert told == pytest.approx(ratio - 1.0 if name == MEAN else 1.0 - 1.0 / ratio)


def test_more_sessions_and_boots_see_more_and_a_family_less(sessions):
    (noise,) = profile(sessions(VALUES), (), OPTIONS)
    seen = list(advised(noise).detectable.values())
    assert seen == sorted(seen, reverse=True)
    assert advised(noise, boots=4).detectable[5] < advised(noise).detectable[5]
    assert advised(noise, family=20).detectable[5] > advised(noise).detectable[5]
    assert advised(noise, pairs=8).in_turns < advised(noise).in_turns


def test_turns_are_spared_the_session_part(sessions):
    far = [[0.100, 0.1005], [0.120, 0.1205], [0.090, 0.0905], [0.110, 0.1104]]
    (noise,) = profile(sessions(far), (), OPTIONS)
    assert advised(noise).in_turns < 0.08 < 0.3 < advised(noise).detectable[20]
    assert advised(noise).boots is None  # sessions differ, and boots are no help


def test_boots_help_where_boots_differ(sessions):
    (noise,) = profile(
        sessions([[0.100, 0.106, 0.097], [0.101, 0.099, 0.105], [0.1, 0.104, 0.097]]), (), OPTIONS
    )
    needed = advised(noise).boots
    assert 2 <= needed <= advice.MOST_BOOTS
    (quiet,) = profile(sessions([[0.1, 0.1001], [0.1001, 0.1], [0.1, 0.1002]]), (), OPTIONS)
    assert advised(quiet).boots == 1
    (unknown,) = profile(sessions([[0.1], [0.104], [0.099]]), (), OPTIONS)
    assert advised(unknown).boots is advised(unknown).in_turns is None


def test_requests_by_kalibera_and_jones(sessions):
    rows = [OfRequests(sds={("a", MEAN): 0.012}, load_s={"a": 10.0})]
    (noise,) = profile(sessions(VALUES), rows, OPTIONS)
    assert noise.boot_sd > 0.005
    blocks = 20  # of 25 requests and half a second each; a boot takes 2 s
    wanted = math.ceil(math.sqrt(2.0 / 0.5) * 0.012 * math.sqrt(blocks) / noise.boot_sd)
    assert advised(noise).requests == wanted * 25 > 25
    assert advised(dataclasses.replace(noise, boot_s=200.0)).requests > advised(noise).requests
    assert advised(dataclasses.replace(noise, metric=P99)).requests is None
    for missing in ({"boot_s": None}, {"load_s": None}, {"request_sd": None}, {"request_sd": 1.0}):
        assert advised(dataclasses.replace(noise, **missing)).requests is None


def test_margins_are_raised_to_what_can_be_seen_and_never_lowered(sessions):
    (noise,) = profile(sessions([[0.1], [0.112], [0.095], [0.105]]), (), OPTIONS)
    (margin,) = advice.margins([noise], family=3, boots=1, options=OPTIONS)
    assert (margin.name, margin.now, margin.nodeid, margin.metric) == ("mean", 0.05, "a", MEAN)
    assert margin.suggested == math.ceil(margin.least * 100) / 100 > margin.now
    (quiet,) = profile(sessions([[0.1], [0.1001], [0.0999]]), (), OPTIONS)
    (kept,) = advice.margins([quiet], family=3, boots=1, options=OPTIONS)
    assert kept.suggested == kept.now > kept.least
    (both,) = advice.margins([quiet, noise], family=3, boots=1, options=OPTIONS)
    assert both == margin  # of the noisiest
    (wild,) = profile(sessions([[0.1], [0.3], [0.05]]), (), OPTIONS)
    assert advice.margins([wild], family=3, boots=1, options=OPTIONS)[0].suggested is None


def test_every_margin_of_the_projects_file_has_its_metrics():
    names = {
        name: advice.margin_name(name)
        for name in (MEAN, RATE, "tpot_s.p50", "ttft_s.p95", P99, "ttft_s.cvar95", "ready_s", "goodput_ratio")
    }
    assert names == {
        MEAN: "mean", RATE: "mean", "tpot_s.p50": "p50", "ttft_s.p95": "p90", P99: "p99",
        "ttft_s.cvar95": "p99", "ready_s": "boot_time", "goodput_ratio": None,
    }  # fmt: skip
    assert {name for name in names.values() if name} == MARGINS


def test_floors_are_the_gates():
    quiet = 0.0001
    scale = scale_of(metrics.metric(MEAN))
    assert not scale.share
    made = {
        "nodeid": "a", "scale": scale, "base": 0.0, "session_sd": quiet, "one_boot_sd": quiet,
        "request_sd": None, "sessions": 5, "boots": 5, "session_df": 4, "boot_df": 0, "requests": 400,
        "points": (0.0, 0.0), "trend": None, "boot_s": None, "load_s": None,
    }  # fmt: skip
    assert Noise(metric=MEAN, **made).session_mean_sd(1, OPTIONS) == OPTIONS.sd_floor
    share = made | {"scale": scale_of(metrics.metric("ttft_beyond_ratio"))}
    assert Noise(metric="ttft_beyond_ratio", **share).session_mean_sd(4, OPTIONS) == 1 / 40


# -- everything together


def concluded(made, **more):
    given = {
        "gate_as": concluding.GateAsSetUp(boots=1, pairs=None, bootable=True, options=OPTIONS),
        "boots": 2, "simulated": 20, "seed": 3, "store": "x",
    }  # fmt: skip
    return concluding.conclude(made, (), (), **(given | more))


def test_what_is_simulated_is_what_the_machine_can_do(sessions):
    made = sessions(VALUES)
    ways = [a.plan.way for a, _, _ in concluded(made).alarms]
    assert ways == ["turns", "confirming"]
    url = concluding.GateAsSetUp(boots=1, pairs=None, bootable=False, options=OPTIONS)
    assert [a.plan.way for a, _, _ in concluded(made, gate_as=url).alarms] == ["stored"]
    assert [a.plan.way for a, _, _ in concluded(sessions([[v[0]] for v in VALUES])).alarms] == ["stored"]
    assert concluded(made, simulated=0).alarms == ()
    for a, lower, upper in concluded(made).alarms:
        assert (a.sessions, a.plan.stored, a.plan.boots, a.plan.pairs) == (20, 10, 1, 4)
        assert lower <= a.red / 20 <= upper
    told = []
    concluded(made, on_session=lambda *n: told.append(n))
    assert told == [(k + 1, 40) for k in range(40)]


def test_slow_boots_make_fewer_pairs(sessions):
    slow = [
        dataclasses.replace(
            s,
            tests=tuple(
                dataclasses.replace(t, boots=tuple(dataclasses.replace(b, ready_s=300.0) for b in t.boots))
                for t in s.tests
            ),
        )
        for s in sessions(VALUES)
    ]
    plans = [a.plan for a, _, _ in concluded(slow).alarms]
    assert {(p.pairs, p.confirming) for p in plans} == {(3, 1)}
    asked = concluding.GateAsSetUp(boots=1, pairs=6, bootable=True, options=OPTIONS)
    assert concluded(slow, gate_as=asked).pairs == 6


def test_each_session_is_judged_by_the_others(sessions):
    quiet = [[0.100, 0.2], [0.101, 0.2], [0.0995, 0.2], [0.1, 0.2], [0.130, 0.2]]
    found = concluding.observed(sessions(quiet), 1, OPTIONS)
    verdicts = {judged.session: str(judged.comparisons[0].verdict) for judged in found}
    assert verdicts["s4"] == "regressed"
    assert [s for s, v in verdicts.items() if v == "regressed"] == ["s4"]
    assert {judged.comparisons[0].n_reference for judged in found} == {4}
    assert {judged.comparisons[0].n_current_boots for judged in found} == {1}  # as the gate is set up
    assert concluding.observed(sessions(quiet[:3]), 1, OPTIONS) == ()
