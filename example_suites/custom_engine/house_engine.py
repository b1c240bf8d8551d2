"""How the server in house_server.py is started, set up and asked: what pytest-inferforge has to know of it.

An engine is a module, or any object, with the names below; `pytest_inferforge.engines.protocol.Engine` lists
and explains them. conftest.py beside this file makes it known under the name "house".
"""

import sys
from pathlib import Path

import httpx

from pytest_inferforge.engines.protocol import Launch, Profiler, Spec
from pytest_inferforge.engines.settings import Table, flag, whole, write
from pytest_inferforge.errors import UsageError

SERVER = Path(__file__).with_name("house_server.py")

# Each setting: how its value is read, and how the server is told. The first has the name that all engines
# give it, so that a test can ask for it whatever it runs on; the second is this server's own.
TABLE: Table = {
    "max_num_seqs": (whole(), flag("--slots")),
    "gap_ms": (whole(), flag("--gap-ms")),
}
SETTINGS = tuple(TABLE)
STARTS_PROCESS = True
PROFILER: Profiler | None = None  # it has none
COMPILING: str | None = None  # it never compiles; else a regular expression of the log lines that say so
LIMITS = ("it says the same words whatever it is asked",)


def check(spec: Spec) -> None:
    """Called before anything is started: refuse here what cannot work, with a UsageError."""
    if spec.command or spec.image:
        raise UsageError(
            f"{spec.engine} is started from its own folder",
            seen=f"command={spec.command}" if spec.command else f"image={spec.image}",
            do="leave that out; or leave the backend out, to measure what the command starts",
        )
    write(spec, TABLE)  # an unknown setting, or a value that cannot be, is refused by this


def launch(spec: Spec, port: int, run_dir: Path) -> Launch:  # noqa: ARG001 - run_dir is for files of its own
    """The command that starts it on that port, and where it can be reached then.

    `spec.args` is what --infer-arg adds, `spec.python` what --infer-python names.
    """
    settings = write(spec, TABLE).argv
    return Launch(
        argv=(spec.python or sys.executable, str(SERVER), "--port", str(port), *settings, *spec.args),
        base_url=f"http://127.0.0.1:{port}",
        boot_timeout_s=30.0,
    )


def ready(client: httpx.Client) -> str | None:
    """Asked again and again while it boots: None when it can be used, else what was seen."""
    status = client.get("/health").status_code
    return None if status == 200 else f"GET /health -> {status}"


def dialect(spec: Spec, client: httpx.Client) -> str:  # noqa: ARG001 - both are for engines with several
    """How it wants to be asked: a name of `pytest_inferforge.dialects.DIALECTS`."""
    return "generic"


def version(client: httpx.Client) -> str | None:
    """Stored with each result; None where it does not tell."""
    return str(client.get("/version").json()["version"])


def facts(client: httpx.Client) -> dict[str, str]:
    """What else the running server says of itself: a change of it is shown beside a comparison."""
    return {"owned_by": str(client.get("/v1/models").json()["data"][0]["owned_by"])}


def reset_cache(client: httpx.Client) -> bool:  # noqa: ARG001 - it has no cache that could be asked to forget
    """Between two measurements: forget what was cached. False where it cannot."""
    return False
