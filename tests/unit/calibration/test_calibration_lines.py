"""The report as a person reads it, and the same numbers for programs."""

import json
import math
import re

import pytest

from pytest_inferforge import metrics
from pytest_inferforge.calibration import advice, summing
from pytest_inferforge.calibration.noise import Noise
from pytest_inferforge.calibration.summing import Calibration, Failed, Judged
from pytest_inferforge.gate.scale import scale_of
from pytest_inferforge.gate.simulating import Alarms, Plan
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.records import Comparison
from pytest_inferforge.records import ComparisonVerdict as V
from pytest_inferforge.report import calibration_lines
from pytest_inferforge.stats.trend import Trend

OPTIONS = JudgeOptions()
STILL = Trend(change=0.01, lower=-0.02, upper=0.04)
RISING = Trend(change=0.09, lower=0.05, upper=0.13)


def noise(metric, level, *, trend=STILL, **fields):
    scale = scale_of(metrics.metric(metric))
    base = scale.point(level)
    given = {
        "session_sd": 0.004, "one_boot_sd": 0.02, "request_sd": 0.012, "requests": 500, "boot_s": 8.0,
        "load_s": 20.0,
    }  # fmt: skip
    return Noise(
        nodeid="test_a.py::test_chat", metric=metric, scale=scale, base=base, sessions=5, boots=15,
        session_df=4, boot_df=10, points=(base, base + 0.01), trend=trend, **(given | fields),
    )  # fmt: skip


NOISES = (
    noise("ttft_s.mean", 0.182),
    noise("ttft_s.p99", 0.41, session_sd=0.1, request_sd=None),
    noise("output_tok_per_s", 913.0),
    noise("ttft_beyond_ratio", 0.01),
)


@pytest.fixture
def calibration():
    def make(noises=NOISES, **fields):
        plan = Plan(stored=10, boots=1, way="turns", pairs=4, confirming=2)
        given = {
            "sessions": ("s1", "s2", "s3", "s4", "s5"),
            "failed": (),
            "boots": 3,
            "gate_boots": 1,
            "pairs": 4,
            "family": 4,
            "seed": 7,
            "options": OPTIONS,
            "noises": tuple(noises),
            "advice": tuple(advice.advise(n, family=4, boots=1, pairs=4, options=OPTIONS) for n in noises),
            "margins": advice.margins(noises, family=4, boots=1, options=OPTIONS),
            "alarms": ((Alarms(plan=plan, sessions=1000, red=8, asked=230), 0.004, 0.014),),
            "observed": (),
            "store": "x",
        }
        return Calibration(**(given | fields))

    return make


def row(lines, start):
    return next(line for line in lines if line.strip().startswith(start))


def test_the_whole_report(calibration):
    lines = calibration_lines.lines(calibration())
    assert lines[0] == "calibrated with 5 sessions of 3 boots, 4 gated comparisons in each"
    assert re.split(r"\s{2,}", row(lines, "test_a.py::test_chat  ttft_s.mean").strip()) == [
        "test_a.py::test_chat", "ttft_s.mean", "182 ms", "0.4 %", "1.6 %", "1.2 %", "4 and 10", "+1 %",
    ]  # fmt: skip
    assert re.split(r"\s{2,}", row(lines, "test_a.py::test_chat  ttft_beyond_ratio").strip())[2:4] == [
        "1 %",
        "0.04 points",
    ]
    assert re.split(r"\s{2,}", row(lines, "test_a.py::test_chat  ttft_s.p99").strip())[3:6] == [
        "10 %",
        "2 %",
        "-",
    ]
    assert row(lines, "reference booted in turns, 4 pairs").split()[6:10] == ["0.8", "%", "of", "sessions"]
    assert "[0.4 %, 1.4 %]" in row(lines, "reference booted in turns")
    assert "null control: no trend" in row(lines, "null control")
    assert "ttft_s.p99: no number of boots a session up to 20" in "\n".join(lines)
    assert row(lines, "requests:").startswith("  requests: test_a.py::test_chat has 500 a boot; best are ")


def test_every_number_of_a_table_has_its_unit(calibration):
    for line in calibration_lines.lines(calibration()):
        for cell in re.split(r"\s{2,}", line.strip()):
            assert not re.fullmatch(r"[+-]?[0-9.]+", cell), line


