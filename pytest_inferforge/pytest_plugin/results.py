"""From runs to what a baseline stores."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_inferforge.baselines import fingerprint
from pytest_inferforge.records import Fingerprint, SessionResult, TestResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.pytest_plugin.qualities import Quality
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
    assert isinstance(settings, dict)
    soft = _soft(identity, settings, facts)
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
            identity=_identity(identity, facts),
            soft=soft,
        ),
        gated=declared.gated,
        boots=tuple(boot.result for boot in run.boots),
        workload=run.workload.identity(),
        server={**identity, "settings": settings},
    )


def graded_result(
    declared: Declared, measured: TestResult | None, quality: Quality, facts: Mapping[str, str]
) -> TestResult:
    """A test with its quality; `measured`: what its load gave, None: it has none."""
    assert declared.quality is not None
    margin = declared.quality.not_worse_than
    outcomes = tuple(replace(outcomes, margin=margin) for outcomes in quality.outcomes.values())
    if measured is not None:
        return replace(measured, quality=outcomes)
    machine = dict(fingerprint.host_fingerprint().hard) if declared.server.url is None else {}
    identity = declared.server.identity()
    settings = identity.pop("settings")
    assert isinstance(settings, dict)
    return TestResult(
        nodeid=declared.key,
        fingerprint=Fingerprint(
            identity=_identity(identity, facts),
            soft=machine | _soft(identity, settings, facts),
        ),
        gated=(),
        boots=(),
        quality=outcomes,
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


def _identity(identity: Mapping[str, object], facts: Mapping[str, str]) -> dict[str, str]:
    """What a server is, whatever it is set to."""
    known = {
        "engine": identity["engine"],
        "model": _model_name(identity["model"] or facts.get("model")),
        **{name: facts[name] for name in _IDENTITY_FACTS if name in facts},
    }
    return {name: str(value) for name, value in known.items()}


def _soft(
    identity: Mapping[str, object], settings: Mapping[str, object], facts: Mapping[str, str]
) -> dict[str, str]:
    """What it said of itself, and how it was set."""
    soft = {f"server.{name}": str(value) for name, value in facts.items() if name not in _IDENTITY_FACTS}
    soft |= {f"setting.{name}": str(value) for name, value in settings.items()}
    return soft | {
        f"server.{name}": str(value) for name, value in identity.items() if name in ("args", "env") and value
    }


def _model_name(model: object) -> str:
    """A model file is known by its name and hash, not by the folder it lies in on this machine."""
    name = str(model or "")
    return Path(name).name if name.endswith(".gguf") else name


def doubts_about(result: SessionResult, before: Sequence[SessionResult]) -> list[str]:
    """What makes a saved session hard to trace later, a line each."""
    lines = []
    if result.source.get("dirty") == "true":
        lines.append("  warning: saved from a tree with uncommitted changes, which its commit does not show")
    branches = [session.source["branch"] for session in before if "branch" in session.source]
    here = result.source.get("branch")
    if here and branches and here != branches[-1]:
        lines.append(f"  warning: saved from branch {here}; the session before it came from {branches[-1]}")
    return lines
