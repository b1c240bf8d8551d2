"""What can be known to be wrong is said before anything boots, in the form what / seen / do."""

import pytest

WORKLOAD = 'arrivals="closed 2", requests=20, prompt_tokens=16, output_tokens=4'
USAGE = 4  # pytest's exit code


def one_test(*, markers="", arguments=WORKLOAD, fixtures="infer_run"):
    workload = f"@pytest.mark.infer_workload({arguments})" if arguments else ""
    lines = ["import pytest", *markers.splitlines(), workload, f"def test_a({fixtures}): pass"]
    return "\n".join(line for line in lines if line)


CASES = {
    "misspelt metric": (
        one_test(markers='@pytest.mark.infer_slo("tftt p99 < 300 ms")'), (),
        ["test_a.py::test_a", "unknown metric", "seen: ", "tftt", "did you mean ttft"],
    ),
    "missing unit": (
        one_test(markers='@pytest.mark.infer_slo("ttft p99 < 300")'), (), ["needs a unit", "300 ms"],
    ),
    "no statistic": (
        one_test(markers='@pytest.mark.infer_slo("ttft < 300 ms")'), (), ["p99", "mean"],
    ),
    "wrong way round": (
        one_test(markers='@pytest.mark.infer_slo("ttft p99 > 300 ms")'), (), ["ttft p99 > 300 ms"],
    ),
    "marker without fixture": (
        one_test(fixtures=""), (),
        ["infer_workload on a test that measures nothing", "uses none of our fixtures", "infer_run"],
    ),
    "fixture without workload": (
        one_test(arguments=""), (), ["infer_run has nothing to measure", "infer_workload("],
    ),
    "misspelt argument": (
        one_test(arguments=WORKLOAD + ", promt_tokens=3"), (), ["unknown workload argument", "prompt_tokens"],
    ),
    "requests and duration": (
        one_test(arguments=WORKLOAD + ', duration="3 s"'), (), ["needs requests or a duration", "seen: both"],
    ),
    "rate without unit": (
        one_test(arguments=WORKLOAD.replace("closed 2", "poisson 8")), (),
        ["without a unit", "poisson 8 req/s"],
    ),
    "unknown engine": (one_test(), ("--infer-backend=vlmm",), ["no engine 'vlmm'"]),
    "unknown setting": (
        one_test(), ("--infer-set", "max_num_sqs=4"), ["has no setting 'max_num_sqs'", "max_num_seqs"],
    ),
    "missing model file": (one_test(), ("--infer-model=/nowhere/m.gguf",), ["/nowhere/m.gguf"]),
    "unknown baseline": (
        one_test(), ("--infer-compare=mian",), ["mian", "--infer-save"],
    ),
    "baseline name that is a path": (one_test(), ("--infer-save=../main",), ["baseline name"]),
    "boots of a url": (
        one_test(), ("--infer-url=http://127.0.0.1:9", "--infer-boots=2"), ["cannot be booted again"],
    ),
    "quick and save": (one_test(), ("--infer-quick", "--infer-save=main"), ["--infer-quick judges nothing"]),
    "no value": (one_test(), ("--infer-set", "max_num_seqs"), ["--infer-set takes NAME=VALUE"]),
    "key in the url": (
        one_test(), ("--infer-url=http://me:secret@127.0.0.1:9",), ["password"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_said_before_anything_boots(suite, case):
    content, args, told = CASES[case]
    suite.write("test_a.py", content)
    backend = (
        ()
        if any(a.startswith(("--infer-backend", "--infer-url")) for a in args)
        else ("--infer-backend=llama.cpp",)
    )
    done = suite.run(*backend, *args)
    assert done.exit_code == USAGE, done.output
    for words in told:
        assert words in done.output
    assert "do:" in done.output
    assert "Traceback" not in done.output
    assert "secret@" not in done.output
    assert not list((suite.folder / ".inferforge").glob("runs/*/*"))


def test_unknown_option_of_ours_is_pytests_own_error(suite):
    suite.write("test_a.py", one_test())
    done = suite.run("--infer-bootz=2")
    assert done.exit_code == USAGE


@pytest.mark.parametrize(
    "why", [{"env": {"CI": "true"}}, {"args": ("--infer-save=x",)}, {"args": ("--infer-compare=x",)}]
)
def test_a_gate_never_runs_on_the_default_backend(suite, why):
    suite.write("test_a.py", one_test())
    done = suite.run(*why.get("args", ()), env=why.get("env"))
    assert done.exit_code == USAGE
    assert "no backend is named" in done.output
    assert "--infer-backend=llama.cpp" in done.output


def test_all_faulty_tests_are_named_at_once(suite):
    suite.write("test_a.py", one_test(markers='@pytest.mark.infer_slo("tftt p99 < 300 ms")'))
    suite.write("test_b.py", one_test(arguments=""))
    done = suite.run("--infer-backend=llama.cpp")
    assert "test_a.py::test_a" in done.output
    assert "test_b.py::test_a" in done.output


def test_a_modules_server_needs_do_not_bind_its_plain_tests(suite):
    suite.write(
        "test_a.py",
        "import pytest\npytestmark = pytest.mark.infer_server(max_num_seqs=2)\ndef test_plain(): pass",
    )
    assert suite.run().outcomes == {"test_a.py::test_plain": "passed"}
