"""`inferforge calibrate` and `inferforge selfcheck`: real pytest sessions on servers of known speed."""

import json
import re
import shlex
import sys
import textwrap

import httpx
import pytest

from pytest_inferforge import cli
from pytest_inferforge.testing.timetable import Timetable, command

CHAT = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 4", requests=40, prompt_tokens=8, output_tokens=6, warmup=2)
    def test_chat(infer_run):
        pass
"""
NONE = """
    def test_plain():
        pass
"""
FAST = {"ttft_s": 0.02, "gap_s": 0.004}


@pytest.fixture
def server(suite):
    """[servers.fast] of the suite's project file, whose boots differ by 2 %."""
    folder = suite.folder / "servers"
    table = Timetable(**FAST, boots_file=str(folder / "boots"), boot_sd=0.02)
    line = '[margins]\nmean = "15 %"\n'  # far from what a busy machine does
    line += f"[servers.fast]\ncommand = {json.dumps(command(table, folder))}\n"
    path = suite.folder / "inferforge.toml"
    path.write_text(f"{path.read_text()}\n{line}")


@pytest.fixture
def inferforge(suite, capsys, monkeypatch):
    """Run the command in the suite's folder: exit code, output, errors."""
    monkeypatch.chdir(suite.folder)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(*arguments):
        code = cli.main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def calibrate(inferforge, *arguments, sessions=3, boots=2, simulate=20):
    numbers = (f"--sessions={sessions}", f"--boots={boots}", f"--simulate={simulate}")
    return inferforge("calibrate", *numbers, *arguments)


# -- calibrate


def test_a_suite_on_a_server_that_is_booted_here(suite, server, inferforge):
    suite.write("test_a.py", CHAT)
    code, out, err = calibrate(
        inferforge, "--json=out.json", "--", "--infer-server=fast", "-k", "chat", sessions=4
    )
    assert (code, err) == (0, ""), out
    found = json.loads((suite.folder / "out.json").read_text())
    assert {m["metric"] for m in found["metrics"]} == {"output_tok_per_s", "tpot_s.mean"}
    for m in found["metrics"]:
        assert (m["nodeid"], m["sessions"], m["boots"]) == ("test_a.py::test_chat", 4, 8)
        assert (m["session_df"], m["boot_df"]) == (3, 4)
        assert 0.0 < m["request_sd"] < 0.5  # the rows of the boots were found
        assert m["boot_s"] > 0.0 < m["load_s"]
        assert len(m["values"]) == 4
    (tpot,) = (m for m in found["metrics"] if m["metric"] == "tpot_s.mean")
    assert tpot["level"] == pytest.approx(0.004, rel=0.1)
    assert [a["way"] for a in found["false_alarms"]] == ["turns", "confirming"]
    assert {a["simulated_sessions"] for a in found["false_alarms"]} == {20}
    assert len(found["observed"]) == 4
    assert found["failed"] == []
    assert "calibrated with 4 sessions of 2 boots, 2 gated comparisons in each" in out
    assert "null control:" in out
    # nothing of it is in the project's own store
    assert not (suite.folder / ".inferforge/baselines").exists()
    assert len(list((suite.folder / ".inferforge/calibration").glob("*/baselines/calibration/*.json"))) == 4
    assert (suite.folder / ".inferforge/calibration/.gitignore").read_text() == "*\n"


def test_behind_a_url_there_is_one_boot(suite, timetable, inferforge):
    suite.write("test_a.py", CHAT)
    out_of_the_way = suite.folder / "elsewhere"
    code, out, err = inferforge(
        "calibrate", "--sessions=3", "--simulate=10", f"--store={out_of_the_way}", "--json=out.json", "--",
        f"--infer-url={timetable(**FAST)}",
    )  # fmt: skip
    assert (code, err) == (0, ""), out
    found = json.loads((suite.folder / "out.json").read_text())
    assert found["boots"] == 1
    assert {m["boot_sd"] for m in found["metrics"]} == {None}
    assert [a["way"] for a in found["false_alarms"]] == ["stored"]
    assert found["observed"] == []  # two others are too few
    assert "cannot be told apart" in out
    assert (out_of_the_way / "calibration").is_dir()


