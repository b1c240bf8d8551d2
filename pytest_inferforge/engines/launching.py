"""From an engine's arguments to what is executed: its program, a container, or the user's own command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_inferforge.engines import installation, models
from pytest_inferforge.engines.protocol import Fetch, Launch
from pytest_inferforge.errors import EngineError, UsageError
from pytest_inferforge.redaction import command_without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_inferforge.engines.installation import Found, Way
    from pytest_inferforge.engines.protocol import Spec

HERE = "127.0.0.1"
_IN_A_CONTAINER = "0.0.0.0"  # noqa: S104 - only its published port can be reached, and that on loopback
_PLACE = re.compile(r"\{(port|host|model)\}")
_HUB_FETCH = Path(__file__).with_name("hub_fetch.py")
_RUNTIMES = ("docker", "podman")
_HUB_CACHE = "~/.cache/huggingface"
_NVIDIA = Path("/dev/nvidiactl")  # there where the driver is
_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Source: huggingface_hub, environment variables.
_HUB_NAMES = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How an engine is run, wherever it is.

    `package`: its Python package (None: a binary). `ways`: best first. `image`: how its usual image is
    called. `install`: what to do where it is missing. `key_variable`: by which it is told its API key, which
    must not stand on a command line; None: it has none. `revision_flag`: by which it is told that of a model
    on the hub. `store`: where it keeps what it fetches, here and in its image, and the variable by which the
    image is told (None: it is so anyway).
    """

    ways: tuple[Way, ...]
    image: Way
    package: str | None
    install: str
    boot_s: float
    key_variable: str | None = None
    revision_flag: str | None = "--revision"
    grace_s: float = 10.0
    store: tuple[str, str, str | None] = (_HUB_CACHE, "/huggingface", "HF_HOME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What an engine adds to its program: arguments without the model, and environment."""

    argv: Sequence[str]
    env: Mapping[str, str]


class Arguments(Protocol):
    """An engine's own arguments, for the host it is to listen on and an installation (None: not known)."""

    def __call__(self, spec: Spec, host: str, port: int, run_dir: Path, found: Found | None) -> Own: ...


def check(spec: Spec, kind: Kind) -> None:
    """Refuse what no engine can be started with.

    Raises:
        UsageError: two ways to start it at once, a command without a port, a key that is not set, a key or
            a revision that this engine cannot be told.
    """
    check_way(spec)
    if spec.command and spec.settings:
        raise UsageError(
            "settings are not written into a command that was given verbatim",
            seen=", ".join(f"{name}={value!r}" for name, value in spec.settings),
            do="write the engine's own flags into the command",
        )
    check_key(spec)
    if spec.command:
        return
    _revision(spec, kind)
    if spec.api_key_env and kind.key_variable is None:
        raise UsageError(
            f"{spec.engine} takes an API key on its command line only, where everybody can read it",
            seen=f"api_key_env={spec.api_key_env}",
            do="boot it without a key (it listens on this machine alone), or give its whole command",
        )


def check_way(spec: Spec) -> None:
    """Refuse two ways at once, and a command that cannot be filled.

    Raises:
        UsageError: as `words`, and for a `{model}` where there is none.
    """
    named = [name for name in ("command", "image", "python") if getattr(spec, name)]
    if len(named) > 1:
        raise UsageError(
            "a server is started in one way only",
            seen=" and ".join(f"{name}={command_without_secrets(getattr(spec, name))}" for name in named),
            do="keep one of them",
        )
    if spec.command and any("{model}" in word for word in words(spec.command)) and not spec.model:
        raise UsageError(
            "the command asks for a model",
            seen=command_without_secrets(spec.command),
            do="write --infer-model=MODEL",
        )


def check_key(spec: Spec) -> None:
    """Raises UsageError when the variable with the API key is not set."""
    if spec.api_key_env is not None and not os.environ.get(spec.api_key_env):
        raise UsageError(
            "the API key is not set", seen=f"{spec.api_key_env} is empty", do="set that variable"
        )


def words(command: str) -> list[str]:
    """A command as its words, as a shell would split it; no shell runs it.

    Raises:
        UsageError: it cannot be split, or does not say where the port goes.
    """
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            "the command cannot be read",
            seen=f"{command_without_secrets(command)}: {error}",
            do="mend its quotes",
        ) from error
    if not any("{port}" in word for word in found):
        raise UsageError(
            "the command does not say where the port goes",
            seen=command_without_secrets(command),
            do='write {port} in it, as in "vllm serve M --port {port}"',
        )
    return found


def launch(
    spec: Spec,
    kind: Kind,
    port: int,
    run_dir: Path,
    arguments: Arguments,
    *,
    model: str | None,
    served: str | None = None,
) -> Launch:
    """How to start a server of that kind.

    `model`: as the engine is told; None: not in the command. `served`: its id for requests, None: the first
    that is listed. A container sees the model's folder, and `run_dir`; `{port}`, `{host}` and `{model}` are
    filled in its raw arguments as they are in a command.

    Raises:
        EngineError: it is not installed, or there is nothing to run containers with.
    """
    base = f"http://{HERE}:{port}"
    if spec.command:
        return Launch(
            argv=(*_filled(words(spec.command), HERE, port, spec.model), *spec.args),
            base_url=base,
            boot_timeout_s=kind.boot_s,
            grace_s=kind.grace_s,
            model=spec.model,
        )
    if spec.image:
        added = arguments(spec, _IN_A_CONTAINER, port, run_dir, None)
        raw = _filled(spec.args, _IN_A_CONTAINER, port, models.told(spec))
        inside = kind.image.argv((), model, (*added.argv, *_revision(spec, kind), *raw))
        return _container(spec, kind, port, inside, added.env, served, run_dir)
    found = installation.find(spec, kind.ways, package=kind.package, install=kind.install)
    added = arguments(spec, HERE, port, run_dir, found)
    return Launch(
        argv=found.way.argv(found.program, model, (*added.argv, *_revision(spec, kind), *spec.args)),
        fetch=_from_hub(spec, found),
        env=(*added.env.items(), *_key(spec, kind)),
        base_url=base,
        boot_timeout_s=kind.boot_s,
        grace_s=kind.grace_s,
        model=served,
        facts=(("package_version", found.version),) if found.version else (),
    )


