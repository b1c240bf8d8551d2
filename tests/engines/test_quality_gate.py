"""Quality on a real engine: a good quantization is shown to be as good, a crushed one is caught."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="the embedded llama.cpp is not installed: pip install '.[llamacpp]'")
pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install '.[quality]'")

SUITE = Path(__file__).parents[2] / "example_suites" / "quantization"
ITEMS = 300


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The example suite, run as its reader would run it: its document, and what it printed."""
    folder = tmp_path_factory.mktemp("quantization")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", str(SUITE), "--infer-backend=llama.cpp", "-rx",
            f"--infer-json={folder / 'out.json'}", f"--infer-store={folder / 'store'}",
            "-p", "no:cacheprovider", "--color=no",
        ],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "out.json").read_text()), done.stdout


def results(document, variant):
    return {r["task"]: r for r in document["quality"] if r["variant"] == variant}


def test_eight_bits_are_shown_to_be_as_good(suite):
    document, _ = suite
    found = results(document, "q8")
    assert len(found) == 2
    for result in found.values():
        assert (result["kind"], result["verdict"]) == ("not_worse_than", "not_regressed")
        assert result["n"] == ITEMS
        assert result["upper"] < result["margin"]
        assert result["reference"] == "variant:f16"


def test_two_bits_are_caught_with_the_pairs_that_show_it(suite):
    document, printed = suite
    found = results(document, "tq2")
    assert len(found) == 2
    for result in found.values():
        assert result["verdict"] == "regressed"
        assert result["n"] == ITEMS
        assert result["worse"] > 3 * result["better"]
        assert result["p_adjusted"] < 0.001
        assert result["loss"] == pytest.approx((result["worse"] - result["better"]) / ITEMS)
        assert "confirmed on a second boot" in result["reason"]
    assert "1 xfailed" in printed


def test_speed_and_quality_stand_in_one_line(suite):
    _, printed = suite
    lines = [line.strip() for line in printed.splitlines() if line.rstrip().endswith((": pass", ": fail"))]
    assert any("as good: pass" in line for line in lines)


def test_the_model_answers_well_above_chance(suite):
    document, _ = suite
    for result in results(document, "q8").values():
        assert result["reference_value"] > 0.4
