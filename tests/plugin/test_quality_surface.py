"""Quality of variants, over shards, without pytest, said wrong, and once with real answers."""

import json

import pytest

from pytest_inferforge import cli
from pytest_inferforge.baselines import open_store
from pytest_inferforge.testing.timetable import Timetable, TimetableServer, command

TASK = """
    import pytest

    @pytest.mark.infer_quality(tasks=["small"])
    def test_q(infer_quality): pass
"""
USAGE = 4  # pytest's exit code


def words(text):
    """Without the widths of a table."""
    return " ".join(text.split())


def wrong(count):
    return {"small": {"wrong": count}}


@pytest.fixture(scope="module")
def url():
    with TimetableServer(Timetable(ttft_s=0.005, gap_s=0.001)) as server:
        yield f"--infer-url={server.url}"


# -- variants --------------------------------------------------------------------------------------------


@pytest.fixture
def servers(suite, calm):
    """Servers `slow` and `fast`, whose models have the same names."""
    lines = [calm, '[margins]\nmean = "15 %"\n']
    for name, fields in {
        "slow": {"ttft_s": 0.04, "gap_s": 0.008},
        "fast": {"ttft_s": 0.02, "gap_s": 0.004},
    }.items():
        said = json.dumps(command(Timetable(**fields), suite.folder / "servers" / name))
        lines.append(f'[servers.{name}]\ncommand = {said}\nmodel = "{name}"\n')
    suite.write("inferforge.toml", "\n".join(lines))


VARIANTS = """
    import pytest

    @pytest.mark.infer_variants(bf16={"server": "slow"}, awq={"server": "fast"}, expect="faster", pairs=2)
    @pytest.mark.infer_workload(arrivals="closed 8", requests=32, prompt_tokens=16, output_tokens=8, warmup=4)
    @pytest.mark.infer_quality(tasks=["small"])
    def test_awq(infer_quality, infer_run):
        assert set(infer_quality) == {"bf16", "awq"}
        assert infer_quality["bf16"]["small"] == 0.9
"""


def test_faster_and_worse_fails_in_one_line(suite, script, servers):
    suite.write("test_v.py", VARIANTS)
    script.says(slow=[wrong(20)], fast=[wrong(40)])
    done = suite.run()
    assert done.outcomes == {"test_v.py::test_awq": "failed"}, done.output
    head, quality, against, *_ = done.failures["test_v.py::test_awq"].splitlines()
    assert head.startswith("Failed: awq: faster by ")
    assert head.endswith(" %, worse by 10.0 pt: fail")
    assert quality == "quality: awq small 10.0 pt worse than variant:bf16 (90.0 % -> 80.0 %)"
    assert against == "  awq against variant:bf16:"
    assert head.removeprefix("Failed: awq: ") in done.output.partition("= inferforge =")[2]
    (found,) = done.document["quality"]
    assert (found["nodeid"], found["variant"], found["verdict"]) == (
        "test_v.py::test_awq",
        "awq",
        "regressed",
    )
    assert found["p_adjusted"] == pytest.approx(3 * found["p"])  # two metrics and a task
    # each on its last boot, after its load; then a second boot of both
    asked = script.asked()
    assert sorted(a["model"] for a in asked[:2]) == ["fast", "slow"]
    assert all(a["loads"] for a in asked[:2])
    assert [a["model"] for a in asked[2:]] == ["fast", "slow"]
    properties = done.properties["test_v.py::test_awq"]
    assert properties["inferforge.quality.awq.small.not_worse_than"] == "regressed"


def test_quality_alone_of_several_variants_tells_them_apart(suite, script, servers):
    suite.write(
        "test_v.py",
        """
        import pytest

        @pytest.mark.infer_variants(one={"server": "slow"}, two={"server": "fast"},
                                    three={"server": "fast", "model": "third"})
        @pytest.mark.infer_quality(tasks=["small"], at_least="85 %")
        def test_v(infer_quality):
            assert infer_quality["three"].results
        """,
    )
    script.says(slow=[wrong(60)], fast=[wrong(20)], third=[wrong(60)])
    done = suite.run()
    assert done.outcomes == {"test_v.py::test_v": "failed"}, done.output
    message = done.failures["test_v.py::test_v"]
    # the reference may miss the floor
    assert message.splitlines()[0] == "Failed: quality: three small 70.0 %, at least 85.0 % is wanted"
    assert "two small at least 85.0 % 90.0 %" in words(message)
    assert {(r["variant"], r["kind"]): r["verdict"] for r in done.document["quality"]} == {
        ("one", "at_least"): "fail",
        ("two", "at_least"): "pass",
        ("three", "at_least"): "fail",
        ("two", "not_worse_than"): "improved",
        ("three", "not_worse_than"): "not_regressed",
    }


