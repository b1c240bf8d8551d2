"""Boots in turns on a real engine: a difference is found, none is not, a drift of the machine is neither."""

import json
import math
import statistics

import pytest

from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, command

BATCH = """
    import pytest

    @pytest.mark.infer_server(threads=1)
    @pytest.mark.infer_workload(arrivals="closed 8", requests=40, prompt_tokens=8, output_tokens=96)
    def test_batch(infer_run):
        assert infer_run.metrics["error_ratio"] == 0
"""
DRIFTING = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 8", requests=64, prompt_tokens=16, output_tokens=8)
    def test_batch(infer_run):
        pass
"""
A_BOOT = 0.02  # by so much the machine of the drifting servers slows down from boot to boot


def suite_of(folder, text, servers):
    made = Suite(folder)
    made.write("pytest.ini", "[pytest]\n")
    made.write("test_b.py", text)
    (folder / "inferforge.toml").write_text("\n".join(["floor_requests = 0", *servers]))
    return made


@pytest.fixture
def llama(tmp_path):
    pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed")
    servers = [
        f'[servers.{name}]\nbackend = "llama.cpp"\nmax_num_seqs = {slots}' for name, slots in SLOTS.items()
    ]
    return suite_of(tmp_path, BATCH, servers)


SLOTS = {"one": 1, "four": 4, "four_too": 4}


def verdicts(done):
    return {c["metric"]: c for c in done.document["comparisons"]}


def test_one_slot_against_four_is_found(llama):
    done = llama.run("--infer-server=one", "--infer-against=four")
    found = verdicts(done)["output_tok_per_s"]
    assert (found["verdict"], found["evidence"], done.exit_code) == ("regressed", "abba", 1), done.output
    assert found["ratio"] < 0.8


def test_identical_sides_are_not_found(llama):
    """At a nominal 5 % one false alarm may happen; two in a row do not (0.25 %)."""
    for _ in range(2):
        done = llama.run("--infer-server=four_too", "--infer-against=four")
        words = {c["verdict"] for c in verdicts(done).values()}
        assert words <= {"not_regressed", "inconclusive", "improved", "regressed"}, done.output
        if "regressed" not in words:
            return
    pytest.fail(done.output)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, "not_regressed"), (1.1, "regressed")])
def test_a_linear_drift_is_no_difference_and_hides_none(tmp_path, factor, expected):
    drift = {"boots_file": str(tmp_path / "boots"), "boot_drift": A_BOOT}
    tables = {"here": Timetable(ttft_s=0.03 * factor, gap_s=0.004 * factor, **drift),
              "there": Timetable(ttft_s=0.03, gap_s=0.004, **drift)}  # fmt: skip
    servers = [
        f"[servers.{name}]\ncommand = {json.dumps(command(table, tmp_path / name))}"
        for name, table in tables.items()
    ]
    suite = suite_of(tmp_path, DRIFTING, servers)
    done = suite.run("--infer-server=here", "--infer-against=there")
    found = verdicts(done)
    assert {c["verdict"] for c in found.values()} == {expected}, done.output
    tpot = found["tpot_s.mean"]
    assert tpot["trend_ratio"] == pytest.approx(math.exp(A_BOOT), abs=0.004)
    assert tpot["ratio"] == pytest.approx(factor, rel=0.02)
    # the drift is real: boots of the second half are slower than those of the first, whatever their side
    values = [value for _, value in tpot["slots"]]
    assert statistics.fmean(values[4:]) / statistics.fmean(values[:4]) > 1.05
