"""Engines in environments of their own, and the model that they serve."""

import importlib.util
import subprocess
from pathlib import Path

import psutil
import pytest

from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.words import WORDS

ENVIRONMENTS = Path(__file__).parent / "environments"


def load_make():
    spec = importlib.util.spec_from_file_location("make_environments", ENVIRONMENTS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = load_make()


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter of the environment with vLLM for CPU and transformers."""
    python = MAKE.python("vllm")
    if not python.is_file():
        pytest.skip(f"no environment with vLLM in {MAKE.folder()}: make it with {ENVIRONMENTS / 'make.py'}")
    return str(python)


@pytest.fixture(scope="session")
def tiny_llama(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random Llama, as transformers saves it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    words = folder.parent / "words.txt"
    words.write_text(" ".join(WORDS))
    subprocess.run(
        [vllm_python, str(ENVIRONMENTS / "tiny_llama.py"), str(folder), str(words)],
        check=True,
        capture_output=True,
    )
    return str(folder)


@pytest.fixture(scope="session")
def backends(request: pytest.FixtureRequest):
    """A function: the options that boot an engine, by its name."""

    def options(name: str) -> list[str]:
        if name == "llama.cpp":
            return ["--infer-backend=llama.cpp"]
        python = request.getfixturevalue("vllm_python")
        model = request.getfixturevalue("tiny_llama")
        common = [f"--infer-backend={name}", f"--infer-python={python}", f"--infer-model={model}"]
        common.append("--infer-set=dtype=float32")  # bfloat16 is not for every CPU
        # other tests run beside this one: threads that wait for each other on busy cores take for ever
        common += ["--infer-env=OMP_NUM_THREADS=1", "--infer-env=VLLM_CPU_OMP_THREADS_BIND=nobind"]
        if name == "vllm":
            return [*common, "--infer-set=eager=true", "--infer-set=max_model_len=2048"]
        return [*common, "--infer-set=device=cpu"]

    return options


@pytest.fixture(scope="session")
def engines_python(vllm_python: str) -> str:
    return vllm_python


@pytest.fixture(scope="session")
def unpacked():
    """A function: the folder of an engine's unpacked wheel, an empty word for those that are installed."""

    def folder(name: str) -> str:
        if name not in MAKE.UNPACKED:
            return ""
        found = MAKE.unpacked(name)
        if not found.is_dir():
            pytest.skip(f"no wheel of {name} in {found}: unpack it with {ENVIRONMENTS / 'make.py'}")
        return str(found)

    return folder


class MarkedSuite(Suite):
    """A suite all of whose processes can be found: they inherit a variable."""

    def start(self, *arguments, env=None, log=None):
        return super().start(
            *arguments, env={**(env or {}), "INFERFORGE_TEST_FOLDER": str(self.folder)}, log=log
        )

    def running(self) -> list[str]:
        """Names of what it started and still runs."""
        found = []
        for process in psutil.process_iter(["name"]):
            try:
                if process.environ().get("INFERFORGE_TEST_FOLDER") == str(self.folder):
                    found.append(process.info["name"])
            except psutil.Error:
                continue
        return found


@pytest.fixture
def suite(tmp_path, calm):
    made = MarkedSuite(tmp_path)
    made.write("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    made.write("inferforge.toml", calm)
    return made
