"""A project that does not use the plugin pays for the standard library and pytest, which it has anyway."""

import subprocess
import sys
import textwrap

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
