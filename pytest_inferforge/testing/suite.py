"""Run pytest on a folder of tests as a user does, and read back everything it says.

suite = Suite(tmp_path)
suite.write("test_chat.py", "def test_chat(infer_server): ...")
done = suite.run("--infer-backend=llama.cpp")
assert done.outcomes == {"test_chat.py::test_chat": "passed"}
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from pytest_inferforge import processes
from pytest_inferforge.errors import MeasuringError

if TYPE_CHECKING:
    from pathlib import Path

_GRACE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """One finished pytest run. `document` is the content of --infer-json (None: none was written).

    `outcomes`: node id -> passed, failed, error or skipped, from the JUnit report; `failures`: node id -> the
    whole text of a failure or error. `counts`: the numbers of the JUnit report's suite.
    """

    exit_code: int
    output: str
    document: dict[str, Any] | None
    outcomes: dict[str, str]
    failures: dict[str, str]
    properties: dict[str, dict[str, str]]
    counts: dict[str, int]


class Suite:
    """A folder of tests. Runs do not see `CI` unless `env` sets it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, content: str) -> Path:
        """Write a file of the suite; the content is dedented."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))
        return path

    def run(self, *args: str, env: dict[str, str] | None = None, timeout_s: float = 300.0) -> SuiteResult:
        """Run pytest here with these arguments and wait for its end.

        Raises:
            MeasuringError: it did not end in time; everything it started was stopped.
        """
        stamp = time.monotonic_ns()
        report, junit, log = (self.folder / f".run-{stamp}.{end}" for end in ("json", "xml", "log"))
        process = self.start(*args, f"--infer-json={report}", f"--junitxml={junit}", env=env, log=log)
        code = process.wait(timeout_s)
        process.stop()
        output = log.read_text(errors="replace") if log.exists() else ""
        if code is None:
            raise MeasuringError(f"pytest did not end in {timeout_s:g} s", seen=output[-2000:])
        cases = list(ET.parse(junit).iter("testcase")) if junit.exists() else []  # noqa: S314 (ours)
        outcomes = {_nodeid(case): _outcome(case) for case in cases}
        suite = ET.parse(junit).find("testsuite") if junit.exists() else None  # noqa: S314
        return SuiteResult(
            exit_code=code,
            output=output,
            document=json.loads(report.read_text()) if report.exists() else None,
            outcomes=outcomes,
            failures={_nodeid(case): _failure(case) for case in cases if _failure(case)},
            properties={
                _nodeid(case): {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
                for case in cases
            },
            counts={k: int(suite.get(k, "0")) for k in ("tests", "failures", "errors", "skipped")}
            if suite is not None
            else {},
        )

    def start(
        self, *args: str, env: dict[str, str] | None = None, log: Path | None = None
    ) -> processes.Process:
        """Start pytest here and return at once."""
        merged = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
        merged |= {"PYTHONUNBUFFERED": "1", "COLUMNS": "200", **(env or {})}
        argv = [sys.executable, "-m", "pytest", "-o", "junit_family=xunit1", *args]
        return processes.start(argv, env=merged, log_path=log, cwd=self.folder, grace_s=_GRACE_S)


def _nodeid(case: ET.Element) -> str:
    """JUnit splits a node id into file, class and name."""
    file, name = case.get("file", ""), case.get("name", "")
    module = file.removesuffix(".py").replace("/", ".")
    inner = case.get("classname", "").removeprefix(module).strip(".").replace(".", "::")
    return "::".join(part for part in (file, inner, name) if part)


def _outcome(case: ET.Element) -> str:
    for tag, word in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        if case.find(tag) is not None:
            return word
    return "passed"


def _failure(case: ET.Element) -> str:
    for tag in ("error", "failure"):
        if (found := case.find(tag)) is not None:
            return f"{found.get('message', '')}\n{found.text or ''}"
    return ""
