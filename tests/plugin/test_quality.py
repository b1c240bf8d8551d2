"""Quality as pytest sees it: floors, baselines, second boots. What is answered is scripted (conftest.py)."""

import json

import pytest

from pytest_inferforge.baselines import open_store
from pytest_inferforge.testing.timetable import Timetable, TimetableServer, command

TASK = """
    import pytest

    @pytest.mark.infer_quality(tasks=["small"]{more})
    def test_q(infer_quality):
        assert set(infer_quality) == {{"small"}}
        assert 0.0 <= infer_quality["small"] <= 1.0
"""
BOTH = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 4", requests=16, prompt_tokens=16, output_tokens=4)
    @pytest.mark.infer_quality(tasks=["small", "other"]{more})
    def test_both(infer_quality, infer_run):
        assert infer_quality["small"] == 0.9
        assert infer_run.metrics["output_tok_per_s"] > 0

    @pytest.mark.infer_workload(arrivals="closed 4", requests=16, prompt_tokens=16, output_tokens=4)
    def test_load(infer_run): pass
"""
TEST, REGRESSION = "test_a.py::test_q", "test_a.py::test_q.regression"


def wrong(count, **more):
    """An evaluation in which so many of the 200 items of the task `small` are wrong."""
    return {"small": {"wrong": count, **more.pop("task", {})}, **more}


@pytest.fixture(scope="module")
def url():
    with TimetableServer(Timetable(ttft_s=0.005, gap_s=0.001)) as server:
        yield f"--infer-url={server.url}"


@pytest.fixture
def booted(suite, script, calm):
    """A suite of TASK whose servers are booted; a function that writes servers by model."""
    suite.write("test_a.py", TASK.format(more=""))

    def write(*names, **tables):
        lines = [calm]
        for name in names:
            table = Timetable(**{"ttft_s": 0.005, "gap_s": 0.001, **tables.get(name, {})})
            said = json.dumps(command(table, suite.folder / "servers" / name))
            lines.append(f'[servers.{name}]\ncommand = {said}\nmodel = "{name}"\n')
        suite.write("inferforge.toml", "\n".join(lines))

    write("one", "two")
    return write


def quality(done):
    """(task, kind) -> what the document says of it."""
    return {(r["task"], r["kind"]): r for r in done.document["quality"]}


def words(text):
    """Without the widths of a table."""
    return " ".join(text.split())


def verdict(done, kind="not_worse_than", task="small"):
    return quality(done)[task, kind]["verdict"]


# -- one session -----------------------------------------------------------------------------------------


def test_the_fixture_is_a_mapping_and_a_wrong_name_is_answered_with_a_near_one(suite, script, url):
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.mark.infer_quality(tasks=["small", "other"], limit=50)
        def test_q(infer_quality):
            assert dict(infer_quality) == {"small": 0.9, "other": 0.85}
            assert len(infer_quality.outcomes["small"].scores) == 200
            assert infer_quality.evaluation.requests.asked == 200
            infer_quality["smal"]
        """,
    )
    script.says({"other": {"wrong": 30}})
    done = suite.run(url)
    assert "no task has that name" in done.failures[TEST]
    assert "did you mean small?" in done.failures[TEST]
    (asked,) = script.asked()
    assert (asked["tasks"], asked["limit"], asked["concurrency"]) == (["small", "other"], 50, 8)
    assert done.document["quality"] == []
    assert "test_a.py::test_q: quality" in done.output
    assert "small acc 90.0 % 200" in words(done.output)


@pytest.mark.parametrize(
    ("missed", "policy", "found", "outcome"),
    [
        (10, "default", "pass", "passed"),
        (60, "default", "fail", "failed"),
        (38, "default", "inconclusive", "passed"),
        (42, "default", "inconclusive", "failed"),  # the point estimate misses it
        (38, "strict", "inconclusive", "failed"),
        (60, "observe", "fail", "passed"),
    ],
)
def test_a_floor(suite, script, url, missed, policy, found, outcome):
    suite.write("test_a.py", TASK.format(more=', at_least="80 %"'))
    script.says(wrong(missed))
    done = suite.run(url, f"--infer-policy={policy}")
    assert (verdict(done, "at_least"), done.outcomes[TEST]) == (found, outcome)
    shown = f"{100 - missed / 2:.1f} %"
    if outcome == "failed":
        head, columns, row = done.failures[TEST].splitlines()[:3]
        doubt = "" if found == "fail" else "inconclusive: "
        assert head == f"Failed: quality: small {doubt}{shown}, at least 80.0 % is wanted"
        assert words(columns) == "floor measured 95 % bounds verdict"
        assert words(row).startswith(f"small at least 80.0 % {shown} [")
        assert words(row).endswith(f"] {found} n = 200 items")
    elif found != "pass":
        assert f"test_a.py::test_q small at least 80.0 %: {found}; " in done.output
        assert "InferforgeWarning" in done.output
    assert done.properties[TEST]["inferforge.quality.small"] == f"{1 - missed / 200:.4g}"
    assert done.properties[TEST]["inferforge.quality.small.at_least"] == found
    result = quality(done)["small", "at_least"]
    assert (result["variant"], result["limit"], result["n"]) == (None, 0.8, 200)
    assert result["lower"] < result["value"] < result["upper"]