# -- without pytest --------------------------------------------------------------------------------------


def test_shards_are_judged_as_one_session(suite, script, url, monkeypatch, capsys):
    for name in ("a", "b"):
        suite.write(f"test_{name}.py", TASK)
    assert suite.run(url, "--infer-save=main").exit_code == 0
    script.says(wrong(40))
    for name in ("a", "b"):
        done = suite.run(url, "--infer-save=main", "--infer-session-id=ci-7", f"test_{name}.py")
        assert done.exit_code == 0, done.output
    monkeypatch.chdir(suite.folder)
    assert cli.main(["judge", "main", "ci-7", "--json", "out.json"]) == 1
    said = capsys.readouterr().out
    assert "test_a.py::test_q: quality\n  against baseline:main, session " in said
    assert "test_b.py::test_q: quality\n" in said
    assert "by one boot, none could be asked a second time" in said
    assert "verdict: red: quality of small" in said
    document = json.loads((suite.folder / "out.json").read_text())
    assert [(r["nodeid"], r["verdict"]) for r in document["quality"]] == [
        ("test_a.py::test_q", "regressed"),
        ("test_b.py::test_q", "regressed"),
    ]


def test_stored_sessions_are_compared(suite, script, url, monkeypatch, capsys):
    suite.write("test_a.py", TASK)
    for name, missed in (("main", 20), ("same", 20), ("worse", 40)):
        script.says(wrong(missed))
        suite.run(url, f"--infer-save={name}")
    monkeypatch.chdir(suite.folder)
    assert cli.main(["compare", "main", "same"]) == 0
    assert "not_regressed 0 worse, 0 better of 200" in words(capsys.readouterr().out)
    assert cli.main(["compare", "main", "worse"]) == 1
    assert "regressed 20 worse, 0 better of 200" in words(capsys.readouterr().out)


# -- said wrong ------------------------------------------------------------------------------------------

