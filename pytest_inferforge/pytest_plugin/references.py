"""Whether what a baseline was measured on can be booted here, beside what is tested. Knows no pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_inferforge.servers.spec import pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.pytest_plugin.declared import Declared
    from pytest_inferforge.records import SessionResult
    from pytest_inferforge.servers.spec import ServerSpec

_MAY_DIFFER = ("model", "revision", "settings")


def of_baseline(
    declared: Mapping[str, Declared], reference: Sequence[SessionResult]
) -> dict[str, ServerSpec]:
    """Key of a test -> the server of the newest accepted session, where it is this one but for its settings.

    Only model, revision and settings are taken from a stored session: a program, an image or an argument
    that a file names is never started. A server that differs in nothing is no reference: it would be what
    is tested.
    """
    accepted = [session for session in reference if session.accepted]
    newest = max(accepted, key=lambda s: (s.started_at, s.id), default=None)
    stored = {test.nodeid: test.server for test in newest.tests} if newest else {}
    return {
        key: spec
        for key, d in declared.items()
        if key in stored and (spec := _reference(d.server, stored[key])) is not None
    }


def _reference(spec: ServerSpec, stored: Mapping[str, object]) -> ServerSpec | None:
    here = spec.identity()
    differing = [name for name in {*here, *stored} if here.get(name) != stored.get(name)]
    if spec.url is not None or not differing or any(name not in _MAY_DIFFER for name in differing):
        return None
    model, revision, settings = (stored.get(name) for name in _MAY_DIFFER)
    if not isinstance(settings, dict):
        return None
    return replace(
        spec,
        model=None if model is None else str(model),
        revision=None if revision is None else str(revision),
        settings=pairs(settings),
    )