def test_load_is_measured_before_quality_and_each_once(suite, script, url):
    suite.write("test_a.py", BOTH.format(more=""))
    done = suite.run(url, "-v")
    assert done.exit_code == 0, done.output
    (asked,) = script.asked()
    assert asked["loads"] == 2  # of its own test, which asks for quality first, and of the one below it
    assert list(done.outcomes) == ["test_a.py::test_load", "test_a.py::test_both"]


def test_quick_asks_little_and_judges_nothing(suite, script, url):
    suite.write("test_a.py", TASK.format(more=', at_least="99 %"'))
    done = suite.run(url, "--infer-quick")
    assert done.exit_code == 0, done.output
    assert [asked["limit"] for asked in script.asked()] == [4]
    assert (done.document["quality"], done.document["session"]["verdict"]) == ([], "observed")


def test_what_went_unanswered_is_no_score(suite, script, url):
    suite.write("test_a.py", TASK.format(more=', at_least="50 %"'))
    script.says(wrong(20, task={"unanswered": 3}))
    done = suite.run(url)
    assert done.outcomes == {TEST: "error"}
    assert "3 of 203 items were not answered; 1 % may be" in done.failures[TEST]
    assert done.document["session"]["verdict"] == "error"
    script.says(wrong(20, task={"unanswered": 2}))  # within what may be: said, and counted as nothing
    done = suite.run(url)
    assert quality(done)["small", "at_least"]["n"] == 200
    assert "2 unanswered" in done.output


def test_an_evaluation_that_breaks_is_an_error_said_once_for_all(suite, script, url):
    suite.write("test_a.py", TASK.format(more=', at_least="50 %"'))
    script.says({"error": "the evaluating process ended"})
    done = suite.run(url, "--infer-compare=main", "--infer-missing=record")
    assert done.outcomes == {TEST: "error", REGRESSION: "failed"}
    assert "the evaluating process ended" in done.failures[REGRESSION]
    assert len(script.asked()) == 1


def test_settings_of_the_command_line_and_the_file(suite, script, calm, url):
    suite.write("test_a.py", TASK.format(more=", limit=50, seed=3"))
    suite.write("inferforge.toml", f"{calm}\n[quality]\nchat = true\nseed = 9\n")
    suite.run(url, "--infer-quality", "limit=7", "--infer-quality=concurrency=2")
    (asked,) = script.asked()
    assert asked | {"limit": 7, "concurrency": 2, "seed": 3, "chat": True} == asked


def test_certificates_hold_for_the_evaluation_too(suite, script, timetable, certificate):
    suite.write("test_a.py", TASK.format(more=""))
    url = timetable(**certificate.served)
    done = suite.run(f"--infer-url={url}", f"--infer-tls-ca={certificate.authority}")
    assert done.exit_code == 0, done.output
    assert [asked["ca"] for asked in script.asked()] == [certificate.authority]


# -- saved and compared ----------------------------------------------------------------------------------


@pytest.fixture
def saved(suite, script, url):
    """A suite of TASK with one stored session."""
    suite.write("test_a.py", TASK.format(more=""))
    done = suite.run(url, "--infer-save=main")
    assert done.exit_code == 0, done.output
    script.asked()
    return open_store(suite.folder / ".inferforge")


def test_a_session_is_saved_with_its_items(suite, script, saved):
    (session,) = saved.load("main")
    (test,) = session.tests
    (stored,) = test.quality
    assert (test.nodeid, test.boots, session.complete, session.accepted) == (TEST, (), True, True)
    assert (len(stored.keys), stored.value, stored.margin) == (200, 0.9, 0.02)
    assert stored.repeat.n == 100  # asked twice, to know what flips by itself


