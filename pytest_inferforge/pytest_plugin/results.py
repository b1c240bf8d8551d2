"""From runs to what a baseline stores."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.baselines import fingerprint
from pytest_inferforge.records import Fingerprint, SessionResult, TestResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.run import Run

SCHEMA = 1
METRIC_DEFINITIONS = "1"  # changes when a metric of pytest_inferforge.metrics is defined differently
_GPU = "gpu"  # the fact of telemetry that names models and count
_IDENTITY_FACTS = ("model_sha256", "model_revision", "model_ftype", "dtype", "quantization")


def test_result(
    key: str, declared: Declared, run: Run, schedule_hash: str, facts: Mapping[str, str]
) -> TestResult:
    """One test as it is stored. `facts`: what its server said of itself."""
    host = fingerprint.host_fingerprint()
    identity = declared.server.identity()
    settings = identity.pop("settings")
    soft = {f"server.{name}": str(value) for name, value in facts.items() if name not in _IDENTITY_FACTS}
    assert isinstance(settings, dict)
    soft |= {f"setting.{name}": str(value) for name, value in settings.items()}
    soft |= {
        f"server.{name}": str(value) for name, value in identity.items() if name in ("args", "env") and value
    }
    soft["client_priority"] = run.boots[-1].client_priority
    soft |= {name: value for name, value in run.boots[-1].facts.items() if name != _GPU}
    gpu = run.boots[-1].facts.get(_GPU)
    machine = {} if declared.server.url is not None else host.hard if gpu is None else {_GPU: gpu}
    if gpu is not None:
        soft |= host.hard  # the CPU is not what a server on a GPU is measured by
    return TestResult(
        nodeid=key,
        fingerprint=Fingerprint(
            hard={
                "workload": schedule_hash,
                **({"stop": "early"} if run.workload.stop == "early" else {}),  # fewer requests than it says
                "metric_definitions": METRIC_DEFINITIONS,
                **machine,  # a URL's hardware cannot be seen
            },
            identity={
                name: str(value)
                for name, value in {
                    "engine": identity["engine"],
                    "model": _model_name(identity["model"] or facts.get("model")),
                    **{name: facts[name] for name in _IDENTITY_FACTS if name in facts},
                }.items()
            },
            soft=soft,
        ),
        gated=declared.gated,
        boots=tuple(boot.result for boot in run.boots),
        workload=run.workload.identity(),
        server={**identity, "settings": settings},
    )


def session_result(
    *,
    id: str,  # noqa: A002 (the record's own word)
    started_at: dt.datetime,
    version: str,
    seed: int,
    boots: int,
    keys: Mapping[str, str],
    root: Path,
    tests: Sequence[TestResult],
    complete: bool,
    accepted: bool,
) -> SessionResult:
    """The session as it is stored; `keys` are those of --infer-key."""
    host = fingerprint.host_fingerprint()
    return SessionResult(
        schema=SCHEMA,
        id=id,
        started_at=started_at.astimezone(dt.UTC).isoformat(timespec="seconds"),
        version=version,
        seed=seed,
        fingerprint=Fingerprint(hard=dict(keys), soft={**host.soft, "client_cpu": host.hard["cpu_model"]}),
        planned_boots=boots,
        complete=complete,
        accepted=accepted,
        tests=tuple(tests),
        source=fingerprint.git_source(root),
    )


def _model_name(model: object) -> str:
    """A model file is known by its name and hash, not by the folder it lies in on this machine."""
    name = str(model or "")
    return Path(name).name if name.endswith(".gguf") else name
