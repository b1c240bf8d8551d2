"""Shards of one session put together, so that they are judged as one family."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.records import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.records import SessionResult, TestResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A session of several shards, and what a person should know of how it was put together."""

    session: SessionResult
    notes: tuple[str, ...]


def merged(shards: Sequence[SessionResult]) -> Merged:
    """One session from its shards, in the order in which they were started.

    Of a test in two shards the first one started counts: measuring again until it looks better is no way to
    a verdict. What the shards' fingerprints do not share goes down to their tests, so that each test keeps
    the conditions under which it was measured. It is complete if every shard is, and accepted likewise;
    whether the shards are the whole suite is for the caller to say.

    Raises:
        UsageError: none, or measured with other seeds or numbers of boots.
    """
    if not shards:
        raise UsageError("there are no shards to put together")
    for name, values in (
        ("planned boots", {s.planned_boots for s in shards}),
        ("seed", {s.seed for s in shards}),
    ):
        if len(values) > 1:
            raise UsageError(
                "shards of one session must be measured alike",
                seen=f"{name}: {', '.join(str(v) for v in sorted(values))}",
                do="run them with the same options, under a new --infer-session-id",
            )
    first = shards[0]
    shared = Fingerprint(
        hard=_shared([s.fingerprint.hard for s in shards]),
        identity=_shared([s.fingerprint.identity for s in shards]),
        soft=_shared([s.fingerprint.soft for s in shards]),
    )
    tests: dict[str, TestResult] = {}
    twice: dict[str, None] = {}
    for shard in shards:
        own = _without(shard.fingerprint, shared)
        for test in shard.tests:
            if test.nodeid in tests:
                twice[test.nodeid] = None
            else:
                tests[test.nodeid] = replace(test, fingerprint=own.merged(test.fingerprint))
    session = replace(
        first,
        fingerprint=shared,
        complete=all(s.complete for s in shards),
        accepted=all(s.accepted for s in shards),
        tests=tuple(tests.values()),
        source=_source(shards),
    )
    return Merged(session=session, notes=_notes(shards, tuple(twice)))


def _notes(shards: Sequence[SessionResult], twice: Sequence[str]) -> tuple[str, ...]:
    notes = [f"{nodeid} is in several shards: the first one started counts" for nodeid in twice]
    for what, values in (
        ("commits", {s.source["commit"][:10] for s in shards if "commit" in s.source}),
        ("versions of pytest-inferforge", {s.version for s in shards}),
    ):
        if len(values) > 1:
            notes.append(f"the shards come from several {what}: {', '.join(sorted(values))}")
    if red := sum(not s.accepted for s in shards):
        alone = "was red by itself" if red == 1 else "were red by themselves"
        notes.append(f"{red} of {len(shards)} shards {alone}")
    if parts := sum(not s.complete for s in shards):
        notes.append(f"{parts} of {len(shards)} shards could not measure all that they selected")
    return tuple(notes)


def _source(shards: Sequence[SessionResult]) -> dict[str, str]:
    source = _shared([s.source for s in shards])
    if any(s.source.get("dirty") == "true" for s in shards):
        source["dirty"] = "true"
    return source


def _shared(tables: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = tables
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _without(whole: Fingerprint, shared: Fingerprint) -> Fingerprint:
    return Fingerprint(
        hard={k: v for k, v in whole.hard.items() if k not in shared.hard},
        identity={k: v for k, v in whole.identity.items() if k not in shared.identity},
        soft={k: v for k, v in whole.soft.items() if k not in shared.soft},
    )
