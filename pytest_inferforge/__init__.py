"""pytest-inferforge: is this inference server still fast enough, and would I bet on it?

The names here are for test suites; they are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_inferforge.errors import (
        BaselineError,
        EngineError,
        InferforgeError,
        MeasuringError,
        UsageError,
    )
    from pytest_inferforge.run import Run
    from pytest_inferforge.workload.arrivals import Closed, Constant, Poisson
    from pytest_inferforge.workload.lengths import Fixed, Lognormal, Uniform

__version__ = "0.1.0"

_HOMES = {
    "BaselineError": "errors",
    "EngineError": "errors",
    "InferforgeError": "errors",
    "MeasuringError": "errors",
    "UsageError": "errors",
    "Run": "run",
    "Closed": "workload.arrivals",
    "Constant": "workload.arrivals",
    "Poisson": "workload.arrivals",
    "Fixed": "workload.lengths",
    "Lognormal": "workload.lengths",
    "Uniform": "workload.lengths",
}

__all__ = [
    "BaselineError",
    "Closed",
    "Constant",
    "EngineError",
    "Fixed",
    "InferforgeError",
    "Lognormal",
    "MeasuringError",
    "Poisson",
    "Run",
    "Uniform",
    "UsageError",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
