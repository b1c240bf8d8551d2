"""`inferforge compare` and `inferforge judge`: verdicts on stored sessions, without pytest."""

import dataclasses
import json
import math

import pytest

from pytest_inferforge import cli
from pytest_inferforge.baselines import open_store
from pytest_inferforge.codec import encode_session

A, B, C = (f"test_a.py::test_{name}" for name in ("chat", "batch", "long"))
NOISE = (1.0, 1.004, 0.997, 1.002, 0.995, 1.001, 0.999, 1.003, 0.998, 1.0)


def values(factor=1.0, *, tests=(A, B, C)):
    return {nodeid: {"tpot_s.mean": 0.01 * factor, "output_tok_per_s": 100.0 / factor} for nodeid in tests}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return open_store(tmp_path / ".inferforge")


@pytest.fixture
def baseline(store, make_session):
    """Ten sessions of three tests, a day apart, 0.3 % of noise."""
    for k, noise in enumerate(NOISE, start=1):
        store.save("main", make_session(f"m{k:02d}", day=k, tests=values(noise), hard={"gpu": "H100"}))
    return store


@pytest.fixture
def candidate(baseline, make_session):
    def save(factor=1.0, name="pr", id_="p1", **fields):
        given = {"day": 20, "tests": values(factor), "hard": {"gpu": "H100"}} | fields
        baseline.save(name, made := make_session(id_, **given))
        return made

    return save


@pytest.fixture
def inferforge(capsys):
    def run(*arguments):
        code = cli.main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def rows(text, word):
    return [line for line in text.splitlines() if line.split()[:1] == [word]]


# -- compare -----------------------------------------------------------------------------------------------


def test_a_slower_session_is_red_and_an_equal_one_green(candidate, inferforge):
    candidate(1.0)
    code, out, _ = inferforge("compare", "main", "pr")
    assert code == 0, out
    assert "comparisons: 6 not_regressed" in out
    candidate(1.2, name="slow")
    code, out, _ = inferforge("compare", "main", "slow")
    assert code == 1
    assert "comparisons: 6 regressed" in out
    assert "judged: slow (p1, 2026-01-20 03:00)" in out


def test_a_session_of_the_baseline_is_not_compared_with_itself(baseline, inferforge):
    code, out, _ = inferforge("compare", "main", "main/m10")
    assert code == 0
    assert "reference: main (9 sessions)" in out
    code, _, err = inferforge("compare", "main/m10", "main/m10")
    assert code == 2
    assert "not compared with itself" in err


def test_two_single_sessions_show_ratios_and_judge_nothing_but_what_is_gross(candidate, tmp_path, inferforge):
    session = candidate(1.2)
    path = tmp_path / "one.json"
    path.write_bytes(encode_session(session))
    code, out, _ = inferforge("compare", "main/m01", str(path))
    assert code == 0
    assert "6 no_baseline" in out
    assert all("+20.0 %" in row for row in rows(out, "tpot_s.mean"))
    candidate(2.0, name="gross")
    code, out, _ = inferforge("compare", "main/m01", "gross")
    assert code == 1
    assert "gross" in out


def test_a_session_named_by_itself_counts_whether_accepted_or_not(candidate, inferforge):
    candidate(1.2, accepted=False)
    assert inferforge("compare", "main", "pr/p1")[0] == 1
    code, _, err = inferforge("compare", "main", "pr")
    assert code == 2
    assert "baseline pr has no accepted session" in err


def test_results_of_other_conditions_are_refused_and_flagged_on_every_line(candidate, inferforge):
    candidate(1.2, hard={"gpu": "L4"})
    code, out, err = inferforge("compare", "main", "pr")
    assert code == 2
    assert out == ""
    assert "main was measured under other conditions than pr" in err
    assert f"{A}: gpu: H100 -> L4" in err
    code, out, _ = inferforge("compare", "main", "pr", "--anyway")
    assert code == 1
    lines = rows(out, "tpot_s.mean") + rows(out, "output_tok_per_s")
    assert len(lines) == 6
    assert all("measured under other conditions: gpu: H100 -> L4" in line for line in lines)
    reasons = rows(out, "tpot_s.mean:") + rows(out, "output_tok_per_s:")
    assert len(reasons) == 6
    assert all(": measured under other conditions: " in line for line in reasons)


