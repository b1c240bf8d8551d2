"""`inferforge baseline`: what is said, what is kept, and that stored sessions stay as they are."""

import dataclasses
import json
import subprocess
import sys

import pytest

from pytest_inferforge import cli
from pytest_inferforge.baselines import open_store

A, B = "test_a.py::test_chat", "test_a.py::test_batch"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return open_store(tmp_path / ".inferforge")


@pytest.fixture
def baseline(store, make_session):
    """Twelve sessions, a day apart; the fifth was red, the last has but one of the two tests."""
    both = {A: {"tpot_s.mean": 0.01, "ttft_s.p50": 0.1}, B: {"output_tok_per_s": 100.0}}
    for k in range(1, 13):
        session = make_session(
            f"s{k:02d}",
            day=k,
            tests=both if k < 12 else {A: both[A]},
            complete=k < 12,
            accepted=k != 5,
            source={"commit": f"{k:02d}abcdef0123456789", "branch": "main", "dirty": "false"},
        )
        store.save("main", session)
    return store


@pytest.fixture
def inferforge(capsys):
    def run(*arguments):
        code = cli.main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def files(store):
    return {p: p.read_bytes() for p in store.run_folder("x").parents[1].rglob("*.json")}


def row(text, word):
    return next(line for line in text.splitlines() if line.startswith(word)).split()


def test_the_first_day_is_told_how_to_begin(store, inferforge):
    code, out, _ = inferforge("baseline", "list")
    assert code == 0
    assert "--infer-save=NAME" in out


def test_list(baseline, make_session, inferforge):
    baseline.save("other", make_session("o1", day=20))
    assert inferforge("baseline", "pin", "main", "--last", "3", "--reason", "v1")[0] == 0
    _, out, _ = inferforge("baseline", "list")
    assert row(out, "main") == [
        "main", "12", "11", "2026-01-01", "03:00", "2026-01-12", "03:00", "3"
    ]  # fmt: skip
    assert row(out, "other")[-1] == "-"


def test_show_says_of_each_session_whether_it_is_accepted_and_why(baseline, inferforge):
    inferforge("baseline", "reject", "main", "s03", "--reason", "the fan was broken")
    _, out, _ = inferforge("baseline", "show", "main")
    assert row(out, "s01") == ["s01", "2026-01-01", "03:00", "01abcdef01", "main", "no", "2", "yes"]
    assert " ".join(row(out, "s05")).endswith("no: it was red when it was measured")
    assert " ".join(row(out, "s03")).partition("no: rejected by ")[2].endswith(": the fan was broken")
    assert "1 (a part)" in " ".join(row(out, "s12"))


def test_show_a_session_has_its_gated_metrics_or_all(baseline, inferforge):
    code, out, _ = inferforge("baseline", "show", "main", "s01")
    assert code == 0
    assert row(out, A) == [A, "tpot_s.mean", "10", "ms", "1"]
    assert row(out, B) == [B, "output_tok_per_s", "100", "tok/s", "1"]
    assert "ttft_s.p50" not in out
    assert "ttft_s.p50" in inferforge("baseline", "show", "main", "s01", "--all")[1]


def test_accepting_and_rejecting_change_no_session(baseline, inferforge):
    before = files(baseline)
    code, out, _ = inferforge("baseline", "accept", "main", "s05", "--reason", "a known slow kernel, meant")
    assert code == 0
    assert "accepted s05 in baseline main" in out
    assert inferforge("baseline", "reject", "main", "s06", "--reason", "hot day")[0] == 0
    accepted = {s.id: s.accepted for s in baseline.load("main")}
    assert accepted["s05"]
    assert not accepted["s06"]
    after = files(baseline)
    assert {path: after[path] for path in before} == before
    decisions = [json.loads(content) for path, content in after.items() if path not in before]
    assert {d["decision"]: (d["sessions"], d["reason"]) for d in decisions} == {
        "accept": (["s05"], "a known slow kernel, meant"), "reject": (["s06"], "hot day"),
    }  # fmt: skip
    assert inferforge("baseline", "accept", "main", "s06", "--reason", "no, it was not")[0] == 0
    assert {s.id: s.accepted for s in baseline.load("main")}["s06"]


def test_pinning_takes_the_newest_accepted_ones_or_those_that_are_named(baseline, inferforge):
    inferforge("baseline", "pin", "main", "--reason", "release 1")
    assert [s.id for s in baseline.pinned("main")] == [f"s{k:02d}" for k in range(2, 13) if k != 5]
    inferforge("baseline", "pin", "main", "--last", "2", "--reason", "release 2")
    assert [s.id for s in baseline.pinned("main")] == ["s11", "s12"]
    code, out, _ = inferforge("baseline", "pin", "main", "s01", "s03", "--reason", "release 3")
    assert code == 0
    assert "pinned 2 sessions of baseline main" in out
    assert [s.id for s in baseline.pinned("main")] == ["s01", "s03"]
    assert "release 3" in inferforge("baseline", "show", "main")[1]
    assert inferforge("baseline", "unpin", "main")[0] == 0
    assert baseline.pinned("main") == ()
    assert "has no pinned sessions" in inferforge("baseline", "unpin", "main")[1]


