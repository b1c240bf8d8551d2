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
    from pytest_inferforge.workload.arrivals import (
        Burst,
        Closed,
        Constant,
        Gamma,
        Poisson,
        Stage,
        Stages,
        Stress,
        Trace,
    )
    from pytest_inferforge.workload.content import Images, Pause, Prefixes
    from pytest_inferforge.workload.lengths import Empirical, Fixed, Lognormal, Mixture, Normal, Uniform

__version__ = "0.1.0"

_HOMES = {
    "BaselineError": "errors",
    "EngineError": "errors",
    "InferforgeError": "errors",
    "MeasuringError": "errors",
    "UsageError": "errors",
    "Run": "run",
    "Burst": "workload.arrivals",
    "Closed": "workload.arrivals",
    "Constant": "workload.arrivals",
    "Gamma": "workload.arrivals",
    "Poisson": "workload.arrivals",
    "Stage": "workload.arrivals",
    "Stages": "workload.arrivals",
    "Stress": "workload.arrivals",
    "Trace": "workload.arrivals",
    "Images": "workload.content",
    "Pause": "workload.content",
    "Prefixes": "workload.content",
    "Empirical": "workload.lengths",
    "Fixed": "workload.lengths",
    "Lognormal": "workload.lengths",
    "Mixture": "workload.lengths",
    "Normal": "workload.lengths",
    "Uniform": "workload.lengths",
}

__all__ = [
    "BaselineError",
    "Burst",
    "Closed",
    "Constant",
    "Empirical",
    "EngineError",
    "Fixed",
    "Gamma",
    "Images",
    "InferforgeError",
    "Lognormal",
    "MeasuringError",
    "Mixture",
    "Normal",
    "Pause",
    "Poisson",
    "Prefixes",
    "Run",
    "Stage",
    "Stages",
    "Stress",
    "Trace",
    "Uniform",
    "UsageError",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
