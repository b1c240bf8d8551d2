"""Hooks of ours that a conftest.py or another plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.hookspec
def pytest_inferforge_engines(config: pytest.Config) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Engines of your own: name -> a module, or any object with the names of `engines.protocol.Engine`."""