def test_a_moving_machine_is_said(calibration):
    lines = calibration_lines.lines(calibration([noise("ttft_s.mean", 0.182, trend=RISING)]))
    assert any("THIS MACHINE MOVES" in line for line in lines)
    assert any("test_chat ttft_s.mean: +1 % from the first session to the last" in line for line in lines)


def test_failed_sessions_are_named(calibration):
    failed = (
        Failed(number=2, why="pytest ended with exit code 1", log="x/session-2.log", stored=False),
        Failed(number=4, why="without test_a.py::test_b", log="x/session-4.log", stored=True),
    )
    lines = calibration_lines.lines(calibration(failed=failed))
    assert lines[1] == "session 2 measured nothing: pytest ended with exit code 1; x/session-2.log"
    assert lines[2] == "session 4 was measured in part: without test_a.py::test_b; x/session-4.log"


def test_one_boot_a_session_says_what_is_not_known(calibration):
    alone = [noise("ttft_s.mean", 0.1, one_boot_sd=None)]
    text = "\n".join(calibration_lines.lines(calibration(alone, boots=1)))
    assert "cannot be told apart" in text
    assert "boots: not known, with one boot a session" in text


def test_boots_and_margins_are_suggested_where_they_help(calibration):
    text = "\n".join(calibration_lines.lines(calibration([noise("ttft_s.mean", 0.1, one_boot_sd=0.04)])))
    assert re.search(r"boots: --infer-boots=\d+ would show every margin with 10 sessions", text)
    assert re.search(
        r'margin mean: mean = "\d+ %" in the place of 5 %, or more boots; 10 sessions show', text
    )
    quiet = "\n".join(calibration_lines.lines(calibration([noise("ttft_s.mean", 0.1, one_boot_sd=0.005)])))
    assert "margin mean: keep 5 %" in quiet
    assert "boots: 1 boot a session: more are not needed" in quiet
    wild = "\n".join(calibration_lines.lines(calibration([noise("ttft_s.mean", 0.1, session_sd=0.5)])))
    assert "margin mean: none is wide enough" in wild


def test_observed_verdicts_are_told_with_the_red_ones(calibration):
    red = Comparison(nodeid="a", metric="ttft_s.mean", verdict=V.REGRESSED, reason="worse by 30 %")
    green = Comparison(nodeid="a", metric="tpot_s.mean", verdict=V.NOT_REGRESSED)
    observed = (Judged(session="s1", comparisons=(green, red)), Judged(session="s2", comparisons=(green,)))
    text = "\n".join(calibration_lines.lines(calibration(observed=observed)))
    assert "each session judged by the other 1, stored sessions alone: 1 of 2 red" in text
    assert "comparisons: 2 not_regressed, 1 regressed" in text
    assert "s1 a ttft_s.mean: worse by 30 %" in text
    assert "too few sessions to judge each" in "\n".join(calibration_lines.lines(calibration()))


def test_the_document_has_the_printed_numbers(calibration):
    found = calibration()
    written = json.loads(json.dumps(summing.document(found)))
    assert written["schema"] == 1
    (first, *_) = written["metrics"]
    assert (first["session_sd"], first["request_sd"]) == (0.004, 0.012)
    assert first["boot_sd"] == pytest.approx(math.sqrt(0.02**2 - 0.012**2))
    assert (first["scale"], written["metrics"][3]["scale"]) == ("log", "asin_sqrt")
    assert first["level"] == pytest.approx(0.182)
    line = next(x for x in calibration_lines._detectable(found) if "ttft_s.mean" in x)
    printed = [float(x) / 100 for x in re.findall(r"([0-9.]+) %", line)]
    told = [*first["detectable"].values(), first["detectable_in_turns"]]
    assert printed == pytest.approx(told, rel=0.05)
    (alarm,) = written["false_alarms"]
    assert (alarm["red"], alarm["simulated_sessions"], alarm["upper"]) == (8, 1000, 0.014)
    assert {m["name"] for m in written["margins"]} == {"mean", "p99"}
    assert written["gate"] == {"boots": 1, "pairs": 4, "family": 4, "alpha": 0.05, "power": 0.8}