def test_the_same_again_is_not_regressed_by_an_item_of_its_own(suite, script, saved, url):
    done = suite.run(url, "--infer-compare=main")
    assert done.outcomes == {TEST: "passed", REGRESSION: "passed"}, done.output
    (session,) = saved.load("main")
    result = quality(done)["small", "not_worse_than"]
    assert (result["verdict"], result["reference"]) == (
        "not_regressed",
        f"baseline:main, session {session.id}",
    )
    assert (result["worse"], result["better"], result["loss"], result["n"]) == (0, 0, 0.0, 200)
    assert done.properties[REGRESSION]["inferforge.quality.small.not_worse_than"] == "not_regressed"
    assert f"  against baseline:main, session {session.id}:" in done.output
    assert "small 90.0 % 90.0 % 0.0 pt -1.3 pt not_regressed 0 worse, 0 better of 200" in words(done.output)
    assert "comparisons with baseline main: 1 not_regressed" in done.output
    assert [asked["repeat"] for asked in script.asked()] == [0]  # nothing is saved


def test_another_version_of_a_task_is_incomparable(suite, script, saved, url):
    script.says(wrong(20, task={"identity": {"version": "2.0"}}))
    done = suite.run(url, "--infer-compare=main")
    assert (verdict(done), done.outcomes[REGRESSION]) == ("incomparable", "failed")  # nothing was judged
    assert "version: 1.0 -> 2.0" in done.failures[REGRESSION]


def test_another_model_is_incomparable_unless_it_is_under_test(suite, script, saved, url):
    done = suite.run(url, "--infer-compare=main", "--infer-model=other")
    assert (verdict(done), done.outcomes[REGRESSION]) == ("incomparable", "failed")
    assert "measured under other conditions" in done.failures[REGRESSION]
    assert "model: timetable -> other" in done.failures[REGRESSION]
    allowed = suite.run(url, "--infer-compare=main", "--infer-model=other", "--infer-under-test=model")
    assert (verdict(allowed), allowed.exit_code) == ("not_regressed", 0)


def test_a_test_that_the_baseline_has_not_has_no_baseline(suite, script, saved, url):
    suite.write("test_b.py", TASK.format(more="").replace("small", "large"))
    done = suite.run(url, "--infer-compare=main")
    assert verdict(done, task="large") == "no_baseline"
    assert done.outcomes["test_b.py::test_q.regression"] == "passed"
    assert "InferforgeWarning" in done.output
    assert "no accepted session with this test" in done.output


def test_the_item_alone_evaluates_its_test_first(suite, script, saved, url):
    done = suite.run(url, "--infer-compare=main", REGRESSION)
    assert done.outcomes == {REGRESSION: "passed"}
    assert (len(script.asked()), verdict(done)) == (1, "not_regressed")


def test_worse_behind_a_url_can_not_be_confirmed(suite, script, saved, url):
    script.says(wrong(40))
    done = suite.run(url, "--infer-compare=main")
    assert (verdict(done), done.exit_code) == ("inconclusive", 0)
    assert "not confirmed on a second boot" in done.output


# -- second boots ----------------------------------------------------------------------------------------


def test_worse_on_two_boots_is_red(suite, script, booted):
    assert suite.run("--infer-server=one", "--infer-save=main").exit_code == 0
    script.asked()
    script.says(wrong(40), wrong(36))
    done = suite.run("--infer-server=one", "--infer-compare=main", "--infer-save=main")
    assert done.outcomes == {TEST: "passed", REGRESSION: "failed"}
    stored = open_store(suite.folder / ".inferforge").load("main")
    reference = f"baseline:main, session {stored[0].id}"
    head, against, _, row, why, *_ = done.failures[REGRESSION].splitlines()
    assert head == f"Failed: quality: small 10.0 pt worse than {reference} (90.0 % -> 80.0 %)"
    assert against == f"  against {reference}:"
    assert words(row) == "small 80.0 % 90.0 % -10.0 pt -13.5 pt regressed 20 worse, 0 better of 200"
    assert why.strip().startswith("small: 10 pt worse, the margin is 2 pt; 20 of 200 items got worse")
    assert why.endswith("confirmed on a second boot: 8 pt worse")
    assert [asked["repeat"] for asked in script.asked()] == [100, 0]
    assert [session.accepted for session in stored] == [True, False]  # red: stored, and no reference


