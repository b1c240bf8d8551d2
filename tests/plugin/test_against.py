"""More boots than planned: in turns with a reference, to confirm, of variants; on servers of known speed."""

import json
import re

import pytest

from pytest_inferforge.testing.timetable import Timetable, command

CHAT = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 8", requests=32, prompt_tokens=16, output_tokens=8, warmup=4)
    def test_chat(infer_run):
        pass
"""
VARIANTS = """
    import pytest

    @pytest.mark.infer_variants(one={{"server": "fast"}}, two={{"server": "{second}"}}, expect="{expect}")
    @pytest.mark.infer_workload(arrivals="closed 8", requests=32, prompt_tokens=16, output_tokens=8, warmup=4)
    def test_two(infer_run):
        assert set(infer_run) == {{"one", "two"}}
        assert infer_run["two"].metrics["output_tok_per_s"] > 0
"""


@pytest.fixture
def servers(suite, calm):
    """Servers fast, same and slow in the project's file; a function that writes others."""
    folder = suite.folder / "servers"

    def write(**more):
        tables = {"fast": {}, "same": {}, "slow": {"ttft_s": 0.04, "gap_s": 0.006}, **more}
        lines = [calm, '[margins]\nmean = "15 %"\n']  # far from what a busy machine does, and from 33 %
        for name, fields in tables.items():
            table = Timetable(**{"ttft_s": 0.03, "gap_s": 0.004, **fields})
            lines.append(f"[servers.{name}]\ncommand = {json.dumps(command(table, folder / name))}\n")
        (suite.folder / "inferforge.toml").write_text("\n".join(lines))

    write()
    return write


def stored(suite, n=3):
    for _ in range(n):
        assert suite.run("--infer-server=fast", "--infer-save=main").exit_code == 0


def verdicts(done):
    return {(c["metric"], c["evidence"]): c["verdict"] for c in done.document["comparisons"]}


def test_against_another_server_without_any_baseline(suite, servers):
    suite.write("test_a.py", CHAT)
    red = suite.run("--infer-server=slow", "--infer-against=fast")
    assert red.outcomes == {"test_a.py::test_chat": "passed", "test_a.py::test_chat.regression": "failed"}
    assert verdicts(red) == {("output_tok_per_s", "abba"): "regressed", ("tpot_s.mean", "abba"): "regressed"}
    for c in red.document["comparisons"]:
        assert c["reference"] == "against:fast"
        assert [side for side, _ in c["slots"]] == [
            {"R": "reference", "C": "current"}[letter] for letter in "RCCRCRRC"
        ]
    assert red.document["session"]["more_boots"]["boots"] == 8
    message = red.failures["test_a.py::test_chat.regression"]
    assert "worse than against:fast" in message
    assert "from fresh boots alone, in turns RCCRCRRC" in message

    green = suite.run("--infer-server=same", "--infer-against=fast", "--infer-pairs=3")
    assert green.exit_code == 0, green.output
    assert set(verdicts(green).values()) == {"not_regressed"}
    assert green.document["session"]["more_boots"]["boots"] == 6


def test_only_what_looks_worse_is_booted_in_turns(suite, servers):
    suite.write("test_a.py", CHAT)
    stored(suite)
    same = suite.run("--infer-server=same", "--infer-compare=main", "--infer-against=fast")
    assert same.exit_code == 0, same.output
    assert same.document["session"]["more_boots"]["boots"] == 0
    assert {evidence for _, evidence in verdicts(same)} == {"stored"}
    slow = suite.run("--infer-server=slow", "--infer-compare=main", "--infer-against=fast")
    assert slow.exit_code == 1
    assert set(verdicts(slow).values()) == {"regressed"}
    assert {evidence for _, evidence in verdicts(slow)} == {"abba"}


def test_without_a_reference_to_boot_a_suspect_is_booted_again(suite, servers):
    suite.write("test_a.py", CHAT)
    stored(suite)
    slow = suite.run("--infer-server=slow", "--infer-compare=main")
    assert slow.exit_code == 1, slow.output
    assert verdicts(slow) == {
        ("output_tok_per_s", "confirmed"): "regressed", ("tpot_s.mean", "confirmed"): "regressed",
    }  # fmt: skip
    assert "2 confirming boots" in slow.output
    assert "all of them one session" in slow.failures["test_a.py::test_chat.regression"]
    # the stored session has the planned boot only
    (test,) = slow.document["tests"]
    assert len(test["boots"]) == 1


