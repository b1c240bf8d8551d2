"""The whole gate: a first look at stored sessions, and more boots for what looks worse.

What looks worse is decided by fresh boots of both sides in turns where the reference can be booted here, else
by more boots of this server, whose mean with the first is still one session.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_inferforge import metrics
from pytest_inferforge.gate import tails
from pytest_inferforge.gate.abba import decided_by_turns
from pytest_inferforge.gate.comparing import Screened, screen, suspicious
from pytest_inferforge.gate.evidence import BEYOND, gated_with_tails, history_of, tail_metrics
from pytest_inferforge.gate.scale import margin_of
from pytest_inferforge.gate.verdicts import Weighed, undecided
from pytest_inferforge.gate.weighing import weigh
from pytest_inferforge.records import Comparison, ComparisonVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from pytest_inferforge.gate.abba import Slot
    from pytest_inferforge.options import JudgeOptions
    from pytest_inferforge.records import BootResult, SessionResult

    Keys = tuple[str, ...]

CONFIRMED = "confirmed"  # `Comparison.evidence` of a session mean with confirming boots


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The reference can be booted here. `measure`: boots both in turns for these tests (keys).

    `name`: what it is called in results, as `against:previous`. `can`: the keys it can measure again; the
    others are left to the stored sessions.
    """

    name: str
    can: Container[str]
    measure: Callable[[Keys], Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirming:
    """The reference cannot be booted. `measure`: boots this server again for these tests (keys).

    `can`: as of `Turns`.
    """

    can: Container[str]
    measure: Callable[[Keys], Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of it: `slots` of turns, or `boots` of confirming; `fault`: why there is less than asked."""

    slots: tuple[Slot, ...] = ()
    boots: Mapping[str, tuple[BootResult, ...]] = field(default_factory=dict)
    fault: str = ""


def judge_session(
    current: SessionResult,
    reference: Sequence[SessionResult],
    *,
    name: str,
    options: JudgeOptions,
    more: Turns | Confirming | None,
    pinned: Sequence[SessionResult] = (),
    under_test: frozenset[str] = frozenset(),
) -> tuple[Comparison, ...]:
    """The verdict on every gated metric of a session; `more` gives it more boots when it asks for them.

    None for `more`: the stored sessions alone decide. `pinned`: sessions of a release, which small steps must
    not lead away from: they have a wider margin and a small part of alpha of their own.

    Source: docs/how-it-judges.md.
    """
    spent = options.pinned_alpha_share if pinned else 0.0
    first = screen(current, reference, name=name, options=options, under_test=under_test)
    first = replace(first, alpha_share=1.0 - spent)
    if isinstance(more, Turns):
        found = _by_turns(first, more, options)
    elif isinstance(more, Confirming):
        found = _confirmed(first, current, reference, more, options, under_test)
    else:
        found = first.decided(options)
    if pinned:
        wide = _wide(options)
        held = screen(current, pinned, name=f"{name} (pinned)", options=wide, under_test=under_test)
        found += tuple(c for c in replace(held, alpha_share=spent).decided(wide) if c.verdict.judged)
    return found


def judge_against(current: SessionResult, more: Turns, *, options: JudgeOptions) -> tuple[Comparison, ...]:
    """Every gated metric against a reference that is booted here in turns, without any stored session."""
    drafts = [
        replace(d, reference=more.name)
        for d in screen(current, (), name="", options=options).decided(options)
    ]
    tests = {test.nodeid: gated_with_tails(test) for test in current.tests}
    drafts += [_beside(d, options) for d in drafts if _share_of(d) in tests[d.nodeid]]
    asked = [d for d in drafts if d.nodeid in more.can and _open(d)]
    if not asked:
        return tuple(drafts)
    measured = more.measure(tuple(dict.fromkeys(d.nodeid for d in asked)))
    blank = [replace(d, reason="") for d in asked]
    results = decided_by_turns(blank, measured.slots, reference=more.name, options=options)
    said = {
        (c.nodeid, c.metric): replace(c, reason="; ".join(r for r in (measured.fault, c.reason) if r))
        for c in results
    }
    return tuple(said.get((d.nodeid, d.metric), d) for d in drafts)


def _share_of(draft: Comparison) -> str | None:
    """The share beyond the reference's quantile that stands beside a tail quantile."""
    return next((BEYOND[quantity] for quantity, _ in tail_metrics((draft.metric,))), None)


def _beside(draft: Comparison, options: JudgeOptions) -> Comparison:
    share = _share_of(draft) or draft.metric
    return replace(draft, metric=share, margin=margin_of(metrics.metric(share), options))


def _by_turns(first: Screened, more: Turns, options: JudgeOptions) -> tuple[Comparison, ...]:
    """Suspects, and what no stored session can be compared with, are decided by fresh boots alone.

    These boots are independent of the first look, so that Holm runs over the suspects only; nothing is red
    at once, which would be a second chance to be red by accident.
    """
    asked = [
        k
        for k, w in enumerate(first.weighed)
        if _draft(w).nodeid in more.can
        and (suspicious(w, options) or (isinstance(w, Comparison) and _open(w)))
    ]
    found = list(first.decided(options))
    if not asked:
        return tuple(found)
    measured = more.measure(_keys(first, asked))
    drafts = [replace(_draft(first.weighed[k]), reason="") for k in asked]
    results = decided_by_turns(drafts, measured.slots, reference=more.name, options=options)
    adjusted = first.adjusted()
    for k, result in zip(asked, results, strict=True):
        w, p = first.weighed[k], adjusted[k]
        why = "; ".join(part for part in (measured.fault, result.reason) if part)
        if result.verdict.judged:
            found[k] = result if not measured.fault else replace(result, reason=why)
        elif isinstance(w, Weighed):
            found[k] = undecided(w, p, first.family, options, why)
        else:
            found[k] = replace(w, reason="; ".join(part for part in (w.reason, why) if part))
    return tuple(found)


def _confirmed(
    first: Screened,
    current: SessionResult,
    reference: Sequence[SessionResult],
    more: Confirming,
    options: JudgeOptions,
    under_test: frozenset[str],
) -> tuple[Comparison, ...]:
    """By the mean with confirming boots, which is still one session; Holm over the whole family.

    Nothing is red by its first boot alone: one bad boot looks like a slower server, and only another boot
    can tell them apart.
    """
    found = list(first.decided(options))
    asked = [
        k for k, w in enumerate(first.weighed) if suspicious(w, options) and _draft(w).nodeid in more.can
    ]
    if not asked:
        return tuple(found)
    measured = more.measure(_keys(first, asked))
    tests = tuple(replace(t, boots=(*t.boots, *measured.boots.get(t.nodeid, ()))) for t in current.tests)
    most = max((b.boot for t in tests for b in t.boots), default=current.planned_boots)
    whole = replace(current, tests=tests, planned_boots=max(most, current.planned_boots))
    whole, history = tails.alike(whole, history_of(reference, without=current.id), under_test)
    by_key = {t.nodeid: t for t in whole.tests}
    second = list(first.weighed)
    for k in asked:
        draft = _draft(second[k])
        if measured.boots.get(draft.nodeid):
            blank = Comparison(
                nodeid=draft.nodeid,
                metric=draft.metric,
                verdict=ComparisonVerdict.INCOMPARABLE,
                reference=draft.reference,
                margin=draft.margin,
                evidence=CONFIRMED,
            )
            found_now = weigh(blank, whole, by_key[draft.nodeid], history, options, under_test)
            second[k] = _noted(found_now, len(measured.boots[draft.nodeid]))
    again = replace(first, weighed=tuple(second)).decided(options)
    for k in asked:
        found[k] = again[k]
        if measured.fault:
            found[k] = replace(again[k], reason=f"{measured.fault}; {again[k].reason}")
    return tuple(found)


def _noted(weighed: Weighed | Comparison, boots: int) -> Weighed | Comparison:
    if isinstance(weighed, Comparison):
        return weighed
    said = f"with {boots} confirming boot{'s' if boots > 1 else ''}, all of them one session"
    return replace(weighed, notes=(said, *weighed.notes))


def _open(c: Comparison) -> bool:
    """Measured, and with nothing stored to compare it with."""
    return not c.verdict.judged and c.value is not None


def _draft(weighed: Weighed | Comparison) -> Comparison:
    return weighed.draft if isinstance(weighed, Weighed) else weighed


def _keys(first: Screened, asked: Sequence[int]) -> Keys:
    return tuple(dict.fromkeys(_draft(first.weighed[k]).nodeid for k in asked))


def _wide(options: JudgeOptions) -> JudgeOptions:
    factor = options.pinned_margin_factor
    return replace(
        options,
        margin_mean=options.margin_mean * factor,
        margin_p50=options.margin_p50 * factor,
        margin_p90=options.margin_p90 * factor,
        margin_p99=options.margin_p99 * factor,
        margin_boot_time=options.margin_boot_time * factor,
        margin_ratio_points=options.margin_ratio_points * factor,
    )
