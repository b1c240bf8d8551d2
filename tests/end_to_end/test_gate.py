"""The gate end to end: real pytest processes, real boots of a server whose boots differ by 2 %.

A small check beside the simulations of `tests/calibration`: INFERFORGE_GATE_SESSIONS sessions without a
change and as many with a planted slowdown of 10 %, against 10 stored the same day, the reference bootable.
INFERFORGE_EVIDENCE names a file that keeps a line a session.
"""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, command

SESSIONS = int(os.environ.get("INFERFORGE_GATE_SESSIONS", "1"))
STORED = 10
KEPT = ("nodeid", "metric", "verdict", "evidence", "ratio", "p", "p_adjusted", "slots")
WORKLOAD = """
    import pytest
    pytestmark = pytest.mark.infer_workload(
        arrivals="poisson 60 req/s", requests=90, prompt_tokens=16, output_tokens=8, warmup=8)

    def test_chat(infer_run): pass

    @pytest.mark.infer_workload(output_tokens=12)
    def test_long(infer_run): pass
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory, calm):
    """Servers reference, same and slower of one machine, and the stored sessions of the first."""
    folder = tmp_path_factory.mktemp("gate")
    made = Suite(folder)
    servers = []
    for name, factor in (("reference", 1.0), ("same", 1.0), ("slower", 1.1)):
        times = {"ttft_s": 0.03 * factor, "gap_s": 0.004 * factor}
        table = Timetable(**times, boots_file=str(folder / "boots"), boot_sd=0.02, seed=11)
        servers.append(f"[servers.{name}]\ncommand = {json.dumps(command(table, folder / name))}\n")
    made.write("pytest.ini", "[pytest]\n")
    (folder / "inferforge.toml").write_text("\n".join([calm, *servers]))
    made.write("test_a.py", WORKLOAD)
    for _ in range(STORED):
        done = made.run("--infer-server=reference", "--infer-save=main")
        assert done.exit_code == 0, done.output
    return made


def session(suite, server):
    """One session against the stored ones: what it said and cost."""
    began = time.monotonic()
    done = suite.run(f"--infer-server={server}", "--infer-compare=main", "--infer-against=reference")
    assert done.exit_code in (0, 1), done.output
    assert not done.counts["errors"], done.output
    comparisons = done.document["comparisons"]
    assert len(comparisons) == 2 * 4  # 3 metrics a test, and the share beyond the P99 beside them
    seen = {
        "server": server,
        "session": done.document["session"]["id"],
        "red": any(c["verdict"] == "regressed" for c in comparisons),
        "more_boots": done.document["session"]["more_boots"],
        "wall_s": round(time.monotonic() - began, 1),
        "comparisons": [{key: c[key] for key in KEPT} for c in comparisons],
    }
    assert seen["red"] == (done.exit_code == 1)
    if os.environ.get("INFERFORGE_EVIDENCE"):
        with Path(os.environ["INFERFORGE_EVIDENCE"]).open("a") as file:
            file.write(json.dumps(seen) + "\n")
    return seen


@pytest.mark.parametrize("server", ["same", "slower"])
def test_the_gate_end_to_end(suite, server, capsys):
    seen = [session(suite, server) for _ in range(SESSIONS)]
    red = sum(s["red"] for s in seen)
    more = sum(bool(s["more_boots"]["boots"]) for s in seen)
    with capsys.disabled():
        sys.stdout.write(f"\n  {server}: {red} of {SESSIONS} sessions red, {more} needed more boots")
    if server == "same":
        assert red <= max(1, SESSIONS // 10)
    else:
        assert red >= SESSIONS - max(1, SESSIONS // 20)
