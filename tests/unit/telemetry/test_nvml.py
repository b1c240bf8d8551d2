"""What is asked of NVML, and what comes of a driver that does not know, or is not there."""

import builtins
import sys
from dataclasses import dataclass, field, fields
from types import SimpleNamespace

import pynvml
import pytest

from pytest_inferforge.telemetry import nvml
from pytest_inferforge.telemetry.gpu import ClockLimit, Gpu, GpuSample
from pytest_inferforge.telemetry.nvml import open_gpus

GIB = 2**30


class NvmlError(Exception):
    pass


@dataclass
class Board:
    """A GPU as its driver knows it; a value None: NVML_ERROR_NOT_SUPPORTED."""

    name: str = "NVIDIA H200"
    uuid: str = "GPU-0"
    total: int = 140 * 2**30
    used: int = 4 * 2**20
    gpu: int | None = 50
    power_mw: int | None = 400_000
    energy_mj: int | None = 1_000_000
    sm_mhz: int | None = 1980
    memory_mhz: int | None = 3201
    celsius: int | None = 45
    mask: int | None = 0
    pids: list[int] = field(default_factory=list)
    slices: "list[Board] | None" = None  # MIG


class FakeNvml:
    """Has the functions of pynvml, over boards.

    `without`: functions that this driver does not have; `old`: bindings from before driver 535.
    """

    NVMLError = NvmlError

    def __init__(self, *boards, starts=True, old=False, without=()):
        self.boards = boards
        self.starts = starts
        self.without = set(without)
        self.lost = False
        self.closed = False
        if old:
            self.nvmlDeviceGetCurrentClocksThrottleReasons = self.nvmlDeviceGetCurrentClocksEventReasons
            self.nvmlDeviceGetCurrentClocksEventReasons = None
        else:
            self.nvmlMemory_v2 = 2
            self.nvmlClocksEventReasonSwPowerCap = 0x4

    def _known(self, value, function):
        if self.lost or function in self.without or value is None:
            raise NvmlError(function)
        return value

    def nvmlInit(self):
        if not self.starts:
            raise NvmlError("library not found")

    def nvmlShutdown(self):
        self.closed = True

    def nvmlSystemGetDriverVersion(self):
        return b"570.86.15"

    def nvmlSystemGetCudaDriverVersion_v2(self):
        return 12080

    def nvmlDeviceGetCount(self):
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.boards[index]

    def nvmlDeviceGetMigMode(self, board):
        return [int(board.slices is not None), int(board.slices is not None)]

    def nvmlDeviceGetMaxMigDeviceCount(self, board):
        assert board.slices is not None
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board, index):
        if index >= len(board.slices):
            raise NvmlError("not found")
        return board.slices[index]

    def nvmlDeviceGetUUID(self, handle):
        return handle.uuid

    def nvmlDeviceGetName(self, handle):
        return handle.name

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        used = self._known(handle.used, "nvmlDeviceGetMemoryInfo")
        reserved = 0 if version == 2 else 600 * 2**20
        return SimpleNamespace(total=handle.total, used=used + reserved)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=self._known(handle.gpu, "nvmlDeviceGetUtilizationRates"), memory=1)

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._known(handle.power_mw, "nvmlDeviceGetPowerUsage")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._known(handle.energy_mj, "nvmlDeviceGetTotalEnergyConsumption")

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self._known({1: handle.sm_mhz, 2: handle.memory_mhz}[kind], "nvmlDeviceGetClockInfo")

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == 0
        return self._known(handle.celsius, "nvmlDeviceGetTemperature")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._known(handle.mask, "nvmlDeviceGetCurrentClocksEventReasons")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        pids = self._known(handle.pids, "nvmlDeviceGetComputeRunningProcesses")
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in pids]


def test_a_gpu_says_what_it_is_and_does():
    fake = FakeNvml(Board(mask=0x4 | 0x40, used=9 * GIB, pids=[10, 11]))
    gpus = open_gpus(fake)
    assert gpus.devices == (Gpu(uuid="GPU-0", name="NVIDIA H200", memory_bytes=140 * GIB, mig=False),)
    assert (gpus.driver, gpus.cuda) == ("570.86.15", "12.8")
    assert gpus.sample(3.0) == (
        GpuSample(
            time_s=3.0,
            uuid="GPU-0",
            use_ratio=0.5,
            memory_bytes=9 * GIB,
            power_w=400.0,
            energy_j=1000.0,
            clock_hz=1.98e9,
            memory_clock_hz=3.201e9,
            temperature_c=45.0,
            limits=frozenset({ClockLimit.POWER_CAP, ClockLimit.HW_THERMAL}),
            pids=frozenset({10, 11}),
        ),
    )
    gpus.close()
    assert fake.closed


