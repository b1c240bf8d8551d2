from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.engines import installation
from pytest_inferforge.engines.installation import Found, Way, find, version_of
from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers.spec import ServerSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCRIPT = Way(script="forged", needs="forged", arguments=("serve",))
MODULE = Way(module="forged.server", model_flag="--model")
WAYS = (SCRIPT, MODULE)
FORGED = {"forged": ("forged", "1.2.3")}


@pytest.fixture(autouse=True)
def _nothing_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    installation.ask.cache_clear()


def found(python: Path | None = None, ways: tuple[Way, ...] = WAYS, package: str | None = "forged") -> Found:
    spec = ServerSpec(engine="forged", python=None if python is None else str(python))
    return find(spec, ways, package=package, install="pip install forged")


def test_a_script_beside_the_named_python_is_used(environment: Callable[..., Path]) -> None:
    python = environment("env", FORGED, ("forged",))
    seen = found(python)
    assert seen == Found(
        way=SCRIPT,
        program=(str(python.parent / "forged"),),
        version="1.2.3",
        python=str(python),
        dists=("forged",),
    )
    assert seen.way.argv(seen.program, "m", ("--x",))[1:] == ("serve", "m", "--x")


def test_a_renamed_build_is_run_by_its_module(environment: Callable[..., Path]) -> None:
    python = environment("env", {"forged-cpu": ("forged", "1.2.3")}, ("forged",))
    seen = found(python)
    assert (seen.program, seen.version, seen.dists) == (
        (str(python), "-m", "forged.server"),
        "1.2.3",
        ("forged-cpu",),
    )
    assert seen.way.argv(seen.program, "m", ("--x",))[3:] == ("--model", "m", "--x")


def test_a_renamed_build_that_has_only_a_script_is_not_used(environment: Callable[..., Path]) -> None:
    python = environment("env", {"forged-cpu": ("forged", "1.2.3")}, ("forged",))
    with pytest.raises(EngineError) as caught:
        found(python, (SCRIPT,))
    where = python.parent / "forged"
    assert caught.value.seen == f"{where} asks for a distribution forged, forged is forged-cpu there"


def test_a_script_on_path_belongs_to_the_python_in_its_first_line(
    environment: Callable[..., Path],
    script: Callable[[Path, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = environment("env", FORGED)
    linked = script(tmp_path / "bin" / "forged", f"#!{python} -s")
    monkeypatch.setenv("PATH", str(linked.parent))
    assert (found().program, found().python) == ((str(linked),), str(python))


def test_env_in_the_first_line_is_looked_up(
    environment: Callable[..., Path],
    script: Callable[[Path, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = environment("env", FORGED)
    linked = script(tmp_path / "bin" / "forged", "#!/usr/bin/env -S python3 -u")
    monkeypatch.setenv("PATH", f"{linked.parent}:{python.parent}")
    assert found().python == str(python.with_name("python3"))


def test_a_script_of_a_shell_belongs_to_the_python_beside_it(
    environment: Callable[..., Path], script: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = environment("env", FORGED)
    script(python.parent / "forged", "#!/bin/sh")  # what pip writes where the path is long
    monkeypatch.setenv("PATH", str(python.parent))
    assert found().python == str(python)


def test_the_module_of_a_broken_script_is_run_by_the_scripts_python(
    environment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = environment("env", {"forged-cpu": ("forged", "1.2.3")}, ("forged",))
    monkeypatch.setenv("PATH", str(python.parent))
    assert found().program == (str(python), "-m", "forged.server")


def test_the_named_python_goes_before_path(
    environment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = environment("path", FORGED, ("forged",))
    monkeypatch.setenv("PATH", str(on_path.parent))
    named = environment("named", {"forged": ("forged", "2.0")}, ("forged",))
    assert found(named).version == "2.0"


def test_what_was_looked_at_is_said_when_nothing_is_there(environment: Callable[..., Path]) -> None:
    python = environment("env")
    with pytest.raises(EngineError, match="forged is not installed here") as caught:
        found(python)
    assert caught.value.seen == f"no forged beside {python}; {python} has no package forged"
    assert str(caught.value.do).startswith("pip install forged; or name the Python of its environment with")
    for option in ("--infer-python", "--infer-command", "--infer-image", "--infer-url"):
        assert option in str(caught.value.do)
    with pytest.raises(EngineError) as caught:
        found()
    assert caught.value.seen == f"no forged on PATH; {sys.executable} has no package forged"


def test_a_script_without_its_package_is_told(
    environment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = environment("env", scripts=("forged",))
    monkeypatch.setenv("PATH", str(python.parent))
    with pytest.raises(EngineError) as caught:
        found()
    script = python.parent / "forged"
    assert f"{script} belongs to no Python that has forged; {python} has no package" in str(caught.value.seen)


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be started") as caught:
        found(tmp_path / "none" / "python")
    assert str(tmp_path / "none" / "python") in caught.value.what
    assert "No such file" in str(caught.value.seen)
    with pytest.raises(EngineError, match="not installed here"):
        found(tmp_path / "none" / "python", (SCRIPT,))


def test_a_python_that_does_not_work_is_an_error_with_what_it_says(
    script: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    broken = script(tmp_path / "python", "#!/bin/sh")
    broken.write_text("#!/bin/sh\necho 'no module named encodings' >&2\nexit 3\n")
    with pytest.raises(EngineError, match="Python of the engine does not work") as caught:
        found(broken, (MODULE,))
    assert caught.value.seen == f"{broken}: no module named encodings"


def test_a_package_of_the_folder_that_we_run_in_is_no_installation(
    environment: Callable[..., Path],
    installing: Callable[[Path, str, str, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = environment("env")
    suite = tmp_path / "suite"
    installing(suite, "forged", "forged", "9.9")
    (suite / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(suite)
    with pytest.raises(EngineError, match="not installed here"):
        found(python)


def test_a_package_on_pythonpath_counts_as_it_does_for_the_engine(
    environment: Callable[..., Path],
    installing: Callable[[Path, str, str, str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = environment("env")
    installing(tmp_path / "extra", "forged", "forged", "1.2.3")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "extra"))
    assert found(python).version == "1.2.3"


def test_a_binary_is_asked_nothing(
    script: Callable[[Path, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = script(tmp_path / "bin" / "forged", "#!/bin/false")
    monkeypatch.setenv("PATH", str(binary.parent))
    seen = found(package=None, ways=(Way(script="forged"),))
    assert (seen.program, seen.version, seen.python) == ((str(binary),), None, None)


@given(
    st.lists(st.integers(0, 10**6), min_size=1), st.sampled_from(["", "rc1", ".dev3+cpu", "+cu126", ".post1"])
)
def test_the_numbers_of_a_version_come_back_whatever_follows(numbers: list[int], more: str) -> None:
    assert version_of(".".join(map(str, numbers)) + more) == tuple(numbers)


@given(st.text())
def test_no_text_is_too_strange_for_a_version(text: str) -> None:
    assert version_of(text) is None or all(number >= 0 for number in version_of(text) or ())


def test_versions_are_compared_as_numbers() -> None:
    assert (version_of("0.9") or ()) < (version_of("0.10.0rc1") or ()) < (version_of("1") or ())
    assert version_of("unknown") is None
