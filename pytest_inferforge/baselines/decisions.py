"""What people decided about stored sessions: the newest word about each of them holds."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_inferforge.records import DecisionKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_inferforge.records import Decision, SessionResult


def file_name(decision: Decision) -> str:
    """`20261121T003402123456Z-6166d6a1`: its time, and what tells it from others of that time."""
    stamp = _when(decision.at).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{stamp}-{secrets.token_hex(4)}"


def in_order(found: Iterable[tuple[str, Decision]]) -> tuple[Decision, ...]:
    """Oldest first; of two at the same moment, by the name of the file."""
    return tuple(d for _, d in sorted(found, key=lambda pair: (_when(pair[1].at), pair[0])))


def about(decisions: Sequence[Decision]) -> dict[str, Decision]:
    """Session id -> the newest decision whether it is accepted. `decisions`: oldest first."""
    return {
        session: decision
        for decision in decisions
        if decision.decision in (DecisionKind.ACCEPT, DecisionKind.REJECT)
        for session in decision.sessions
    }


def applied(sessions: Iterable[SessionResult], decisions: Sequence[Decision]) -> tuple[SessionResult, ...]:
    """The sessions, accepted as was decided; about which nobody decided, as they were stored."""
    newest = about(decisions)
    return tuple(
        replace(s, accepted=newest[s.id].decision is DecisionKind.ACCEPT) if s.id in newest else s
        for s in sessions
    )


def pin_of(decisions: Sequence[Decision]) -> Decision | None:
    """The pin that holds; None: none was made, or the newest was taken back."""
    pins = [d for d in decisions if d.decision in (DecisionKind.PIN, DecisionKind.UNPIN)]
    return pins[-1] if pins and pins[-1].decision is DecisionKind.PIN else None


def _when(at: str) -> datetime:
    """A time without a zone is UTC."""
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
