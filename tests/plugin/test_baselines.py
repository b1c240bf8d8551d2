"""Save, compare, go red: the gate as pytest items, on a server whose speed is set."""

import shutil
import subprocess

import pytest

from pytest_inferforge.codec import decode_session
from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

# A closed loop over two seconds: what is gated are means, which a short stall of this machine moves little.
CHAT = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 8", requests=128, prompt_tokens=16, output_tokens=8)
    def test_chat(infer_run):
        pass
"""
TWO = """
    import pytest
    pytestmark = pytest.mark.infer_workload(
        arrivals="closed 8", requests=24, prompt_tokens=16, output_tokens=8)

    def test_one(infer_run): pass

    @pytest.mark.parametrize("size", ["s", "l"])
    def test_two(infer_run, size): pass
"""
FAST = {"ttft_s": 0.05, "gap_s": 0.01}
SLOW = {"ttft_s": 0.1, "gap_s": 0.02}


@pytest.fixture(scope="session")
def stored(tmp_path_factory, calm):
    """Three sessions of CHAT stored as `main`: their folder, and the URL of their server."""
    suite = Suite(tmp_path_factory.mktemp("stored"))
    suite.write("pytest.ini", "[pytest]\n")
    suite.write("inferforge.toml", calm)
    suite.write("test_a.py", CHAT)
    with TimetableServer(Timetable(**FAST)) as server:
        for _ in range(3):
            done = suite.run(f"--infer-url={server.url}", "--infer-save=main")
            assert done.exit_code == 0, done.output
        yield suite.folder / ".inferforge", server.url


@pytest.fixture
def baseline(suite, stored):
    """A copy of the stored sessions in this suite; returns the URL of their server."""
    folder, url = stored
    suite.write("test_a.py", CHAT)
    shutil.copytree(folder, suite.folder / ".inferforge")
    return url


def comparisons(done):
    return {(c["nodeid"], c["metric"]): c["verdict"] for c in done.document["comparisons"]}


def test_an_unchanged_fourth_session_is_green_and_says_why(suite, baseline):
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=main")
    assert done.exit_code == 0, done.output
    assert done.outcomes == {"test_a.py::test_chat": "passed", "test_a.py::test_chat.regression": "passed"}
    found = comparisons(done)
    assert set(found) == {("test_a.py::test_chat", m) for m in ("output_tok_per_s", "tpot_s.mean")}
    assert set(found.values()) <= {"not_regressed", "inconclusive"}
    assert all(c["reason"] for c in done.document["comparisons"])
    assert "baseline main: 3 sessions" in done.output
    assert "smallest change for the worse that this session can see" in done.output


def test_a_slower_server_is_red_as_an_item_of_its_own(suite, timetable, baseline):
    done = suite.run(f"--infer-url={timetable(**SLOW)}", "--infer-compare=main", "--infer-save=main")
    assert done.exit_code == 1
    assert done.outcomes == {"test_a.py::test_chat": "passed", "test_a.py::test_chat.regression": "failed"}
    assert done.counts["failures"] == 1
    message = done.failures["test_a.py::test_chat.regression"]
    assert "worse than baseline:main" in message
    assert "regressed" in message
    assert comparisons(done)["test_a.py::test_chat", "output_tok_per_s"] == "regressed"
    # a red session is stored, but is no reference
    stored = sorted((suite.folder / ".inferforge/baselines/main").glob("*.json"))
    accepted = [decode_session(p.read_bytes(), where=str(p)).accepted for p in stored]
    assert accepted == [True, True, True, False]


def test_selection_works_as_pytest_users_know_it(suite, timetable, baseline):
    slow = f"--infer-url={timetable(**SLOW)}"
    without = suite.run(slow, "--infer-compare=main", "-k", "not regression")
    assert without.exit_code == 0
    assert without.outcomes == {"test_a.py::test_chat": "passed"}
    assert "2 comparisons of the baseline not selected" in without.output

    alone = suite.run(slow, "--infer-compare=main", "test_a.py::test_chat.regression")
    assert alone.exit_code == 1
    assert alone.outcomes == {"test_a.py::test_chat.regression": "failed"}
    assert alone.document["tests"][0]["boots"][0]["requests"]["issued"] == 128

    last_failed = suite.run(slow, "--infer-compare=main", "--lf")
    assert last_failed.outcomes == {"test_a.py::test_chat.regression": "failed"}

    failed_first = suite.run(slow, "--infer-compare=main", "--ff")
    assert list(failed_first.outcomes) == ["test_a.py::test_chat", "test_a.py::test_chat.regression"]

    deselected = suite.run(slow, "--infer-compare=main", "--deselect=test_a.py::test_chat.regression")
    assert deselected.outcomes == {"test_a.py::test_chat": "passed"}


def test_observing_warns_only(suite, timetable, baseline):
    done = suite.run(f"--infer-url={timetable(**SLOW)}", "--infer-compare=main", "--infer-policy=observe")
    assert done.exit_code == 0
    assert "InferforgeWarning" in done.output
    assert done.document["session"]["verdict"] == "observed"


def test_parametrized_tests_keep_their_ids_and_come_last(suite, timetable):
    suite.write("test_a.py", TWO)
    url = timetable()
    done = suite.run(f"--infer-url={url}", "--infer-compare=main", "--infer-missing=record", "-v")
    assert done.exit_code == 0, done.output
    order = [
        line.split()[0]
        for line in done.output.splitlines()
        if line.startswith("test_a.py::") and "%]" in line
    ]
    assert order == [
        f"test_a.py::{name}"
        for name in (
            "test_one", "test_two[s]", "test_two[l]",
            "test_one.regression", "test_two.regression[s]", "test_two.regression[l]",
        )
    ]  # fmt: skip
    one = suite.run(f"--infer-url={url}", "--infer-compare=main", "--infer-missing=record",
                    "test_a.py::test_two.regression[l]")  # fmt: skip
    assert list(one.outcomes) == ["test_a.py::test_two.regression[l]"]


def test_the_first_days_record_and_then_judge(suite, timetable):
    suite.write("test_a.py", CHAT)
    url = timetable(**FAST)
    runs = [
        suite.run(f"--infer-url={url}", "--infer-compare=main", "--infer-missing=record") for _ in range(4)
    ]
    assert [r.exit_code for r in runs] == [0, 0, 0, 0]
    assert all(v == "no_baseline" for r in runs[:3] for v in comparisons(r).values())
    assert all(v in ("not_regressed", "inconclusive") for v in comparisons(runs[3]).values())
    assert len(list((suite.folder / ".inferforge/baselines/main").glob("*.json"))) == 3


def test_a_gate_that_judged_nothing_is_red(suite, timetable):
    suite.write("test_a.py", CHAT)
    url = timetable()
    suite.run(f"--infer-url={url}", "--infer-save=main")
    done = suite.run(f"--infer-url={url}", "--infer-compare=main")
    assert done.exit_code == 1
    assert "nothing could be compared with baseline:main" in done.failures["test_a.py::test_chat.regression"]
    assert set(comparisons(done).values()) == {"no_baseline"}


def test_two_sessions_still_see_a_gross_loss(suite, timetable):
    suite.write("test_a.py", CHAT)
    url = timetable(**FAST)
    for _ in range(2):
        suite.run(f"--infer-url={url}", "--infer-save=main")
    done = suite.run(f"--infer-url={timetable(**SLOW)}", "--infer-compare=main")
    assert done.exit_code == 1
    assert "gross" in done.failures["test_a.py::test_chat.regression"]


def test_another_workload_is_incomparable(suite, baseline):
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=main", "--infer-workload", "seed=9")
    assert done.exit_code == 1
    assert set(comparisons(done).values()) == {"incomparable"}
    assert "workload" in done.failures["test_a.py::test_chat.regression"]


def test_a_broken_baseline_file_is_named_and_left_alone(suite, baseline):
    path = min((suite.folder / ".inferforge/baselines/main").glob("*.json"))
    path.write_text("{")
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=main")
    assert done.exit_code == 4
    assert path.name in done.output
    assert path.read_text() == "{"


def test_named_loads_are_gated_and_run_their_body_alone(suite, timetable):
    suite.write(
        "test_a.py",
        """
        def test_ramp(infer_load):
            arguments = dict(requests=60, prompt_tokens=16, output_tokens=4)
            infer_load(arrivals="poisson 100 req/s", name="chat", **arguments)
            infer_load(arrivals="poisson 200 req/s", **arguments)

        def test_unnamed(infer_load):
            infer_load(arrivals="closed 2", requests=10, prompt_tokens=16, output_tokens=4)
        """,
    )
    url = timetable()
    for _ in range(3):
        assert suite.run(f"--infer-url={url}", "--infer-save=main").exit_code == 0
    done = suite.run(f"--infer-url={timetable(**SLOW)}", "--infer-compare=main")
    assert done.outcomes == {
        "test_a.py::test_ramp": "passed", "test_a.py::test_unnamed": "passed",
        "test_a.py::test_ramp.regression": "failed", "test_a.py::test_unnamed.regression": "skipped",
    }  # fmt: skip
    named = {(c["nodeid"], c["name"]) for c in done.document["comparisons"]}
    assert named == {("test_a.py::test_ramp", "chat")}
    alone = suite.run(
        f"--infer-url={timetable(**SLOW)}", "--infer-compare=main", "test_a.py::test_ramp.regression"
    )
    assert alone.outcomes == {"test_a.py::test_ramp.regression": "failed"}
    assert "worse than baseline:main" in alone.output


def test_comparisons_alone_execute_all_bodies_before_the_family_is_judged(suite, timetable):
    suite.write(
        "test_a.py",
        """
        arguments = dict(arrivals="closed 4", requests=24, prompt_tokens=16, output_tokens=8)

        def test_one(infer_load): infer_load(name="a", **arguments)
        def test_two(infer_load): infer_load(name="b", **arguments)
        def test_three(infer_load): assert False, "before anything was measured"
        """,
    )
    url = timetable(**FAST)
    for _ in range(3):
        suite.run(f"--infer-url={url}", "--infer-save=main", "--deselect=test_a.py::test_three")
    done = suite.run(f"--infer-url={timetable(**SLOW)}", "--infer-compare=main", "-k", "regression")
    assert done.outcomes == {
        f"test_a.py::test_{name}.regression": "failed" for name in ("one", "two", "three")
    }
    assert "before anything was measured" in done.failures["test_a.py::test_three.regression"]
    both = suite.run(f"--infer-url={url}", "--infer-compare=main", "-k", "three")
    assert both.outcomes["test_a.py::test_three.regression"] == "skipped"


def test_a_session_that_cannot_be_saved_is_red_and_loses_no_document(suite, timetable):
    suite.write("test_a.py", TWO)
    suite.write(".inferforge/baselines", "a file where a folder should be")
    done = suite.run(f"--infer-url={timetable()}", "--infer-save=main")
    assert done.exit_code == 1
    assert "this session could not be saved" in done.output
    assert len(done.document["tests"]) == 3
    assert "Traceback" not in done.output


def test_saving_from_a_dirty_tree_or_another_branch_is_said(suite, timetable):
    suite.write("test_a.py", TWO)
    url = timetable()

    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *words], cwd=suite.folder, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", "test_a.py")
    git("commit", "-m", "a")
    clean = suite.run(f"--infer-url={url}", "--infer-save=main", "-k", "one")
    assert "warning: saved from" not in clean.output
    git("checkout", "-b", "feature")
    suite.write("test_a.py", TWO + "\n")
    dirty = suite.run(f"--infer-url={url}", "--infer-save=main", "-k", "one")
    assert "saved from a tree with uncommitted changes" in dirty.output
    assert "saved from branch feature; the session before it came from main" in dirty.output


def test_async_tests_have_their_regression_too(suite, timetable):
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.mark.asyncio
        async def test_hand(infer_load):
            run = await infer_load.go(
                arrivals="poisson 100 req/s", requests=60, prompt_tokens=16, output_tokens=4, name="hand")
            assert run.metrics["error_ratio"] == 0
        """,
    )
    url = timetable()
    for _ in range(3):
        assert suite.run(f"--infer-url={url}", "--infer-save=main").exit_code == 0
    done = suite.run(
        f"--infer-url={timetable(**SLOW)}", "--infer-compare=main", "test_a.py::test_hand.regression"
    )
    assert done.outcomes == {"test_a.py::test_hand.regression": "failed"}