def _key(spec: Spec, kind: Kind) -> tuple[tuple[str, str], ...]:
    """The API key, in the variable in which the engine looks for it."""
    if not spec.api_key_env or kind.key_variable is None:
        return ()
    return ((kind.key_variable, os.environ[spec.api_key_env]),)


def _revision(spec: Spec, kind: Kind) -> tuple[str, ...]:
    if spec.revision is None or models.on_hub(spec) is None:
        return ()
    if kind.revision_flag is None:
        raise UsageError(
            f"{spec.engine} cannot be told a revision",
            seen=f"revision={spec.revision}",
            do="fetch that revision into a folder, and give the folder as the model",
        )
    return (kind.revision_flag, spec.revision)


def _from_hub(spec: Spec, found: Found) -> Fetch | None:
    """A model on the hub is fetched by the engine's own Python; a binary fetches by itself."""
    name = models.on_hub(spec)
    if name is None or found.python is None:
        return None
    revision = (spec.revision,) if spec.revision else ()
    return Fetch(what=f"the model {name}", argv=(found.python, str(_HUB_FETCH), name, *revision))


def with_facts(made: Launch, **facts: str) -> Launch:
    """The launch with more of what is known before it runs."""
    return replace(made, facts=(*made.facts, *facts.items()))


def _filled(found: Sequence[str], host: str, port: int, model: str | None) -> list[str]:
    """Only these three places are filled: a command may hold braces of its own, such as JSON."""
    values = {"port": str(port), "host": host, "model": model or ""}
    return [_PLACE.sub(lambda place: values[place[1]], word) for word in found]


def runtime() -> str:
    """The program that runs containers.

    Raises:
        EngineError: there is none on PATH.
    """
    for name in _RUNTIMES:
        if (path := shutil.which(name)) is not None:
            return path
    raise EngineError(
        "nothing here runs containers",
        seen=f"none of {', '.join(_RUNTIMES)} on PATH",
        do="install one, or start the server without an image",
    )


def _container(
    spec: Spec,
    kind: Kind,
    port: int,
    inside: Sequence[str],
    env: Mapping[str, str],
    served: str | None,
    run_dir: Path,
) -> Launch:
    """Source: docker container run, options."""
    program = runtime()
    # The last part, because two namespaces of processes may share one that runs containers.
    name = f"pytest-inferforge-{os.getpid()}-{port}-{uuid.uuid4().hex[:8]}"
    argv = [program, "run", "--rm", "--init", "--name", name, "--label", f"pytest-inferforge={name}"]
    argv += ["--publish", f"{HERE}:{port}:{port}", "--ipc", "host", *_gpus(spec)]
    for volume in _volumes(spec, kind, run_dir.resolve()):
        argv += ["--volume", volume]
    _, store, told = kind.store
    for variable, value in {**({} if told is None else {told: store}), **env}.items():
        argv += ["--env", f"{variable}={value}"]
    key = _key(spec, kind)
    own = {*os.environ, *dict(spec.env), *dict(key)}
    handed = (*_HUB_NAMES, *dict(spec.env), (kind.key_variable if key else spec.api_key_env) or "")
    for name_alone in dict.fromkeys(handed):  # a value on a command line can be read by everybody
        if name_alone in own:
            argv += ["--env", name_alone]
    return Launch(
        argv=(*argv, str(spec.image), *inside),
        env=key,
        base_url=f"http://{HERE}:{port}",
        boot_timeout_s=kind.boot_s,
        grace_s=kind.grace_s,
        model=served,
        facts=(("image", str(spec.image)),),
        cleanup=(program, "rm", "--force", name),
        fetch=Fetch(
            what=f"the image {spec.image}",
            argv=(program, "pull", str(spec.image)),
            unless=(program, "image", "inspect", str(spec.image)),
        ),
    )


def _gpus(spec: Spec) -> list[str]:
    """Which GPUs it may have; which of them it uses is told by CUDA_VISIBLE_DEVICES, inside as here.

    Whoever starts it puts those that it was given there, as UUIDs, or it is what a person has set: indices,
    which mean the same inside as long as all are there. Source: docker container run, `--gpus`.
    """
    seen = os.environ.get(_VISIBLE)
    there = _NVIDIA.exists() if seen is None else seen not in ("", "-1")
    if spec.gpus == 0 or not (there or (seen is None and spec.gpus)):
        return []
    count = "all" if seen is not None or spec.gpus is None else str(spec.gpus)
    return ["--gpus", count, "--env", _VISIBLE]


def _volumes(spec: Spec, kind: Kind, run_dir: Path) -> list[str]:
    """What a container sees of this machine, at the path that it has here; the engine's store at its own."""
    here, inside, _ = kind.store
    store = Path((os.environ.get("HF_HOME") if here == _HUB_CACHE else None) or here).expanduser().resolve()
    store.mkdir(parents=True, exist_ok=True)  # else the runtime makes it, and root owns it
    read = [Path(name).expanduser() for name in (spec.model, models.draft(spec)) if name]
    shown = dict.fromkeys(path.resolve() for path in read if path.exists())
    return [f"{store}:{inside}", *(f"{path}:{path}:ro" for path in shown), f"{run_dir}:{run_dir}"]