def test_out_of_budget_is_said_with_the_price(suite, servers):
    suite.write("test_a.py", CHAT)
    stored(suite)
    done = suite.run(
        "--infer-server=slow", "--infer-compare=main", "--infer-against=fast", "--infer-budget=1 s"
    )
    assert done.exit_code == 0, done.output
    assert set(verdicts(done).values()) == {"inconclusive"}
    assert "4 pairs of boots would take about" in done.output
    assert "1 s of the budget are left (--infer-budget)" in done.output


def test_a_control_is_booted_as_a_third_arm(suite, servers):
    suite.write("test_a.py", CHAT)
    done = suite.run("--infer-server=slow", "--infer-against=fast", "--infer-null-control", "--infer-pairs=3")
    assert done.document["session"]["more_boots"]["boots"] == 9
    assert set(verdicts(done).values()) == {"regressed"}
    saved = suite.run("--infer-server=same", "--infer-against=fast", "--infer-pairs=2", "--infer-save=main")
    assert saved.document["session"]["more_boots"]["boots"] == 6


def test_a_settings_only_change_boots_the_baselines_own_server(suite):
    suite.write(
        "test_a.py",
        """
        import pytest

        @pytest.mark.infer_server(max_num_seqs=8)
        @pytest.mark.infer_workload(arrivals="closed 8", requests=48, prompt_tokens=8, output_tokens=96)
        def test_chat(infer_run): pass
        """,
    )
    for _ in range(5):
        assert suite.run("--infer-backend=llama.cpp", "--infer-save=main").exit_code == 0
    text = (suite.folder / "test_a.py").read_text()
    suite.write("test_a.py", text.replace("max_num_seqs=8", "max_num_seqs=1"))
    done = suite.run("--infer-backend=llama.cpp", "--infer-compare=main", "--infer-pairs=3")
    evidence = {c["metric"]: (c["evidence"], c["verdict"]) for c in done.document["comparisons"]}
    assert evidence["output_tok_per_s"] == ("abba", "regressed"), done.output
    assert done.document["session"]["more_boots"]["boots"] == 6


@pytest.mark.parametrize(
    ("second", "expect", "outcome", "said"),
    [
        ("slow", "not slower", "failed", "expected not slower, and it is slower"),
        ("slow", "same", "failed", "expected same, and it is slower"),
        ("same", "same", "passed", "expected same: shown"),
        ("same", "faster", "failed", "expected faster, and it is not"),
    ],
)
def test_variants_are_what_they_are_expected_to_be(suite, servers, second, expect, outcome, said):
    suite.write("test_a.py", VARIANTS.format(second=second, expect=expect))
    done = suite.run("--infer-compare=main", "--infer-missing=record")
    assert done.outcomes == {"test_a.py::test_two": outcome}, done.output
    assert said in done.output
    assert {c["variant"] for c in done.document["comparisons"]} == {"two"}
    assert {c["reference"] for c in done.document["comparisons"]} == {"variant:one"}
    assert [test["variant"] for test in done.document["tests"]] == ["one", "two"]


def test_a_faster_variant_is_found_and_what_it_costs(suite, servers):
    servers(quick={"ttft_s": 0.02, "gap_s": 0.003}, trade={"ttft_s": 0.08, "gap_s": 0.003})
    suite.write("test_a.py", VARIANTS.format(second="quick", expect="faster"))
    done = suite.run()
    assert (done.outcomes, "expected faster: shown" in done.output) == (
        {"test_a.py::test_two": "passed"}, True,
    ), done.output  # fmt: skip
    on_tpot = VARIANTS.replace('expect="', 'on="tpot_s.mean", expect="')
    suite.write("test_a.py", on_tpot.format(second="trade", expect="faster"))
    trade = suite.run()
    assert trade.outcomes == {"test_a.py::test_two": "passed"}
    assert "faster in tpot_s.mean, but slower: output_tok_per_s" in trade.output
    assert suite.run("--infer-policy=strict").outcomes == {"test_a.py::test_two": "failed"}


