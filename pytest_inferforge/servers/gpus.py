"""Which GPUs a server gets: leased by UUID under a lock of this host, the same ones for a whole session."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_inferforge.servers.spec import ServerSpec
    from pytest_inferforge.telemetry.gpu import Gpu, Gpus, GpuSample

VISIBLE = "CUDA_VISIBLE_DEVICES"
_PARALLEL = ("tensor_parallel", "pipeline_parallel", "data_parallel")
_ON_CPU = ("llama.cpp",)  # the embedded one
_SPARE_BYTES = 512 * 2**20  # above what was used before the boot: contexts of others come and go
_RELEASE_S = 60.0  # SGLang's own tests give it as long
_LOOK_S = 0.5


def wanted(spec: ServerSpec) -> int | None:
    """How many GPUs a server needs; None: all that are visible, because its command says nothing of it."""
    if spec.gpus is not None:
        return spec.gpus
    if spec.engine in _ON_CPU or spec.url is not None:
        return 0
    if spec.command is not None:
        return None
    settings: dict[str, Any] = dict(spec.settings)
    count = 1
    for name in _PARALLEL:
        count *= int(settings.get(name, 1))
    return count


class Leases:
    """The GPUs of this session. `gpus` None: there are none here, and nothing is leased.

    `environ`: what is visible to us, as a scheduler or a person set it.
    """

    def __init__(
        self,
        gpus: Gpus | None,
        *,
        environ: Mapping[str, str] = os.environ,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = gpus
        self._visible = () if gpus is None else visible(gpus.devices, environ.get(VISIBLE))
        self._folder = folder or Path(tempfile.gettempdir())
        self._clock = clock
        self._held: dict[str, int] = {}  # uuid -> descriptor of its lock

    def take(self, spec: ServerSpec) -> tuple[Gpu, ...]:
        """The GPUs for a server, always the first ones; they stay ours until `release`.

        Raises:
            EngineError: there are too few, or another session holds one.
        """
        if self._gpus is None:
            return ()
        count = wanted(spec)
        chosen = self._visible if count is None else self._visible[:count]
        if count is not None and len(chosen) < count:
            raise EngineError(
                f"{spec.engine} needs {count} GPUs",
                seen=f"{len(chosen)} visible: {', '.join(g.name for g in chosen) or 'none'}",
                do=f"ask for less parallelism, or show more of them in {VISIBLE}",
            )
        for gpu in chosen:
            if gpu.uuid not in self._held:
                self._held[gpu.uuid] = self._lock(gpu)
        return chosen

    def environment(self, spec: ServerSpec, chosen: Sequence[Gpu]) -> dict[str, str]:
        """What shows a server its GPUs and no others."""
        if not chosen or wanted(spec) is None:
            return {}
        return {VISIBLE: ",".join(gpu.uuid for gpu in chosen)}

    def sample(self) -> tuple[GpuSample, ...] | None:
        """All GPUs now; None where there are none."""
        return None if self._gpus is None else self._gpus.sample(self._clock())

    def await_release(self, before: Sequence[GpuSample], chosen: Sequence[str]) -> str | None:
        """Wait until their memory is back to what it was; None when it is, else what is still held."""
        if self._gpus is None or not chosen:
            return None
        known = {s.uuid: s.memory_bytes for s in before if s.memory_bytes is not None}
        deadline = self._clock() + _RELEASE_S
        while True:
            held = [
                f"{s.uuid}: {s.memory_bytes / 1e9:.1f} GB, {known[s.uuid] / 1e9:.1f} GB before"
                for s in self._gpus.sample(self._clock())
                if s.uuid in chosen
                and s.uuid in known
                and s.memory_bytes is not None
                and s.memory_bytes > known[s.uuid] + _SPARE_BYTES
            ]
            if not held:
                return None
            if self._clock() >= deadline:
                return "; ".join(held)
            time.sleep(_LOOK_S)

    def release(self) -> None:
        """Give all back; may be called again."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _lock(self, gpu: Gpu) -> int:
        path = self._folder / f"pytest-inferforge-{gpu.uuid}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise EngineError("a GPU cannot be leased", seen=str(error), do=f"look at {path}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise EngineError(
                f"{gpu.name} is leased by another session",
                seen=f"{gpu.uuid}, held by process {holder}",
                do=f"wait for it, or leave that GPU out of {VISIBLE}",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor


def visible(devices: Sequence[Gpu], shown: str | None) -> tuple[Gpu, ...]:
    """The devices that a value of CUDA_VISIBLE_DEVICES shows, in its order; None: all.

    Source: CUDA C++ Programming Guide, CUDA environment variables: indices, or UUIDs that may be cut short;
    what stands behind one that is none is not seen.
    """
    if shown is None:
        return tuple(devices)
    found: list[Gpu] = []
    for word in (part.strip() for part in shown.split(",")):
        if word.isdigit() and int(word) < len(devices):
            found.append(devices[int(word)])
            continue
        named = [gpu for gpu in devices if word and gpu.uuid.startswith(word)]
        if len(named) != 1:
            break
        found.append(named[0])
    return tuple(found)