def test_of_another_engine_is_foreign_too(candidate, inferforge):
    candidate(1.0, identity={"engine": "other"})
    code, _, err = inferforge("compare", "main", "pr")
    assert code == 2
    assert "engine: e -> other" in err


def test_tests_measured_alike_are_not_flagged_beside_those_that_were_not(candidate, inferforge):
    made = candidate(1.0, name="x")
    first, *others = made.tests
    odd = dataclasses.replace(
        first, fingerprint=dataclasses.replace(first.fingerprint, hard={"workload": "another"})
    )
    mixed = dataclasses.replace(made, id="p2", tests=(odd, *others))
    open_store(".inferforge").save("pr", mixed)
    assert f"{A}: workload: w -> another" in inferforge("compare", "main", "pr")[2]
    _, out, _ = inferforge("compare", "main", "pr", "--anyway")
    assert len([line for line in rows(out, "tpot_s.mean") if "other conditions" in line]) == 1


def test_a_json_document_is_no_evidence(baseline, tmp_path, inferforge):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": 1, "session": {}, "tests": [], "comparisons": []}))
    code, _, err = inferforge("compare", "main", str(path))
    assert code == 2
    assert "this is the document of --infer-json" in err
    assert "--infer-save=NAME" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mian", "main"), "did you mean main?"),
        (("main", "main/zz"), "has no such session"),
        (("main", "absent.json"), "there is no such file"),
    ],
)
def test_what_cannot_be_found_is_said(baseline, inferforge, words, told):
    code, _, err = inferforge("compare", *words)
    assert code == 2
    assert told in err


def test_a_broken_file_is_named(baseline, tmp_path, inferforge):
    (tmp_path / "x.json").write_text("{")
    code, _, err = inferforge("compare", "main", "x.json")
    assert code == 2
    assert "x.json is broken, or not ours" in err


def test_suites_without_a_common_test_are_refused(candidate, inferforge):
    candidate(tests=values(tests=("test_b.py::test_other",)))
    code, _, err = inferforge("compare", "main", "pr")
    assert code == 2
    assert "no test in common" in err


# -- judge -------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(baseline, make_session):
    """Keeps the three tests in as many shards; `factors`: how slow each is."""

    def save(*factors, nodeids=(A, B, C), **fields):
        for k, (nodeid, factor) in enumerate(zip(nodeids, factors, strict=False)):
            given = {
                "day": 20 + k,
                "tests": values(factor, tests=(nodeid,)),
                "hard": {"gpu": "H100"},
            } | fields
            baseline.save_shard("main", make_session("ci-7", **given))

    return save


def test_shards_are_judged_as_one_family(shards, baseline, tmp_path, inferforge):
    shards(1.0, 1.0, 1.2)
    code, out, _ = inferforge("judge", "main", "ci-7", "--json", "out.json")
    assert code == 1
    assert "session ci-7: 3 shards, 3 tests" in out
    assert "verdict: red: 2 regressed" in out
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["session"]["verdict"] == "fail"
    assert document["session"]["id"] == "ci-7"
    found = {(c["nodeid"], c["metric"]): c for c in document["comparisons"]}
    assert len(found) == 6
    assert {key[0] for key, c in found.items() if c["verdict"] == "regressed"} == {C}
    worst = found[C, "tpot_s.mean"]
    assert math.isclose(worst["p_adjusted"], min(1.0, worst["p"] * 6), rel_tol=1e-6)  # Holm over all six
    assert len(baseline.load("main")) == 10


def test_a_green_session_is_saved_as_complete_when_it_has_the_baselines_tests(shards, baseline, inferforge):
    shards(1.0, 1.0, 1.0)
    code, out, _ = inferforge("judge", "main", "ci-7", "--save")
    assert code == 0, out
    assert "verdict: green" in out
    (saved,) = [s for s in baseline.load("main") if s.id == "ci-7"]
    assert saved.complete
    assert saved.accepted
    assert [t.nodeid for t in saved.tests] == [A, B, C]
    code, _, err = inferforge("judge", "main", "ci-7", "--save")
    assert code == 2
    assert "is in baseline main already" in err


