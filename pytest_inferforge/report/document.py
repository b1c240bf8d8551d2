"""The JSON that outside tools may rely on (schema 1). Fields may be added, never changed.

Bounds are in the metric's unit; null is unbounded or not measured; a ratio is current over reference.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_inferforge.outcomes import QualityResult
    from pytest_inferforge.records import Comparison, SessionResult, SloResult, TestResult

    Name = tuple[str, str | None, str | None, str | None]

SCHEMA = 1
_COMPARISON = (
    "nodeid", "metric", "verdict", "ratio", "lower", "upper", "p", "p_adjusted", "mde_ratio", "reference",
    "reference_value", "value", "margin", "n_reference", "n_current_boots", "evidence", "slots",
    "trend_ratio", "reason",
)  # fmt: skip
_SLO = (
    "text",
    "metric",
    "verdict",
    "value",
    "limit",
    "lower",
    "upper",
    "n",
    "n_effective",
    "unit",
    "implicit",
    "reason",
)


def document(
    result: SessionResult,
    *,
    verdict: str,
    exit_reason: str,
    tests: Sequence[TestResult],
    slos: Mapping[str, Sequence[SloResult]],
    boots: Mapping[str, Sequence[Mapping[str, Any]]],
    names: Mapping[str, Name],
    comparisons: Sequence[Comparison],
    baseline: str | None,
    not_selected: int,
    not_exercised: Sequence[str],
    more_boots: Mapping[str, Any],
    quality: Sequence[QualityResult],
) -> dict[str, Any]:
    """The document as plain values.

    `tests`: every run, also those that no baseline keeps. `slos`: by the key of a test. `boots`: by the same
    key, what else is told of each boot. `names`: key -> (node id, name of a run made by hand, class of
    requests, variant).
    """
    return {
        "schema": SCHEMA,
        "session": {
            "id": result.id,
            "started_at": result.started_at,
            "version": result.version,
            "seed": result.seed,
            "verdict": verdict,
            "exit_reason": exit_reason,
            "fingerprint": asdict(result.fingerprint),
            "source": dict(result.source),
            "comparisons_not_selected": not_selected,
            "not_exercised": list(not_exercised),
            "more_boots": dict(more_boots),
        },
        "tests": [
            _test(test, slos.get(test.nodeid, ()), boots.get(test.nodeid, ()), names) for test in tests
        ],
        "comparisons": [_comparison(c, names, baseline) for c in comparisons],
        "quality": [_quality(r) for r in quality],
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write it whole or not at all; infinities, which JSON does not have, become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)


def _test(
    test: TestResult,
    slos: Sequence[SloResult],
    more: Sequence[Mapping[str, Any]],
    names: Mapping[str, Name],
) -> dict[str, Any]:
    nodeid, name, class_name, variant = names.get(test.nodeid, (test.nodeid, None, None, None))
    return {
        "nodeid": nodeid,
        "variant": variant,
        "class": class_name,
        "name": name,
        "workload": dict(test.workload),
        "server": {**test.server, "fingerprint": asdict(test.fingerprint)},
        "boots": [
            {
                "boot": boot.boot,
                "position": boot.position,
                "ready_s": boot.ready_s,
                "requests": asdict(boot.requests),
                "metrics": dict(boot.metrics),
                "validity": {"verdict": boot.verdict, "reasons": list(boot.reasons)},
                **(more[k] if k < len(more) else {}),
            }
            for k, boot in enumerate(test.boots)
        ],
        "slo": [{key: getattr(result, key) for key in _SLO} for result in slos],
    }


def _comparison(c: Comparison, names: Mapping[str, Name], baseline: str | None) -> dict[str, Any]:
    nodeid, name, class_name, variant = names.get(c.nodeid, (c.nodeid, None, None, None))
    plain = {key: getattr(c, key) for key in _COMPARISON}
    return {
        **plain,
        "nodeid": nodeid,
        "variant": variant,
        "class": class_name,
        "name": name,
        "baseline": baseline,
    }


def _quality(r: QualityResult) -> dict[str, Any]:
    nodeid, _, variant = r.nodeid.partition("::variant=")
    return {**asdict(r), "nodeid": nodeid, "variant": variant or None}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int) else str(value)