def test_without_a_driver_or_a_gpu_there_are_none():
    assert open_gpus(FakeNvml(Board(), starts=False)) is None
    empty = FakeNvml()
    assert open_gpus(empty) is None
    assert empty.closed


def test_without_the_bindings_there_are_none(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "pynvml":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert open_gpus() is None


def test_the_real_bindings_give_gpus_or_none():
    gpus = open_gpus()
    if gpus is None:
        with pytest.raises(pynvml.NVMLError):
            pynvml.nvmlDeviceGetHandleByIndex(0)
        return
    assert gpus.devices
    assert gpus.driver
    assert {s.uuid for s in gpus.sample(0.0)} == {device.uuid for device in gpus.devices}
    gpus.close()


def test_importing_this_does_not_import_the_bindings():
    assert "pynvml" in sys.modules  # by this test
    assert "pynvml" not in vars(nvml)


@pytest.mark.parametrize(("limit", "name", "bit"), [(k, *v) for k, v in nvml._LIMITS.items()])
def test_the_bits_are_those_of_the_bindings(limit, name, bit):
    assert getattr(pynvml, f"nvmlClocksEventReason{name}") == bit
    assert getattr(pynvml, f"nvmlClocksThrottleReason{name}") == bit
    (sample,) = open_gpus(FakeNvml(Board(mask=bit))).sample(0.0)
    assert sample.limits == {limit}


def test_the_functions_and_constants_are_in_the_real_bindings():
    functions = {name for name in vars(FakeNvml) if name.startswith("nvml")}
    assert all(callable(getattr(pynvml, name)) for name in functions)
    assert pynvml.NVML_CLOCK_SM == nvml._CLOCK_SM
    assert pynvml.NVML_CLOCK_MEM == nvml._CLOCK_MEMORY
    assert pynvml.NVML_TEMPERATURE_GPU == nvml._TEMPERATURE_GPU
    assert pynvml.nvmlMemory_v2
    assert pynvml.nvmlDeviceGetCurrentClocksThrottleReasons


def test_bindings_from_before_535_call_the_same_things_otherwise():
    (sample,) = open_gpus(FakeNvml(Board(mask=0x20, used=GIB), old=True)).sample(0.0)
    assert sample.limits == {ClockLimit.SW_THERMAL}
    assert sample.memory_bytes == GIB + 600 * 2**20  # they count what the driver keeps as used


def test_what_a_gpu_does_not_tell_is_none_and_the_rest_is_there():
    told = [f.name for f in fields(GpuSample) if f.name not in ("time_s", "uuid", "pids")]
    silent = Board(
        gpu=None, power_mw=None, energy_mj=None, sm_mhz=None, memory_mhz=None, celsius=None, mask=None
    )
    (sample,) = open_gpus(FakeNvml(silent)).sample(0.0)
    assert [name for name in told if getattr(sample, name) is not None] == ["memory_bytes"]
    hidden = FakeNvml(Board(pids=[7]), without=["nvmlDeviceGetComputeRunningProcesses"])
    assert open_gpus(hidden).sample(0.0)[0].pids == frozenset()


def test_a_gpu_that_is_lost_meanwhile_tells_nothing_and_raises_nothing():
    fake = FakeNvml(Board())
    gpus = open_gpus(fake)
    fake.lost = True
    assert gpus.sample(1.0) == (GpuSample(time_s=1.0, uuid="GPU-0"),)


def test_a_slice_has_its_own_memory_and_processes_and_its_boards_clocks():
    slices = [
        Board(
            name="NVIDIA H200 MIG 1g.18gb", uuid=f"MIG-{k}", total=18 * GIB, used=k * GIB, pids=[k], celsius=0
        )
        for k in (1, 2)
    ]
    gpus = open_gpus(FakeNvml(Board(slices=slices, celsius=71, mask=0x4), Board(uuid="GPU-1")))
    assert [(g.uuid, g.mig) for g in gpus.devices] == [("MIG-1", True), ("MIG-2", True), ("GPU-1", False)]
    one, two, whole = gpus.sample(0.0)
    assert (one.memory_bytes, two.memory_bytes, one.pids) == (GIB, 2 * GIB, frozenset({1}))
    assert (one.temperature_c, one.clock_hz, one.limits) == (71.0, 1.98e9, {ClockLimit.POWER_CAP})
    assert (one.use_ratio, one.power_w, one.energy_j) == (None, None, None)
    assert whole.energy_j == 1000.0
