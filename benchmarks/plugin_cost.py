"""What a pytest run that does not use the plugin pays for having it installed.

Pairs of runs of one plain test, with the plugin and with `-p no:inferforge`, in turned order and without any
other installed plugin; the median of the pairs' differences. Exits with 1 above the limit.

    python benchmarks/plugin_cost.py [--pairs 21] [--limit-ms 30]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path


def run_s(folder: Path, *extra: str) -> float:
    """Wall time in seconds of one pytest run in `folder`."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *extra],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--limit-ms", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_plain.py").write_text("def test_plain(): pass\n")
        others = {entry.name for entry in entry_points(group="pytest11")} - {"inferforge"}
        calm = [word for name in sorted(others) for word in ("-p", f"no:{name}")]
        run_s(folder, *calm)
        differences, plain = [], []
        for pair in range(options.pairs):
            order = (True, False) if pair % 2 else (False, True)
            seconds = {
                used: run_s(folder, *calm, *(() if used else ("-p", "no:inferforge"))) for used in order
            }
            differences.append((seconds[True] - seconds[False]) * 1e3)
            plain.append(seconds[False] * 1e3)
    differences.sort()
    median = statistics.median(differences)
    print(f"pytest without the plugin: {statistics.median(plain):.0f} ms")
    print(
        f"the plugin adds {median:.1f} ms (median of {options.pairs} pairs; quartiles"
        f" {differences[len(differences) // 4]:.1f} .. {differences[-1 - len(differences) // 4]:.1f} ms),"
        f" limit {options.limit_ms:g} ms"
    )
    return 1 if median > options.limit_ms else 0


if __name__ == "__main__":
    raise SystemExit(main())