def test_a_red_session_is_saved_but_no_reference(shards, baseline, inferforge):
    shards(1.0, 1.0, 1.2)
    code, out, _ = inferforge("judge", "main", "ci-7", "--save")
    assert code == 1
    assert "not accepted as a reference" in out
    assert [s.accepted for s in baseline.load("main") if s.id == "ci-7"] == [False]


def test_a_shard_that_is_missing_is_named_and_makes_the_session_a_part(shards, baseline, inferforge):
    shards(1.0, 1.0)
    code, out, _ = inferforge("judge", "main", "ci-7", "--save")
    assert code == 0
    assert f"1 baseline not exercised: {C}" in out
    assert [s.complete for s in baseline.load("main") if s.id == "ci-7"] == [False]


def test_under_the_strict_policy_a_missing_test_is_red(shards, inferforge):
    shards(1.0, 1.0)
    code, out, _ = inferforge("judge", "main", "ci-7", "--policy", "strict")
    assert code == 1
    assert "baselines not exercised" in out.partition("verdict: red")[2]
    assert inferforge("judge", "main", "ci-7", "--policy", "observe")[0] == 0


def test_a_renamed_test_is_pointed_out(shards, inferforge):
    shards(1.0, 1.0, 1.0, nodeids=(A, B, "test_a.py::test_long_prompts"))
    _, out, _ = inferforge("judge", "main", "ci-7")
    assert f"test_a.py::test_long_prompts has no baseline; renamed from {C}?" in out


def test_the_user_may_say_that_it_is_the_whole(shards, baseline, inferforge):
    shards(1.0, 1.0)
    inferforge("judge", "main", "ci-7", "--save", "--complete")
    assert [s.complete for s in baseline.load("main") if s.id == "ci-7"] == [True]


def test_shards_of_two_machines_are_each_judged_by_their_own_conditions(shards, baseline, inferforge):
    shards(1.0, 1.0)
    shards(1.2, nodeids=(C,), hard={"gpu": "L4"})
    code, out, _ = inferforge("judge", "main", "ci-7", "--save")
    assert code == 0
    assert "2 incomparable" in out
    assert "gpu: H100 -> L4" in out
    (saved,) = [s for s in baseline.load("main") if s.id == "ci-7"]
    assert {t.nodeid: t.fingerprint.hard.get("gpu") for t in saved.tests} == {A: "H100", B: "H100", C: "L4"}


def test_a_test_in_two_shards_counts_once(shards, inferforge):
    shards(1.0, 1.0, 1.2)
    shards(1.0, nodeids=(C,), day=25)  # again, until it looked better
    code, out, _ = inferforge("judge", "main", "ci-7")
    assert code == 1
    assert f"{C} is in several shards: the first one started counts" in out


def test_a_shard_that_was_red_by_itself_makes_the_session_red(shards, baseline, inferforge):
    shards(1.0, 1.0)
    shards(1.0, nodeids=(C,), accepted=False)
    code, out, _ = inferforge("judge", "main", "ci-7", "--save")
    assert code == 1
    assert "a shard was red by itself" in out
    assert [s.accepted for s in baseline.load("main") if s.id == "ci-7"] == [False]


def test_the_first_days_record_and_what_judged_nothing_is_red(store, make_session, inferforge):
    store.save_shard("new", make_session("d1"))
    code, _, err = inferforge("judge", "new", "d1")
    assert code == 2
    assert "unknown baseline" in err
    code, out, _ = inferforge("judge", "new", "d1", "--save", "--complete")
    assert code == 0, out
    assert len(store.load("new")) == 1
    store.save_shard("new", make_session("d2"))
    code, out, _ = inferforge("judge", "new", "d2")
    assert code == 1
    assert "nothing could be compared" in out


def test_an_id_without_shards_is_a_usage_error(baseline, inferforge):
    code, _, err = inferforge("judge", "main", "ci-8")
    assert code == 2
    assert "run its parts with --infer-session-id=ci-8 --infer-save=main" in err
