"""Calibrations simulate whole sessions; their number is set by INFERFORGE_CALIBRATION_SESSIONS."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def simulate() -> ModuleType:
    """`simulate.py` beside this file: test folders are no packages."""
    name = "inferforge_calibration_simulate"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("simulate.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sessions() -> int:
    """How many sessions are simulated for each row."""
    return int(os.environ.get("INFERFORGE_CALIBRATION_SESSIONS", "200"))


@pytest.fixture
def show(capsys):
    """Print a row of the calibration's table past pytest's capture."""

    def row(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}")

    return row
