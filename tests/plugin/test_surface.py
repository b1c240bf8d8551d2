"""What pytest shows of us, and what it does not."""

import pytest


def test_a_project_that_does_not_use_us_sees_only_our_name(suite):
    suite.write("test_plain.py", "def test_plain(): pass")
    done = suite.run()
    ours = [line for line in done.output.splitlines() if "infer" in line.lower()]
    ours = [line for line in ours if not line.startswith(("rootdir:", "cachedir:")) and ".xml" not in line]
    assert len(ours) == 1
    assert ours[0].startswith("plugins:")
    assert done.exit_code == 0
    assert not (suite.folder / ".inferforge").exists()


def test_help_tells_each_option_in_one_group(suite):
    done = suite.run("-h")
    group = done.output.split("performance tests of LLM inference servers")[1].split("\n\n")[0]
    for option in ("--infer-backend", "--infer-model", "--infer-url", "--infer-boots", "--infer-save",
                   "--infer-compare", "--infer-policy", "--infer-quick", "--infer-json"):  # fmt: skip
        assert option in group


def test_markers_are_documented(suite):
    done = suite.run("--markers")
    for name in ("infer_server", "infer_workload", "infer_slo"):
        assert f"@pytest.mark.{name}(" in done.output


def test_fixtures_are_documented(suite):
    done = suite.run("--fixtures")
    for name in ("infer_server", "infer_load", "infer_run"):
        assert f"\n{name} --" in done.output or f"\n{name}" in done.output
    assert 'infer_run.metrics["ttft_s.p99"]' in done.output


@pytest.mark.parametrize("extra", [(), ("--infer-compare=main",)])
def test_collect_only_boots_nothing(suite, extra):
    suite.write("test_a.py", LOAD)
    suite.write(".inferforge/baselines/.keep", "")
    done = suite.run("--co", "-q", "--infer-backend=llama.cpp", "--infer-missing=record", *extra)
    listed = [line for line in done.output.splitlines() if line.startswith("test_a.py::")]
    assert listed == ["test_a.py::test_chat", *(["test_a.py::test_chat.regression"] if extra else [])]
    assert not list((suite.folder / ".inferforge").glob("runs/*/*.log"))


def test_xdist_is_refused_with_the_way_out(suite):
    suite.write("test_a.py", LOAD)
    done = suite.run("--infer-backend=llama.cpp", "-n1")
    assert done.outcomes == {"test_a.py::test_chat": "error"}
    assert "do not run under pytest-xdist" in done.output
    assert "-n 0" in done.output


def test_the_embedded_default_says_so(suite):
    suite.write("test_a.py", LOAD)
    done = suite.run("--infer-quick")
    assert done.exit_code == 0, done.output
    assert "the embedded llama.cpp serves forge-tiny, a toy model" in done.output


LOAD = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 2", requests=300, prompt_tokens=16, output_tokens=4)
    def test_chat(infer_run):
        pass
"""