def test_pruning_says_first_and_keeps_what_is_needed(baseline, inferforge):
    inferforge("baseline", "pin", "main", "s02", "--reason", "release")
    code, out, _ = inferforge("baseline", "prune", "main", "--keep", "3")
    assert code == 0
    assert "8 of 12 sessions would be removed; with --yes they are" in out
    assert len(baseline.load("main")) == 12
    assert "8 of 12 sessions removed" in inferforge("baseline", "prune", "main", "--keep", "3", "--yes")[1]
    assert [s.id for s in baseline.load("main")] == ["s02", "s10", "s11", "s12"]
    assert "nothing to remove" in inferforge("baseline", "prune", "main", "--keep", "3", "--yes")[1]


def test_pruning_keeps_the_newest_complete_session(baseline, inferforge):
    inferforge("baseline", "prune", "main", "--keep", "1", "--yes")
    assert [s.id for s in baseline.load("main")] == ["s11", "s12"]


def test_pruning_by_age_keeps_what_is_younger(baseline, make_session, inferforge):
    young = make_session("young", accepted=False, started_at="2999-01-01T00:00:00+00:00")
    baseline.save("main", young)
    baseline.save("main", dataclasses.replace(young, id="z", accepted=True))
    assert "13 of 14 sessions" in inferforge("baseline", "prune", "main", "--keep", "1")[1]
    _, out, _ = inferforge("baseline", "prune", "main", "--keep", "1", "--older-than", "1d")
    assert "12 of 14 sessions" in out
    assert "young" not in out


def test_diff(baseline, make_session, inferforge):
    other = make_session(
        "t01", day=20, hard={"gpu": "H100"}, tests={A: {"tpot_s.mean": 0.02}, "test_a.py::test_new": {}}
    )
    baseline.save("main", other)
    code, out, _ = inferforge("baseline", "diff", "main", "s01", "t01")
    assert code == 0
    assert row(out, "hard") == ["hard", "gpu", "(absent)", "H100", A]
    assert f"only in s01: {B}" in out
    assert "only in t01: test_a.py::test_new" in out
    assert row(out, A) == [A, "tpot_s.mean", "(gated)", "10", "ms", "20", "ms", "2"]


def test_a_session_that_a_run_had_to_leave_is_added(baseline, store, make_session, tmp_path, inferforge):
    kept = store.keep(make_session("left", day=25), "left")
    code, out, _ = inferforge("baseline", "add", "main", str(kept))
    assert code == 0
    assert "added to baseline main" in out
    assert baseline.load("main")[-1].id == "left"
    code, _, err = inferforge("baseline", "add", "main", str(kept))
    assert code == 2
    assert "is in baseline main already" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "mian"), "did you mean main?"),
        (("show", "main", "s99"), "did you mean s09"),
        (("show", "main", "s1"), "more than one session of baseline main begins so"),
        (("accept", "main", "s01", "--reason", " "), "a decision needs a reason"),
        (("accept", "main", "nothing", "--reason", "x"), "has no such session"),
        (("pin", "main", "s05", "--reason", "x"), "a session that is not accepted is no reference"),
        (("pin", "main", "s01", "--last", "2", "--reason", "x"), "--last takes the place of sessions"),
        (("pin", "main", "--last", "0", "--reason", "x"), "there is nothing to pin"),
        (("prune", "main", "--keep", "0"), "a baseline keeps at least one session"),
        (("prune", "main", "--keep", "3", "--older-than", "soon"), "this is no age"),
        (("show", "../main"), "cannot be used for a file"),
        (("list", "--store", "s4://x/y"), "this is no place for a store"),
    ],
)
def test_wrong_words_are_usage_errors_and_change_nothing(baseline, inferforge, arguments, told):
    before = files(baseline)
    code, _, err = inferforge("baseline", *arguments)
    assert code == 2
    assert told in err
    assert files(baseline) == before


@pytest.mark.parametrize("arguments", [("accept", "main", "s01"), ("pin", "main"), ("prune", "main"), ()])
def test_what_is_left_out_is_a_usage_error(baseline, inferforge, arguments):
    with pytest.raises(SystemExit) as error:
        inferforge("baseline", *arguments)
    assert error.value.code == 2


def test_it_is_a_program_and_reads_the_projects_file(baseline, tmp_path):
    (tmp_path / ".inferforge").rename(tmp_path / "elsewhere")
    (tmp_path / "inferforge.toml").write_text('store = "elsewhere"\n')
    done = subprocess.run(
        [sys.executable, "-m", "pytest_inferforge.cli", "baseline", "list"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert row(done.stdout, "main")[1] == "12"


def test_a_bucket_is_kept_by_the_same_commands(s3, store, make_session, inferforge):
    url = f"s3://{s3.bucket}/x"
    open_store(url).save("main", make_session("s01"))
    assert inferforge("baseline", "reject", "main", "s01", "--reason", "r", "--store", url)[0] == 0
    assert "rejected" in inferforge("baseline", "show", "main", "--store", url)[1]
    assert len(s3.contents()) == 2
