"""Tables and sentences on quality, as a person reads them."""

from dataclasses import replace

import pytest

from pytest_inferforge.gate.drift import Drift
from pytest_inferforge.outcomes import Outcomes, QualityKind, QualityResult, QualityVerdict, Repeat
from pytest_inferforge.quality.evaluation import Evaluation, Requests
from pytest_inferforge.records import Comparison, ComparisonVerdict
from pytest_inferforge.report import quality_lines as lines

WORSE = QualityResult(
    nodeid="suite/test_a.py::test_q",
    task="gsm8k",
    metric="exact_match",
    kind=QualityKind.NOT_WORSE_THAN,
    verdict=QualityVerdict.REGRESSED,
    value=0.81,
    n=90,
    worse=7,
    better=3,
    loss=0.04,
    lower=0.0238,
    upper=0.0562,
    margin=0.02,
    reference="baseline:main, session s1",
    reference_value=0.85,
    reason="4 pt worse, the margin is 2 pt",
)
SAME = replace(
    WORSE, task="arc", verdict=QualityVerdict.NOT_REGRESSED, worse=0, better=0, loss=0.0, upper=0.0027,
    value=0.85, reason="as good as before",
)  # fmt: skip
BETTER = replace(
    SAME, verdict=QualityVerdict.IMPROVED, better=3, value=0.88, loss=-0.03, upper=-0.01,
)  # fmt: skip
FLOOR = QualityResult(
    nodeid="suite/test_a.py::test_q",
    task="gsm8k",
    metric="exact_match",
    kind=QualityKind.AT_LEAST,
    verdict=QualityVerdict.FAIL,
    value=0.7,
    n=200,
    lower=0.642,
    upper=0.7532,
    limit=0.8,
    reason="0.7 on 200 items; at least 0.8 is wanted",
)
LOADED = replace(WORSE, kind=QualityKind.UNDER_LOAD, reference="the same boot without load")
NEW = replace(
    WORSE, verdict=QualityVerdict.NO_BASELINE, loss=None, upper=None, reference="baseline:main",
    reference_value=None, reason="the baseline has no accepted session with this test",
)  # fmt: skip


def variant(result, name):
    return replace(result, nodeid=f"{result.nodeid}::variant={name}", reference="variant:bf16")


def texts(found):
    return [line.text for line in found]


def test_floors_and_each_reference_have_a_table():
    assert texts(lines.result_lines([FLOOR, WORSE, BETTER, LOADED])) == [
        "    floor                  measured    95 % bounds       verdict",
        "    gsm8k at least 80.0 %  70.0 %      [64.2 %, 75.3 %]  fail       n = 200 items",
        "    gsm8k: 0.7 on 200 items; at least 0.8 is wanted",
        "  against baseline:main, session s1:",
        "    task    now     reference    change    at worst (95 %)    verdict",
        "    gsm8k   81.0 %  85.0 %       -4.0 pt   -5.6 pt            regressed  7 worse, 3 better of 90",
        "    arc     88.0 %  85.0 %       +3.0 pt   +1.0 pt            improved   0 worse, 3 better of 90",
        "    gsm8k: 4 pt worse, the margin is 2 pt",
        "  under load, against the same boot without load:",
        "    task    now     reference    change    at worst (95 %)    verdict",
        "    gsm8k   81.0 %  85.0 %       -4.0 pt   -5.6 pt            regressed  7 worse, 3 better of 90",
        "    gsm8k: 4 pt worse, the margin is 2 pt",
    ]
    assert lines.result_lines([]) == []


def test_what_was_not_paired_has_no_numbers():
    assert texts(lines.result_lines([NEW]))[:3] == [
        "  against baseline:main:",
        "    task    now     reference    change    at worst (95 %)    verdict",
        "    gsm8k   81.0 %  -            -         -                  no_baseline",
    ]


def test_variants_are_told_apart():
    found = texts(lines.result_lines([variant(WORSE, "awq"), variant(SAME, "gptq"), variant(FLOOR, "awq")]))
    assert "  awq against variant:bf16:" in found
    assert "  gptq against variant:bf16:" in found
    assert found[1].strip().startswith("awq gsm8k at least 80.0 %")
    assert lines.failure([variant(WORSE, "awq")], []).startswith("quality: awq gsm8k 4.0 pt worse than")


def test_colours_say_the_verdict():
    found = {line.text.split()[0]: line.markup for line in lines.result_lines([WORSE, SAME])}
    assert (found["gsm8k"], found["arc"]) == ({"red": True}, {"green": True})


def test_stored_sessions_are_told_by_test():
    other = replace(SAME, nodeid="test_b.py::test_r")
    found = texts(lines.by_test([WORSE, other]))
    assert found[0] == "suite/test_a.py::test_q: quality"
    assert "test_b.py::test_r: quality" in found


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (FLOOR, "gsm8k 70.0 %, at least 80.0 % is wanted"),
        (WORSE, "gsm8k 4.0 pt worse than baseline:main, session s1 (85.0 % -> 81.0 %)"),
        (LOADED, "gsm8k 4.0 pt worse under load (85.0 % -> 81.0 %)"),
        (NEW, "gsm8k no_baseline against baseline:main"),
        (
            replace(WORSE, verdict=QualityVerdict.INCONCLUSIVE, loss=-0.01),
            "gsm8k inconclusive: 1.0 pt better than baseline:main, session s1 (85.0 % -> 81.0 %)",
        ),
        (
            replace(FLOOR, verdict=QualityVerdict.INCONCLUSIVE),
            "gsm8k inconclusive: 70.0 %, at least 80.0 % is wanted",
        ),
    ],
)
def test_a_failure_begins_with_what_is_red(result, said):
    assert lines.failure([result], [result]).splitlines()[0] == f"quality: {said}"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (FLOOR, "test_a.py::test_q gsm8k at least 80.0 %: fail; 0.7 on 200 items"),
        (WORSE, "test_a.py::test_q gsm8k not worse than baseline:main, session s1: regressed; 4 pt worse"),
        (LOADED, "test_a.py::test_q gsm8k under load against the same boot without load: regressed; "),
    ],
)
def test_a_sentence_is_whole(result, said):
    assert lines.sentence(result).startswith(said)