def test_regression_items_inherit_skips_but_neither_xfail_nor_fixtures(suite, timetable):
    suite.write(
        "test_a.py",
        """
        import pytest
        W = pytest.mark.infer_workload(arrivals="closed 2", requests=30, prompt_tokens=16, output_tokens=4)

        @pytest.fixture(autouse=True)
        def noisy(request):
            assert not request.node.name.endswith(".regression")

        @W
        @pytest.mark.skip(reason="not today")
        def test_skipped(infer_run): pass

        @W
        @pytest.mark.xfail(reason="known", strict=True)
        def test_known(infer_run): assert False
        """,
    )
    done = suite.run(f"--infer-url={timetable()}", "--infer-compare=main", "--infer-missing=record")
    assert done.outcomes == {
        "test_a.py::test_skipped": "skipped", "test_a.py::test_known": "skipped",  # xfailed
        "test_a.py::test_skipped.regression": "skipped", "test_a.py::test_known.regression": "passed",
    }, done.output  # fmt: skip


def test_every_server_of_a_suite_is_gated(suite):
    suite.write(
        "test_a.py",
        """
        import pytest
        pytestmark = pytest.mark.infer_workload(
            arrivals="closed 2", requests=8, prompt_tokens=16, output_tokens=4)

        @pytest.mark.infer_server(max_num_seqs=2)
        def test_two(infer_run): pass

        @pytest.mark.infer_server(max_num_seqs=3)
        def test_three(infer_run): pass
        """,
    )
    for _ in range(3):
        assert suite.run("--infer-backend=llama.cpp", "--infer-save=main").exit_code == 0
    done = suite.run("--infer-backend=llama.cpp", "--infer-compare=main")
    judged = {"not_regressed", "improved", "inconclusive", "regressed"}
    found = comparisons(done)
    assert len(found) == 4
    assert set(found.values()) <= judged


def test_a_new_test_in_an_old_baseline_only_warns(suite, baseline):
    suite.write("test_b.py", CHAT.replace("test_chat", "test_new"))
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=main")
    assert done.outcomes["test_b.py::test_new.regression"] == "passed"
    assert "test_b.py::test_new output_tok_per_s against baseline:main: no_baseline" in done.output


def test_xdist_is_refused_for_comparisons_too(suite, baseline):
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=main", "-n1")
    assert set(done.outcomes.values()) <= {"error", "failed"}
    assert "do not run under pytest-xdist" in done.failures["test_a.py::test_chat.regression"]


def test_a_part_of_the_suite_is_stored_as_incomplete(suite, timetable):
    suite.write("test_a.py", TWO)
    suite.run(f"--infer-url={timetable()}", "--infer-save=main", "test_a.py::test_one")
    (path,) = (suite.folder / ".inferforge/baselines/main").glob("*.json")
    assert not decode_session(path.read_bytes(), where=str(path)).complete
