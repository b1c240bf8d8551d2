"""Several pytest runs that are one session: stored as shards, judged by `inferforge judge`."""

import json

import pytest

from pytest_inferforge import cli
from pytest_inferforge.baselines import open_store

SUITE = """
    import pytest
    pytestmark = pytest.mark.infer_workload(
        arrivals="closed 8", requests=48, prompt_tokens=16, output_tokens=8)

    def test_one(infer_run): pass

    def test_two(infer_run): pass
"""
FAST = {"ttft_s": 0.05, "gap_s": 0.01}
SLOW = {"ttft_s": 0.1, "gap_s": 0.02}
SHARD = ("--infer-save=main", "--infer-session-id=ci-7")


@pytest.fixture
def store(suite):
    suite.write("test_a.py", SUITE)
    return open_store(suite.folder / ".inferforge")


def test_the_shards_of_a_matrix_become_one_session(suite, store, timetable, multiply, monkeypatch, capsys):
    url = timetable(**FAST)
    for name in ("one", "two"):
        done = suite.run(f"--infer-url={url}", *SHARD, f"test_a.py::test_{name}")
        assert done.exit_code == 0, done.output
        assert "saved as a shard of session ci-7 for baseline main" in done.output
        assert "inferforge judge main ci-7" in done.output
        assert done.document["session"]["id"] == "ci-7"
    assert store.names() == ()
    assert all(shard.complete for shard in store.shards("main", "ci-7"))
    assert len(list((suite.folder / ".inferforge/runs").glob("2*"))) == 2  # each has rows and logs of its own
    assert (suite.folder / ".inferforge/shards/.gitignore").read_text() == "*\n"
    monkeypatch.chdir(suite.folder)
    assert cli.main(["judge", "main", "ci-7", "--save", "--complete"]) == 0
    (session,) = store.load("main")
    assert (session.id, session.complete, session.accepted) == ("ci-7", True, True)
    assert {t.nodeid for t in session.tests} == {"test_a.py::test_one", "test_a.py::test_two"}

    multiply(store, "main", 4)
    slow = (f"--infer-url={timetable(**SLOW)}", "--infer-save=main", "--infer-session-id=ci-8")
    done = suite.run(*slow, "--infer-compare=main", "test_a.py::test_one", "test_a.py::test_one.regression")
    assert done.outcomes["test_a.py::test_one.regression"] == "failed"
    (found,) = [c for c in done.document["comparisons"] if c["metric"] == "tpot_s.mean"]
    assert found["p_adjusted"] > 3.9 * found["p"]  # by the family of the whole suite: four comparisons
    capsys.readouterr()
    assert cli.main(["judge", "main", "ci-8", "--json", "out.json"]) == 1
    said = capsys.readouterr().out
    assert "1 baseline not exercised: test_a.py::test_two" in said
    assert "a shard was red by itself" in said
    document = json.loads((suite.folder / "out.json").read_text())
    assert {c["verdict"] for c in document["comparisons"]} == {"regressed"}


def test_a_shard_that_could_not_measure_all_it_selected_is_no_whole_one(suite, store, timetable):
    suite.write(
        "test_b.py",
        """
        import pytest

        @pytest.mark.infer_workload(arrivals="closed 8", requests=48, prompt_tokens=16, output_tokens=8)
        @pytest.mark.infer_slo("ttft p99 < 1 s")  # cannot be shown with so few
        def test_hopeless(infer_run): pass
        """,
    )
    done = suite.run(f"--infer-url={timetable()}", *SHARD, "-k", "one or hopeless")
    assert done.outcomes["test_b.py::test_hopeless"] == "error"
    (shard,) = store.shards("main", "ci-7")
    assert [t.nodeid for t in shard.tests] == ["test_a.py::test_one"]
    assert (shard.complete, shard.accepted) == (False, False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--infer-session-id=ci-7",), "--infer-session-id=ci-7 without --infer-save"),
        (("--infer-session-id=../ci", "--infer-save=main"), "session id cannot be used for a file"),
    ],
)
def test_what_can_be_no_shard_is_refused(suite, store, arguments, told):
    done = suite.run("--infer-url=http://127.0.0.1:9", *arguments)
    assert done.exit_code == 4
    assert told in done.output
