"""The pytest plugin: options, markers and hooks. Loads the standard library and pytest only.

Everything else is imported when a test uses a fixture of ours, so that a project that does not pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_inferforge.pytest_plugin.cmdline import MARKERS, add_options
from pytest_inferforge.pytest_plugin.fixtures import infer_load, infer_quality, infer_run, infer_server

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_inferforge.pytest_plugin.adapter import Adapter

__all__ = ["infer_load", "infer_quality", "infer_run", "infer_server"]

FIXTURES = frozenset({"infer_server", "infer_load", "infer_run", "infer_quality"})
OUR_MARKERS = ("infer_server", "infer_workload", "infer_slo", "infer_quality", "infer_variants")
ADAPTER = pytest.StashKey["Adapter"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_inferforge.pytest_plugin import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def adapter_of(config: pytest.Config) -> Adapter:
    """The adapter of this pytest run, made when it is first needed."""
    if ADAPTER not in config.stash:
        from pytest_inferforge.pytest_plugin.adapter import Adapter

        config.stash[ADAPTER] = Adapter(config)
    return config.stash[ADAPTER]


def is_ours(item: pytest.Item) -> bool:
    """Whether a test uses our fixtures, carries our markers, or is a regression item."""
    if getattr(item, "is_infer_regression", False) or FIXTURES & set(getattr(item, "fixturenames", ())):
        return True
    return any(mark.name in OUR_MARKERS for mark in item.iter_markers())


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost: sees what asyncio plugins made of a test
def pytest_pycollect_makeitem(collector: Any) -> Generator[None, Any, Any]:
    made = yield
    option = collector.config.option
    if made is None or (option.infer_compare is None and option.infer_against is None):
        return made
    from pytest_inferforge.pytest_plugin.items import with_siblings

    return with_siblings(made)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(is_ours(item) for item in items):
        adapter_of(config).select(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Comparisons come last, whatever other plugins (--ff, --nf, a random order) made of the order."""
    if ADAPTER in session.config.stash:
        session.items.sort(key=lambda item: getattr(item, "is_infer_regression", False))


def pytest_deselected(items: list[pytest.Item]) -> None:
    ours = [item for item in items if is_ours(item)]
    if ours:
        adapter_of(ours[0].config).deselect(ours)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    return adapter_of(config).collection_lines() if ADAPTER in config.stash else []


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """A plan was asked for: nothing is run."""
    return True if session.config.option.infer_plan else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:  # noqa: ARG001
    if ADAPTER in item.config.stash:
        adapter_of(item.config).before(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    if ADAPTER not in item.config.stash:
        return (yield)
    try:
        result = yield
    except BaseException:
        adapter_of(item.config).judge(item, body_failed=True)
        raise
    adapter_of(item.config).judge(item, body_failed=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if ADAPTER in item.config.stash:
        adapter_of(item.config).reported(item, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if ADAPTER in session.config.stash:
        session.exitstatus = adapter_of(session.config).finish(int(exitstatus))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if ADAPTER in config.stash:
        adapter_of(config).summarize(terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    if ADAPTER in config.stash:
        adapter_of(config).close()