def test_a_plan_runs_nothing(suite, servers):
    suite.write("test_a.py", CHAT)
    stored(suite)
    done = suite.run("--infer-server=slow", "--infer-compare=main", "--infer-against=fast", "--infer-plan")
    assert (done.exit_code, done.outcomes, done.document) == (0, {}, None)
    assert "1 boot, 1 load; boot" in done.output
    assert "8 boots more if something looks worse, at most 30 min" in done.output
    assert "4 pairs of boots in turns" in done.output


def test_keys_under_test_may_differ(suite):
    suite.write("test_a.py", CHAT)
    for _ in range(3):
        assert suite.run("--infer-backend=llama.cpp", "--infer-save=main").exit_code == 0
    for path in (suite.folder / ".inferforge/baselines/main").glob("*.json"):
        path.write_text(re.sub(r'"model_sha256": "....', '"model_sha256": "beef', path.read_text()))
    other = suite.run("--infer-backend=llama.cpp", "--infer-compare=main")
    assert set(verdicts(other).values()) == {"incomparable"}, other.output
    assert "model_sha256: beef" in other.output
    tested = ("--infer-under-test=quantization,model_sha256", "--infer-policy=observe")
    done = suite.run("--infer-backend=llama.cpp", "--infer-compare=main", *tested)
    assert "incomparable" not in set(verdicts(done).values()), done.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--infer-url=http://127.0.0.1:9", "--infer-against=fast"), "cannot be booted in turns"),
        (("--infer-server=fast", "--infer-against=fats"), "did you mean fast?"),
        (("--infer-server=fast", "--infer-against=same", "--infer-pairs=1"), "from 2 to 100"),
        (("--infer-server=fast", "--infer-against=same", "--infer-budget=soon"), "soon"),
        (("--infer-server=fast", "--infer-under-test=,"), "names nothing"),
        (("--infer-quick", "--infer-against=fast"), "nothing to save or compare"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_boots(suite, servers, options, said):
    suite.write("test_a.py", CHAT)
    done = suite.run(*options)
    assert done.exit_code == 4
    assert said in done.output


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ('one={"server": "fast"}', "at least two servers"),
        ('one={"server": "fast"}, two={"server": "same"}, expect="quicker"', "unknown expectation"),
        ('one={"server": "fast"}, two={"server": "same"}, on="e2e_s.p50"', "not compared"),
        ('one={"server": "fast"}, two="same"', "is no table"),
        ('one={"server": "fast"}, two={"server": "same"}, pairs=1', "from 2 to"),
    ],
)
def test_variants_that_cannot_be_meant(suite, servers, marker, said):
    suite.write("test_a.py", VARIANTS.format(second="same", expect="same"))
    lines = (suite.folder / "test_a.py").read_text().splitlines()
    wrong = f"@pytest.mark.infer_variants({marker})"
    suite.write("test_a.py", "\n".join(wrong if "infer_variants" in line else line for line in lines))
    done = suite.run()
    assert done.exit_code == 4, done.output
    assert said in done.output


@pytest.mark.parametrize("tail", ["p99", "p95", "cvar95"])
def test_the_tail_that_is_gated_is_chosen_in_the_projects_file(suite, servers, tail):
    open_loop = CHAT.replace('"closed 8", requests=32', '"poisson 100 req/s", requests=60')
    suite.write("test_a.py", open_loop)
    file = suite.folder / "inferforge.toml"
    file.write_text(f'tail = "{tail}"\n' + file.read_text())
    done = suite.run("--infer-server=same", "--infer-against=fast", "--infer-pairs=2")
    found = {c["metric"] for c in done.document["comparisons"]}
    beside = set() if tail == "cvar95" else {"ttft_beyond_ratio"}
    assert found == {"ttft_s.mean", f"ttft_s.{tail}", "tpot_s.mean", *beside}, done.output
    for c in done.document["comparisons"]:
        if c["metric"] == "ttft_beyond_ratio":
            assert c["reference_value"] == pytest.approx(0.01 if tail == "p99" else 0.05, abs=0.01)
    file.write_text(file.read_text().replace(f'tail = "{tail}"', 'tail = "p42"'))
    assert "write one of: p99, p95, cvar95" in suite.run("--infer-server=same").output
