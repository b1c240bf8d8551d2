from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_inferforge import dialects, engines
from pytest_inferforge.engines.protocol import VOCABULARY, Engine
from pytest_inferforge.errors import UsageError

NAMES = [name for name in [*vars(Engine), *Engine.__annotations__] if not name.startswith("_")]


@pytest.mark.parametrize("name", engines.ENGINES)
def test_every_engine_has_what_the_protocol_lists(name: str) -> None:
    module = engines.engine(name)
    assert {"check", "launch", "STARTS_PROCESS"} <= set(NAMES)
    for wanted in NAMES:
        assert hasattr(module, wanted), wanted
        promised = getattr(Engine, wanted, None)
        if promised is not None:
            assert list(inspect.signature(promised).parameters) == list(
                inspect.signature(getattr(module, wanted)).parameters
            )


@pytest.mark.parametrize("name", engines.ENGINES)
def test_settings_are_neutral_or_the_engines_own(name: str) -> None:
    assert set(engines.engine(name).SETTINGS) <= {*VOCABULARY, "threads", "dialect"}


@pytest.mark.parametrize("name", ["llamacpp", "llama-cpp", "Llama.cpp"])
def test_an_unknown_engine_is_refused_with_the_nearest_name(name: str) -> None:
    with pytest.raises(UsageError, match="there is no engine") as caught:
        engines.engine(name)
    assert caught.value.do == "did you mean llama.cpp?"


def test_a_name_that_is_like_none_is_refused_with_all_names() -> None:
    with pytest.raises(UsageError) as caught:
        engines.engine("zzz")
    assert caught.value.do == "choose one of llama.cpp, url"


def test_specs_and_the_registry_import_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import pytest_inferforge.servers.spec;"
        "import pytest_inferforge.engines;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    root = Path(engines.__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['pytest_inferforge']"


@pytest.mark.parametrize(("name", "dialect"), dialects.DIALECTS.items())
def test_dialects_know_their_names_and_can_be_hashed(name: str, dialect: dialects.Dialect) -> None:
    assert dialect.name == name
    hash(dialect)