def test_a_joint_line():
    speed = Comparison(
        nodeid="t", metric="output_tok_per_s", verdict=ComparisonVerdict.IMPROVED, ratio=1.31, margin=0.05
    )
    same = replace(speed, verdict=ComparisonVerdict.NOT_REGRESSED, ratio=1.002)
    slower = replace(speed, metric="ttft_s.p99", verdict=ComparisonVerdict.REGRESSED, ratio=1.25)
    doubt = replace(speed, verdict=ComparisonVerdict.INCONCLUSIVE, ratio=0.97)
    unsure = replace(WORSE, verdict=QualityVerdict.INCONCLUSIVE, loss=0.012)
    better = replace(WORSE, verdict=QualityVerdict.IMPROVED, loss=-0.03)
    assert lines.joint([speed], [WORSE, SAME], failed=True) == "faster by 31 %, worse by 4.0 pt: fail"
    assert lines.joint([speed, slower], [SAME], failed=True) == "slower by 20 %, as good: fail"
    assert lines.joint([same], [better], failed=False) == "as fast (+0.2 %), better by 3.0 pt: pass"
    assert lines.joint([doubt], [unsure, SAME], failed=False) == (
        "speed not shown (-3.0 %), quality not shown (-1.2 pt): pass"
    )
    assert lines.joint([speed], [FLOOR], failed=True) is None
    assert lines.joint([], [WORSE], failed=True) is None


def test_an_evaluation_says_what_was_counted():
    known = Outcomes(
        task="arc", metric="acc", filter="none", higher_is_better=True, keys=("a", "b", "c", "d"),
        scores=(1.0, 1.0, 1.0, 0.0), unanswered=1, truncated=2, tied=3, chance=0.25, perplexity=1.8321,
    )  # fmt: skip
    filtered = replace(
        known, task="gsm8k", metric="exact_match", filter="flexible-extract", unanswered=0, truncated=0,
        tied=0, chance=None, perplexity=None,
    )  # fmt: skip
    evaluation = Evaluation(
        tasks=(known, filtered),
        observed={"arc": {"acc_norm,none": 0.5}, "gsm8k": {}},
        requests=Requests(
            asked=20, failed={"timeout": 1}, retried=2, truncated=2, prompt_tokens=None, output_tokens=None,
            latency_s={"p50": 0.025},
        ),
        route="teacher_forced",
        lm_eval_version="0.4.13",
        seconds=12.5,
        notes=("a note",),
    )  # fmt: skip
    assert texts(lines.evaluation_lines("t: quality", "vllm M", evaluation)) == [
        "t: quality",
        "  on vllm M, lm-eval 0.4.13, log-likelihoods by teacher forced",
        "  20 requests in 12.5 s, p50 25 ms, 2 sent again, failed: 1 x timeout, 2 replies cut",
        "    task    score                                  items",
        (
            "    arc     acc 75.0 %                             5        a coin: 25.0 %, perplexity 1.83,"
            " 1 unanswered, 2 cut at the most tokens, 3 tied"
        ),
        "    gsm8k   exact_match (flexible-extract) 75.0 %  4",
        "    arc: acc_norm 0.5",
        "  note: a note",
    ]


def test_drift_stands_beside_what_changes_by_itself():
    written = Drift(
        items=200, flipped=9, replies=200, changed=61, texts=64, diverged=20, diverged_at=37.5,
        earliest_share=0.1, kl_nats=None, perplexity_ratio=None, repeat=Repeat(n=100, flipped=2, changed=11),
    )  # fmt: skip
    chosen = replace(
        written, replies=0, changed=0, texts=0, diverged=0, diverged_at=None, kl_nats=0.0123,
        perplexity_ratio=1.0214, repeat=Repeat(n=100, flipped=0, changed=None),
    )  # fmt: skip
    nothing = replace(chosen, flipped=0, kl_nats=None, perplexity_ratio=None)
    assert texts(lines.drift_lines({"gsm8k": written, "arc": chosen, "other": nothing})) == [
        (
            "    drift of gsm8k: 61 of 200 replies changed; they part after 38 characters (median of 20);"
            " asked twice of one boot: 2 of 100 scores flipped, 11 replies changed"
        ),
        (
            "    drift of arc: 9 of 200 scores flipped; KL of the choices 0.012 nats; perplexity x 1.021;"
            " asked twice of one boot: 0 of 100 scores flipped"
        ),
    ]


def test_properties_for_junit():
    assert lines.properties([FLOOR, variant(WORSE, "awq")]) == {
        "inferforge.quality.gsm8k": "0.7",
        "inferforge.quality.gsm8k.at_least": "fail",
        "inferforge.quality.awq.gsm8k": "0.81",
        "inferforge.quality.awq.gsm8k.not_worse_than": "regressed",
    }