ASKED = "infer_quality"
WRONG = {  # arguments of the marker -> what is said
    'tasks=["small"], limt=3': ["unknown argument of infer_quality", "seen: limt", "did you mean limit?"],
    "limit=3": ["infer_quality needs the names of tasks", "seen: None"],
    "tasks=[]": ["needs the names of tasks", "seen: []"],
    "tasks=[3]": ["needs the names of tasks", "seen: [3]"],
    'tasks=["small", "small"]': ["a task is named twice"],
    'tasks=["gone.yaml"]': ["a file of infer_quality is not there", "gone.yaml"],
    'tasks="small", data="gone.jsonl"': ["is not there", "gone.jsonl"],
    'tasks=["small"], data=3': ["data is not readable", "seen: 3"],
    'tasks=["small", "other"], data={"test": "a.jsonl"}': ["data of which task?", "seen: 2 tasks"],
    'tasks=["small"], data={"smal": "a.jsonl"}': ["data of a task that is not asked for", "mean small?"],
    'tasks=["small"], metric={"smal": "acc"}': ["metric of a task that is not asked for", "mean small?"],
    'tasks=["small"], filter=3': ["filter is not readable", "seen: 3"],
    'tasks=["small"], limit=0': ["limit is a whole number, at least 1", "seen: 0"],
    'tasks=["small"], num_fewshot=-1': ["num_fewshot is a whole number, at least 0"],
    'tasks=["small"], concurrency="many"': ["concurrency is a whole number", "seen: 'many'"],
    'tasks=["small"], retries=True': ["retries is a whole number", "seen: True"],
    'tasks=["small"], max_tokens=1.5': ["max_tokens is a whole number", "seen: 1.5"],
    'tasks=["small"], timeout="5"': ["timeout: a time needs a unit", "seen: 5"],
    'tasks=["small"], chat="yes"': ["chat is True or False", "seen: 'yes'"],
    'tasks=["small"], seed="x"': ["a seed is a whole number", "seen: 'x'"],
    'tasks=["small"], not_worse_than=0': ["a margin lies between 0 and 1", 'not_worse_than="2 pt"'],
    'tasks=["small"], not_worse_than=2': ["not_worse_than: a share above 1", "write 2 %"],
    'tasks=["small"], not_worse_than="a bit"': ["not_worse_than: ", "a bit"],
    'tasks=["small"], at_least=1': ["a floor lies between 0 and 1", "small: 1"],
    'tasks=["small"], at_least=80': ["at_least: a share above 1", "write 80 %"],
    'tasks=["small"], at_least={"smal": 0.8}': ["at_least of a task that is not asked for", "mean small?"],
    'tasks=["small"], under_load=4': ["there is no load to look at quality under", "under_load=4"],
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What one run says of all that is wrong: number of the test -> lines."""
    from pytest_inferforge.testing.suite import Suite

    suite = Suite(tmp_path_factory.mktemp("wrong"))
    tests = [
        f"@pytest.mark.infer_quality({arguments})\ndef test_{k}(infer_quality): pass\n"
        for k, arguments in enumerate(WRONG)
    ]
    tests += [
        "def test_no_marker(infer_quality): pass\n",
        '@pytest.mark.infer_quality(tasks=["small"])\ndef test_no_fixture(infer_server): pass\n',
    ]
    suite.write("test_a.py", "\n".join(["import pytest", *tests]))
    suite.write(
        "conftest.py",
        "from pytest_inferforge.quality import evaluating\nevaluating.require = lambda: None\n",
    )
    done = suite.run("--infer-backend=llama.cpp")
    assert done.exit_code == USAGE, done.output
    assert "Traceback" not in done.output
    parts = done.output.split("test_a.py::test_")[1:]
    return {part.partition(":")[0]: part for part in parts}


@pytest.mark.parametrize("arguments", WRONG)
def test_each_argument_is_checked_before_anything_boots(told, arguments):
    said = told[str(list(WRONG).index(arguments))]
    for expected in WRONG[arguments]:
        assert expected in said
    assert "do:" in said


def test_a_marker_and_its_fixture_need_each_other(told):
    assert "infer_quality has nothing to evaluate" in told["no_marker"]
    assert "infer_quality on a test that measures nothing" in told["no_fixture"]
    assert "let the test ask for infer_quality" in told["no_fixture"]


def test_without_lm_eval_it_says_how_to_install_it(suite):
    suite.write("test_a.py", TASK)
    suite.write(
        "conftest.py",
        "from pytest_inferforge.quality import evaluating\nevaluating.installed = lambda: False\n",
    )
    done = suite.run("--infer-backend=llama.cpp")
    assert done.exit_code == USAGE
    assert "lm-eval is not installed" in done.output
    assert "pip install 'pytest-inferforge[quality]'" in done.output


# -- with real answers -----------------------------------------------------------------------------------


@pytest.fixture
def forge_tiny(suite):
    pytest.importorskip(
        "lm_eval", reason="lm-eval is not installed: pip install 'pytest-inferforge[quality]'"
    )
    pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed (extra llamacpp)")
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.mark.infer_quality(tasks=["forge_recall", "forge_recall_choice"], limit=20)
        def test_q(infer_quality):
            assert 0.0 <= infer_quality["forge_recall"] <= 1.0
        """,
    )
    return "--infer-backend=llama.cpp"


def test_the_embedded_model_is_evaluated(suite, forge_tiny):
    done = suite.run(forge_tiny)
    assert done.exit_code == 0, done.output
    assert "log-likelihoods by teacher forced" in done.output
    assert "forge_recall_choice acc " in words(done.output)


def test_the_same_model_again_is_not_red(suite, forge_tiny):
    assert suite.run(forge_tiny, "--infer-save=main").exit_code == 0
    done = suite.run(forge_tiny, "--infer-compare=main")
    assert done.exit_code == 0, done.output
    (session,) = open_store(suite.folder / ".inferforge").load("main")
    assert [len(o.keys) for o in session.tests[0].quality] == [20, 20]
    assert {r["task"]: (r["worse"], r["better"]) for r in done.document["quality"]} == {
        "forge_recall": (0, 0),
        "forge_recall_choice": (0, 0),
    }
    assert "drift of forge_recall: 0 of 20 replies changed" in done.output
    assert "KL of the choices" in done.output
