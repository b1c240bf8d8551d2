"""The `.regression` item that stands beside each load test under --infer-compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from _pytest.fixtures import FuncFixtureInfo

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

SUFFIX = ".regression"
MEASURING = frozenset({"infer_run", "infer_load", "infer_quality"})
_NOT_INHERITED = frozenset({"xfail", "timeout", "usefixtures", "asyncio", "anyio", "trio", "flaky"})


class RegressionItem(pytest.Function):
    """Compares one test's run with the baseline; collected beside the test, run after all tests.

    It takes over the test's markers for selection and skipping, but no xfail, timeout or fixture.
    """

    is_infer_regression = True
    original: pytest.Function

    @classmethod
    def beside(cls, original: pytest.Function) -> RegressionItem:
        """The sibling of a collected test: `test_chat[q4]` -> `test_chat.regression[q4]`."""
        base = original.originalname
        callspec = getattr(original, "callspec", None)
        item: RegressionItem = cls.from_parent(
            original.parent,
            name=base + SUFFIX + original.name[len(base) :],
            callobj=_compare,
            originalname=base + SUFFIX,
            callspec=callspec,  # node ids of parametrized tests are made from it
            fixtureinfo=FuncFixtureInfo((), (), [], {}),
        )
        item.original = original
        item.own_markers[:] = original.own_markers
        item.keywords.update({mark.name: mark for mark in original.own_markers})
        if callspec is not None:
            item.keywords[callspec.id] = True
        return item

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        for node, mark in super().iter_markers_with_node(name):
            if mark.name not in _NOT_INHERITED:
                yield node, mark

    def setup(self) -> None:
        """Nothing: it uses no fixture."""

    def runtest(self) -> None:
        from pytest_inferforge.pytest_plugin import adapter_of

        adapter_of(self.config).compare(self)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        path, line, name = self.original.reportinfo()
        return path, line, f"regression of {name}"


def with_siblings(made: Any) -> Any:
    """Each collected load test and its sibling, the test first."""
    items = made if isinstance(made, list) else [made]
    out: list[Any] = []
    for item in items:
        out.append(item)
        compared = next(item.iter_markers("infer_variants"), None) if isinstance(item, pytest.Item) else None
        if isinstance(item, pytest.Function) and MEASURING & set(item.fixturenames) and compared is None:
            out.append(RegressionItem.beside(item))
    return out if len(out) > len(items) else made


def _compare() -> None:
    """What a regression item "runs"; the comparison is made in `RegressionItem.runtest`."""
