"""A project that does not use the plugin pays for the standard library and pytest, which it has anyway."""

import subprocess
import sys
import textwrap

import pytest

from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, TimetableServer

FOREIGN = """
    import sys
    import pytest
    before = set(sys.modules)
    import pytest_inferforge.pytest_plugin
    tops = {name.partition(".")[0] for name in set(sys.modules) - before}
    print(*sorted(tops - set(sys.stdlib_module_names) - {"pytest", "_pytest", "pytest_inferforge"}))
"""

OURS = """
    import sys
    import pytest_inferforge.pytest_plugin
    print(*sorted(name for name in sys.modules if name.startswith("pytest_inferforge")))
"""


def printed(code):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_entry_point_loads_nothing_foreign():
    assert printed(FOREIGN) == []


def test_and_little_of_ours():
    assert printed(OURS) == [
        "pytest_inferforge",
        "pytest_inferforge.errors",
        "pytest_inferforge.pytest_plugin",
        "pytest_inferforge.pytest_plugin.cmdline",
        "pytest_inferforge.pytest_plugin.fixtures",
    ]


def test_the_package_itself_loads_lazily():
    code = "import sys, pytest_inferforge as i; print(i.Poisson(8), 'numpy' in sys.modules)"
    assert printed(code) == ["poisson", "8", "req/s", "False"]


HEAVY = {"lm_eval", "datasets", "pandas", "pyarrow", "torch", "transformers"}
SAYS = f"""
    import sys

    def pytest_unconfigure():
        print("heavy:", *sorted({HEAVY!r} & sys.modules.keys()), "end")
"""
PLAIN = "def test_plain(): pass"
LOAD = """
    import pytest

    @pytest.mark.infer_workload(arrivals="closed 2", requests=4, prompt_tokens=8, output_tokens=2)
    def test_load(infer_run): pass
"""


def test_the_package_loads_nothing_of_an_evaluation():
    code = f"import sys, pytest_inferforge as i; i.Poisson(8); print(*({HEAVY!r} & sys.modules.keys()))"
    assert printed(code) == []


@pytest.mark.parametrize("content", [PLAIN, LOAD], ids=["plain", "load"])
def test_a_run_without_quality_loads_nothing_of_an_evaluation(tmp_path, calm, content):
    suite = Suite(tmp_path)
    suite.write("inferforge.toml", calm)
    suite.write("conftest.py", SAYS)
    suite.write("test_a.py", content)
    with TimetableServer(Timetable(ttft_s=0.005, gap_s=0.001)) as server:
        done = suite.run(f"--infer-url={server.url}", "-s")
    assert done.exit_code == 0, done.output
    assert "heavy: end" in done.output