def test_a_test_that_fails_for_itself_is_measured_all_the_same(suite, server, inferforge):
    suite.write("test_a.py", CHAT.replace("pass", "assert False, infer_run"))
    code, out, _ = calibrate(inferforge, "test_a.py", "--infer-server=fast", boots=1, simulate=0)
    assert code == 0, out
    assert "false alarms" not in out


def test_too_few_sessions_are_an_error_that_names_them(suite, server, inferforge):
    suite.write(
        "test_a.py",
        """
        import pathlib
        import pytest

        count = pathlib.Path(__file__).with_name("count")

        @pytest.fixture(autouse=True)
        def sometimes():
            count.write_text(count.read_text() + "x" if count.exists() else "x")
            if len(count.read_text()) == 2:
                pytest.fail("the machine was busy")

        @pytest.mark.infer_workload(arrivals="closed 4", requests=20, prompt_tokens=8, output_tokens=6)
        def test_chat(infer_run):
            pass
        """,
    )
    code, out, err = calibrate(inferforge, "--", "--infer-server=fast", boots=1)
    assert code == 1, out
    assert "2 of 3 sessions could be used, and 3 are needed" in err
    assert "session 2: pytest ended with exit code 1" in err


def test_a_test_that_some_sessions_have_not_is_named(suite, server, inferforge):
    whole = textwrap.dedent(CHAT) + textwrap.dedent(
        """
        import pathlib
        count = pathlib.Path(__file__).with_name("count")

        def test_by_hand(infer_load):
            count.write_text(count.read_text() + "x" if count.exists() else "x")
            if len(count.read_text()) == 2:
                pytest.skip("not now")
            infer_load(arrivals="closed 4", requests=20, prompt_tokens=8, output_tokens=6, name="small")
        """
    )
    suite.write("test_a.py", whole)
    code, out, err = calibrate(inferforge, "--", "--infer-server=fast", boots=1, sessions=4, simulate=0)
    assert code == 0, err
    assert "session 2 was measured in part: without test_a.py::test_by_hand::small" in out


