"""NVIDIA's GPUs, asked through NVML.

Source: NVML API reference; Python bindings nvidia-ml-py 13, module pynvml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_inferforge.telemetry.gpu import ClockLimit, Gpu, GpuSample

# Source: NVML API reference, nvmlClocksEventReasons; the bindings' constants have the same names. HwSlowdown
# is also set for a moment when clocks change, and GpuIdle (0x1) is no limit: an idle GPU sleeps.
_LIMITS = {
    ClockLimit.SETTING: ("ApplicationsClocksSetting", 0x2),
    ClockLimit.POWER_CAP: ("SwPowerCap", 0x4),
    ClockLimit.HW_SLOWDOWN: ("HwSlowdown", 0x8),
    ClockLimit.SYNC_BOOST: ("SyncBoost", 0x10),
    ClockLimit.SW_THERMAL: ("SwThermalSlowdown", 0x20),
    ClockLimit.HW_THERMAL: ("HwThermalSlowdown", 0x40),
    ClockLimit.POWER_BRAKE: ("HwPowerBrakeSlowdown", 0x80),
    ClockLimit.DISPLAY: ("DisplayClockSetting", 0x100),
}
_PREFIXES = ("nvmlClocksEventReason", "nvmlClocksThrottleReason")  # before driver 535 they were called so
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_TEMPERATURE_GPU = 0


def open_gpus(nvml: Any = None) -> NvmlGpus | None:
    """The GPUs of this machine; None where there are none, or no driver, or no bindings.

    nvml: the module pynvml, or what has its functions and its `NVMLError`.
    """
    if nvml is None:
        try:
            import pynvml  # type: ignore[import-untyped]
        except ImportError:
            return None
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    found = NvmlGpus(nvml)
    if not found.devices:
        found.close()
        return None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    """`board`: the whole GPU; `handle`: the same, or a slice of it."""

    gpu: Gpu
    handle: Any
    board: Any


class NvmlGpus:
    """See `gpu.Gpus`. Made by `open_gpus`.

    A slice (MIG) has memory and processes of its own; clocks, temperature and what limits them are the
    board's, and power, energy and use are of all slices together and therefore not told.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._devices = tuple(self._find())
        self.driver: str | None = _text(self._ask("nvmlSystemGetDriverVersion"))
        version = self._ask("nvmlSystemGetCudaDriverVersion_v2")  # 12040: 12.4
        self.cuda: str | None = f"{version // 1000}.{version % 1000 // 10}" if version else None

    @property
    def devices(self) -> tuple[Gpu, ...]:
        return tuple(device.gpu for device in self._devices)

    def sample(self, time_s: float) -> tuple[GpuSample, ...]:
        """What each GPU tells; what it does not is None."""
        return tuple(self._sample(device, time_s) for device in self._devices)

    def close(self) -> None:
        """No sample can be taken any more."""
        self._ask("nvmlShutdown")

    # -- private ------------------------------------------------------------------------------------

    def _find(self) -> list[_Device]:
        found = []
        for index in range(self._ask("nvmlDeviceGetCount") or 0):
            board = self._ask("nvmlDeviceGetHandleByIndex", index)
            if board is None:
                continue
            mode = self._ask("nvmlDeviceGetMigMode", board)
            if mode and mode[0] == 1:
                slices = range(self._ask("nvmlDeviceGetMaxMigDeviceCount", board) or 0)
                handles = [self._ask("nvmlDeviceGetMigDeviceHandleByIndex", board, i) for i in slices]
                found += [self._device(handle, board, mig=True) for handle in handles if handle is not None]
            else:
                found.append(self._device(board, board, mig=False))
        return found

    def _device(self, handle: Any, board: Any, *, mig: bool) -> _Device:
        memory = self._memory(handle)
        gpu = Gpu(
            uuid=_text(self._ask("nvmlDeviceGetUUID", handle)) or "unknown",
            name=_text(self._ask("nvmlDeviceGetName", handle)) or "unknown GPU",
            memory_bytes=None if memory is None else int(memory.total),
            mig=mig,
        )
        return _Device(gpu=gpu, handle=handle, board=board)

    def _sample(self, device: _Device, time_s: float) -> GpuSample:
        board, whole = device.board, not device.gpu.mig
        memory = self._memory(device.handle)
        use = self._ask("nvmlDeviceGetUtilizationRates", board) if whole else None
        running = self._ask("nvmlDeviceGetComputeRunningProcesses", device.handle) or ()
        return GpuSample(
            time_s=time_s,
            uuid=device.gpu.uuid,
            use_ratio=None if use is None else use.gpu / 100.0,
            memory_bytes=None if memory is None else int(memory.used),
            power_w=_scaled(self._ask("nvmlDeviceGetPowerUsage", board), 1e-3) if whole else None,
            energy_j=_scaled(self._ask("nvmlDeviceGetTotalEnergyConsumption", board), 1e-3)
            if whole
            else None,
            clock_hz=_scaled(self._ask("nvmlDeviceGetClockInfo", board, _CLOCK_SM), 1e6),
            memory_clock_hz=_scaled(self._ask("nvmlDeviceGetClockInfo", board, _CLOCK_MEMORY), 1e6),
            temperature_c=_scaled(self._ask("nvmlDeviceGetTemperature", board, _TEMPERATURE_GPU), 1.0),
            limits=self._limits(board),
            pids=frozenset(process.pid for process in running),
        )

    def _memory(self, handle: Any) -> Any:
        """The second version does not count what the driver keeps for itself as used."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        found = self._ask("nvmlDeviceGetMemoryInfo", handle, version) if version is not None else None
        return self._ask("nvmlDeviceGetMemoryInfo", handle) if found is None else found

    def _limits(self, board: Any) -> frozenset[ClockLimit] | None:
        mask = self._ask("nvmlDeviceGetCurrentClocksEventReasons", board)
        if mask is None:
            mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", board)
        if mask is None:
            return None
        return frozenset(limit for limit, (name, bit) in _LIMITS.items() if mask & self._bit(name, bit))

    def _bit(self, name: str, bit: int) -> int:
        known = (getattr(self._nvml, prefix + name, None) for prefix in _PREFIXES)
        return next((value for value in known if value is not None), bit)

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What a function of NVML returns; None: the bindings do not have it, or it failed."""
        call = getattr(self._nvml, function, None)
        if call is None:
            return None
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(value: Any) -> str | None:
    """Older bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value
