"""What users of benchmark plugins have been let down by, each as a test here.

The failures are pytest-benchmark's, as its users reported them: what it stores and compares is the newest
run, whatever came of it; benchmarks are matched by name; a regression is raised while the summary is
written; and machines are told apart by what Python's `platform` says.
"""

import dataclasses
import shutil

import pytest

from pytest_inferforge.baselines import open_store
from pytest_inferforge.records import Fingerprint
from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

SUITE = """
    import pytest
    pytestmark = pytest.mark.infer_workload(
        arrivals="closed 8", requests=48, prompt_tokens=16, output_tokens=8)

    def test_chat(infer_run): pass

    def test_batch(infer_run): pass
"""
FAST = {"ttft_s": 0.05, "gap_s": 0.01}
SLOW = {"ttft_s": 0.1, "gap_s": 0.02}
CHAT, BATCH = "test_a.py::test_chat", "test_a.py::test_batch"


@pytest.fixture(scope="module")
def stored(tmp_path_factory, calm, multiply):
    """Five sessions of both tests on a fast server: their folder, and its URL."""
    suite = Suite(tmp_path_factory.mktemp("stored"))
    suite.write("pytest.ini", "[pytest]\n")
    suite.write("inferforge.toml", calm)
    suite.write("test_a.py", SUITE)
    with TimetableServer(Timetable(**FAST)) as server:
        done = suite.run(f"--infer-url={server.url}", "--infer-save=main")
        assert done.exit_code == 0, done.output
        multiply(open_store(suite.folder / ".inferforge"), "main", 4)
        yield suite.folder / ".inferforge", server.url


@pytest.fixture
def store(suite):
    return open_store(suite.folder / ".inferforge")


@pytest.fixture
def baseline(suite, stored):
    """A copy of them in this suite; returns the URL of their server."""
    folder, url = stored
    suite.write("test_a.py", SUITE)
    shutil.copytree(folder, suite.folder / ".inferforge")
    return url


def test_a_regressed_run_does_not_become_the_baseline(suite, baseline, timetable, store):
    """Failure: a run that regressed was saved, so the next one was compared with it and was green."""
    slow = f"--infer-url={timetable(**SLOW)}"
    for attempt in range(2):
        done = suite.run(slow, "--infer-compare=main", "--infer-save=main")
        assert done.exit_code == 1, f"attempt {attempt}: {done.output}"
        assert done.outcomes[f"{CHAT}.regression"] == "failed"
    accepted = [session.accepted for session in store.load("main")]
    assert accepted == [True] * 5 + [False] * 2


def test_a_renamed_test_does_not_vanish_silently(suite, baseline):
    """Failure: a renamed benchmark was compared with nothing, and nobody was told that one was missing."""
    suite.write("test_a.py", SUITE.replace("test_batch", "test_batches"))
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=main")
    assert f"1 baseline not exercised: {BATCH}" in done.output
    assert f"test_a.py::test_batches has no baseline; renamed from {BATCH}?" in done.output
    assert done.document["session"]["not_exercised"] == [BATCH]
    assert "strict policy" not in done.output


def test_a_removed_test_is_red_under_the_strict_policy_though_all_items_pass(suite, baseline, store):
    """Failure: a benchmark that was removed, or skipped, took its regression with it."""
    suite.write("test_a.py", SUITE.partition("def test_batch")[0])
    asked = (f"--infer-url={baseline}", "--infer-compare=main", "--infer-policy=strict", "--infer-save=main")
    part = suite.run(*asked, "-k", "not regression")
    assert (part.exit_code, part.document["session"]["not_exercised"]) == (0, [])  # a selection was asked for
    assert not store.load("main")[-1].complete
    suite.write(
        "conftest.py",
        """
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(items):  # as if the comparison were green
            items[:] = [item for item in items if "regression" not in item.name]
        """,
    )
    done = suite.run(*asked)
    assert done.outcomes == {CHAT: "passed"}
    assert done.exit_code == 1
    assert f"1 baseline not exercised: {BATCH} (the strict policy fails the session for it)" in done.output
    assert done.document["session"]["verdict"] == "fail"
    assert not store.load("main")[-1].accepted


def test_a_path_that_is_asked_for_misses_nothing_outside_of_it(suite, baseline, store, multiply):
    """The other side: who runs one file is not told of the others, and stores no complete session."""
    suite.write("other/test_b.py", SUITE)
    both = suite.run(f"--infer-url={baseline}", "--infer-save=wide")
    assert both.exit_code == 0, both.output
    assert store.load("wide")[-1].complete
    multiply(store, "wide", 3)
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=wide", "--infer-save=wide", "test_a.py")
    assert done.document["session"]["not_exercised"] == []
    assert "not exercised" not in done.output
    part = max(store.load("wide"), key=lambda s: s.started_at)
    assert len(part.tests) == 2
    assert not part.complete
    suite.write("other/test_b.py", "")
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=wide", "test_a.py", "other")
    assert done.document["session"]["not_exercised"] == [
        "other/test_b.py::test_chat",
        "other/test_b.py::test_batch",
    ]


def test_junit_counts_the_regression(suite, baseline, timetable):
    """Failure: the exception came after the last test, so the report said failures="0" and CI was green."""
    one = suite.run(f"--infer-url={timetable(**SLOW)}", "--infer-compare=main", "-k", "chat")
    assert one.exit_code == 1
    assert one.counts == {"tests": 2, "failures": 1, "errors": 0, "skipped": 0}
    assert list(one.failures) == [f"{CHAT}.regression"]
    assert "Traceback" not in one.output


def test_two_gpus_are_two_machines(suite, baseline, store, multiply):
    """Failure: a machine was its CPU and its Python; a run on another GPU was compared with the old one's."""
    done = suite.run(f"--infer-url={baseline}", "--infer-save=keyed", "--infer-key=gpu=H100", "-k", "chat")
    assert done.exit_code == 0, done.output
    multiply(store, "keyed", 3)
    same = suite.run(f"--infer-url={baseline}", "--infer-compare=keyed", "--infer-key=gpu=H100", "-k", "chat")
    assert verdicts(same).isdisjoint({"incomparable", "no_baseline"})
    other = suite.run(f"--infer-url={baseline}", "--infer-compare=keyed", "--infer-key=gpu=L4", "-k", "chat")
    assert verdicts(other) == {"incomparable"}
    assert "gpu: H100 -> L4" in other.failures[f"{CHAT}.regression"]
    assert other.exit_code == 1


def test_two_engines_are_two_machines(suite, baseline, store):
    """Failure: the same benchmark on another engine was the same benchmark."""
    for session in store.load("main"):
        tests = tuple(
            dataclasses.replace(
                test, fingerprint=test.fingerprint.merged(Fingerprint(identity={"engine": "sglang"}))
            )
            for test in session.tests
        )
        store.save("other", dataclasses.replace(session, tests=tests))
    done = suite.run(f"--infer-url={baseline}", "--infer-compare=other", "-k", "chat")
    assert verdicts(done) == {"incomparable"}
    assert "engine: sglang -> " in done.failures[f"{CHAT}.regression"]


def verdicts(done):
    return {c["verdict"] for c in done.document["comparisons"]}
