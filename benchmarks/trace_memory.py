"""What reading a trace costs: a file of each format, read by a fresh process.

Prints rows, size, seconds and how much the process's peak of resident memory grew while it read. Exits
with 1 above the limit.

    python benchmarks/trace_memory.py [--rows 1000000] [--limit-mb 200] [--formats mooncake azure ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

FORMATS = ("mooncake", "burstgpt", "azure", "inferforge")
# Each step has a process of its own, and this one imports nothing large: a child's ru_maxrss begins at what
# its parent had when it was started.
WRITE = """
import sys
from pathlib import Path
from pytest_inferforge.testing.samples import write_trace
write_trace(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), seed=1)
"""
READ = """
import json, resource, sys, time
from pathlib import Path
from pytest_inferforge.workload import traces
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
table = traces.read(Path(sys.argv[1]))
seconds = time.perf_counter() - began
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([table.format, len(table.due_s), len(table.blocks), seconds, (after - before) * 1024]))
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--limit-mb", type=float, default=200.0)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    options = parser.parse_args()
    worst_mb = 0.0
    print(f"{'format':<12}{'rows':>10}{'blocks':>12}{'file':>9}{'seconds':>9}{'peak growth':>13}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.formats:
            path = Path(folder) / name
            run(WRITE, str(path), name, str(options.rows))
            seen, rows, blocks, seconds, grown = json.loads(run(READ, str(path)))
            if seen != name:
                raise SystemExit(f"a {name} file was taken for {seen}")
            size_mb, grown_mb = path.stat().st_size / 1e6, grown / 1e6
            path.unlink()
            print(f"{name:<12}{rows:>10}{blocks:>12}{size_mb:>6.0f} MB{seconds:>9.1f}{grown_mb:>10.0f} MB")
            worst_mb = max(worst_mb, grown_mb)
    print(f"largest {worst_mb:.0f} MB, limit {options.limit_mb:g} MB")
    return 1 if worst_mb > options.limit_mb else 0


if __name__ == "__main__":
    raise SystemExit(main())