@pytest.mark.parametrize("word", ["calibrate", "selfcheck"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--infer-save=main",), "says --infer-save itself"),
        (("--infer-compare=main",), "says --infer-compare itself"),
        (("--infer-compare", "main"), "says --infer-compare itself"),
        (("--infer-boots=2",), "says --infer-boots itself"),
        (("--infer-quick",), "says --infer-quick itself"),
        (("--infer-attach",), "says --infer-attach itself"),
        (("--infer-policy=strict",), "says --infer-policy itself"),
        (("--infer-boots=many",), "pytest would not understand that"),
        (("--infer-server=slow",), "slow"),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_anything_runs(
    suite, server, inferforge, word, options, said
):
    suite.write("test_a.py", CHAT)
    code, out, err = inferforge(word, "--", *options)
    assert code == 2
    assert said in err
    assert "session 1" not in out


def test_nor_by_the_environment(suite, server, inferforge, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-q --infer-compare=main")
    code, _, err = inferforge("calibrate", "--", "--infer-server=fast")
    assert code == 2
    assert "says --infer-compare itself" in err


@pytest.mark.parametrize("word", ["calibrate", "selfcheck"])
def test_a_suite_without_load_tests(suite, server, inferforge, word):
    suite.write("test_a.py", NONE)
    code, out, err = inferforge(word, "--", "--infer-server=fast")
    assert code == 2, out
    assert "this suite has no load tests" in err
    assert "session 2" not in out


@pytest.mark.parametrize("word", ["calibrate", "selfcheck"])
def test_a_suite_without_tests_or_with_wrong_options(suite, server, inferforge, word):
    suite.write("test_a.py", CHAT)
    code, _, err = inferforge(word, "--", "--infer-server=fast", "-k", "nothing")
    assert code == 1
    assert "pytest ran no test: no tests were selected" in err
    code, _, err = inferforge(word, "--", "--infer-server=fast", "--no-such-option")
    assert code == 1
    assert "unrecognized arguments: --no-such-option" in err


@pytest.mark.parametrize("word", ["calibrate", "selfcheck"])
def test_a_server_that_does_not_boot(suite, inferforge, word):
    suite.write("test_a.py", CHAT)
    dies = shlex.join([sys.executable, "-c", "import sys; sys.exit('no memory left')", "{port}"])
    code, out, err = inferforge(word, "--", f"--infer-command={dies}")
    assert code == 1, out
    assert "no memory left" in err
    assert "session 2" not in out


# -- selfcheck


def test_a_planted_slowdown_is_seen_and_nothing_else(suite, server, inferforge):
    suite.write("test_a.py", CHAT)
    code, out, err = inferforge(
        "selfcheck", "--slowdown", "60 %", "--sessions", "3", "--", "--infer-server=fast"
    )
    assert (code, err) == (0, ""), out
    assert "unchanged: expected not red, seen not red" in out
    assert "slowed by 60 %: expected red, seen red" in out
    assert "red: test_a.py::test_chat tpot_s.mean" in out
    ratio = float(
        next(line for line in out.splitlines() if line.startswith("red: ") and "tpot" in line).split()[-1]
    )
    assert ratio == pytest.approx(1.6, rel=0.1)
    assert "checked was the gate's judgement by stored sessions" in out
    assert "as expected: the gate on this machine sees 60 %" in out
    assert not (suite.folder / ".inferforge/baselines").exists()
    url = re.search(r"^server: .* at (http://\S+)$", out, re.MULTILINE)[1]
    with pytest.raises(httpx.ConnectError):  # it was ended
        httpx.get(url, trust_env=False)


def test_what_is_too_small_to_be_seen_is_said_with_what_would_be(suite, timetable, inferforge):
    suite.write("test_a.py", CHAT)
    url = timetable(**FAST)
    code, out, _ = inferforge("selfcheck", "--slowdown=0.1 %", "--sessions=3", "--", f"--infer-url={url}")
    assert code == 1
    assert "slowed by 0.1 %: expected red, seen not red" in out
    assert "not as expected: 0.1 % is below what this machine can see with 3 sessions" in out
    assert 'try --slowdown "' in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--slowdown", "0 %"), "no slowdown to plant"),
        (("--slowdown", "much"), "not readable"),
        (("--sessions", "2"), "below 3 stored sessions nothing is judged"),
    ],
)
def test_a_selfcheck_that_could_prove_nothing(suite, inferforge, options, said):
    suite.write("test_a.py", CHAT)
    code, _, err = inferforge("selfcheck", *options, "--", "--infer-url=http://127.0.0.1:9")
    assert code == 2
    assert said in err


def test_tls_cannot_be_slowed_down(suite, inferforge):
    suite.write("test_a.py", CHAT)
    code, _, err = inferforge("selfcheck", "--", "--infer-url=https://api.example.com")
    assert code == 2
    assert "only plain http can be slowed down" in err


def test_a_test_with_a_server_of_its_own_is_not_behind_the_proxy(suite, server, timetable, inferforge):
    pinned = (
        f'@pytest.mark.infer_server(url="{timetable(**FAST)}", pin=True)\n    @pytest.mark.infer_workload'
    )
    suite.write("test_a.py", CHAT.replace("@pytest.mark.infer_workload", pinned))
    code, out, err = inferforge("selfcheck", "--sessions=3", "--", "--infer-server=fast")
    assert code == 2, out
    assert "tests with a server of their own cannot be slowed down" in err
    assert "test_a.py::test_chat" in err