def test_worse_on_one_boot_is_doubt_and_warns(suite, script, booted):
    for _ in range(2):
        suite.run("--infer-server=one", "--infer-save=main")
    script.says(wrong(40), wrong(20))
    done = suite.run("--infer-server=one", "--infer-compare=main")
    assert (verdict(done), done.exit_code) == ("inconclusive", 0), done.output
    assert "not confirmed on a second boot: as good as before" in done.output
    assert "InferforgeWarning" in done.output


def test_a_second_boot_is_held_against_another_session(suite, script, booted):
    for missed in (36, 20):  # the luck of the newest one must not count twice
        script.says(wrong(missed))
        suite.run("--infer-server=one", "--infer-save=main")
    script.says(wrong(36))
    done = suite.run("--infer-server=one", "--infer-compare=main")
    assert (verdict(done), done.exit_code) == ("inconclusive", 0)
    assert "not confirmed on a second boot: as good as before" in done.output


def test_no_second_boot_beyond_the_budget(suite, script, booted):
    suite.run("--infer-server=one", "--infer-save=main")
    script.asked()
    script.says(wrong(40, seconds=3600))
    done = suite.run("--infer-server=one", "--infer-compare=main")
    assert (verdict(done), done.exit_code) == ("inconclusive", 0)
    assert len(script.asked()) == 1
    assert "a second boot would take about 1 h" in done.output
    assert "30 min of the budget are left (--infer-budget)" in done.output


def test_against_a_server_the_reference_is_evaluated_here(suite, script, booted):
    script.says(one=[wrong(20)], two=[wrong(40)])
    done = suite.run("--infer-server=two", "--infer-against=one")
    assert done.outcomes == {TEST: "passed", REGRESSION: "failed"}
    assert quality(done)["small", "not_worse_than"]["reference"] == "against:one"
    assert [asked["model"] for asked in script.asked()] == ["two", "one", "two", "one"]
    assert "worse than against:one (90.0 % -> 80.0 %)" in done.failures[REGRESSION]


def test_a_reference_that_fails_hides_no_other_test(suite, script, booted):
    suite.write("test_b.py", TASK.format(more=""))
    script.says(one=[{"error": "no answer"}, {}], two=[{}])
    done = suite.run("--infer-server=two", "--infer-against=one")
    assert [(r["nodeid"], r["verdict"]) for r in done.document["quality"]] == [
        ("test_a.py::test_q", "incomparable"),
        ("test_b.py::test_q", "not_regressed"),
    ]
    assert done.exit_code == 0
    assert "incomparable; the reference was not evaluated: no answer" in done.output


# -- with speed ------------------------------------------------------------------------------------------


def test_one_family_for_speed_and_quality(suite, script, url):
    suite.write("test_a.py", BOTH.format(more="").replace("== 0.9", "> 0"))
    suite.run(url, "--infer-save=main")
    script.says(wrong(26))
    done = suite.run(url, "--infer-compare=main")
    found = quality(done)["small", "not_worse_than"]
    assert (found["worse"], found["better"], found["p"]) == (6, 0, pytest.approx(2.0**-6))
    # of two tests two metrics each, and two tasks: 6
    assert found["p_adjusted"] == pytest.approx(6 * found["p"])
    assert found["verdict"] == "inconclusive"
    assert "over 6 comparisons" in found["reason"]
    assert "4 no_baseline, 1 inconclusive, 1 not_regressed" in done.output
    assert done.exit_code == 0, done.output


def test_under_load_has_a_verdict_of_its_own(suite, script, booted):
    more = ', under_load=4, not_worse_than="3 pt"'
    suite.write("test_a.py", BOTH.format(more=more).replace("def test_both", "def test_q"))
    script.says({}, wrong(40), {}, wrong(40))  # quiet, under load, and both on a second boot
    done = suite.run("--infer-server=one", "test_a.py::test_q")
    assert done.outcomes == {TEST: "failed"}
    assert "small 10.0 pt worse under load (90.0 % -> 80.0 %)" in done.failures[TEST]
    assert {key: r["verdict"] for key, r in quality(done).items()} == {
        ("small", "under_load"): "regressed",
        ("other", "under_load"): "not_regressed",
    }
    assert [asked["concurrency"] for asked in script.asked()] == [1, 4, 1, 4]
    assert "asked again while load ran (" in done.output
    assert "requests of closed 4" in done.output
