"""Samples of GPUs: numbers, health, and which of them a server uses at all."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.telemetry import gpu
from pytest_inferforge.telemetry.gpu import ClockLimit, Gpu, GpuSample

GIB = 2**30
H200 = Gpu(uuid="a", name="NVIDIA H200", memory_bytes=140 * GIB, mig=False)
SECOND = Gpu(uuid="b", name="NVIDIA H200", memory_bytes=140 * GIB, mig=False)
NONE = frozenset()


def sample(time_s=0.0, uuid="a", **known):
    return GpuSample(time_s=time_s, uuid=uuid, **known)


# -- numbers ---------------------------------------------------------------------------------------------


def test_means_are_over_what_was_told():
    found = gpu.metrics(
        [
            sample(use_ratio=0.5, clock_hz=1e9, memory_clock_hz=2e9),
            sample(1.0, use_ratio=1.0, clock_hz=2e9),
            sample(2.0),
        ]
    )
    assert found == {"gpu_use_ratio": 0.75, "gpu_clock_hz": 1.5e9, "gpu_memory_clock_hz": 2e9}
    assert gpu.metrics([]) == {}


def test_the_peak_is_of_all_gpus_together_at_one_moment():
    found = gpu.peak_bytes(
        [
            sample(0.0, "a", memory_bytes=5 * GIB),
            sample(0.0, "b", memory_bytes=1 * GIB),
            sample(1.0, "a", memory_bytes=2 * GIB),
            sample(1.0, "b", memory_bytes=3 * GIB),
        ]
    )
    assert found == 6 * GIB
    assert gpu.peak_bytes([sample(memory_bytes=GIB), sample(1.0)]) is None
    assert gpu.peak_bytes([]) is None


def test_energy_is_the_difference_of_the_counters():
    found = gpu.energy(
        [
            *(sample(float(t), "a", energy_j=1e6 + 300.0 * t, power_w=9.0) for t in range(11)),
            *(sample(float(t), "b", energy_j=5e6 + 100.0 * t) for t in range(11)),
        ]
    )
    assert (found.joules, found.seconds, found.integrated) == (4000.0, 10.0, False)


@pytest.mark.parametrize(
    "counters",
    [(None, None), (5.0, None), (5e6, 3.0)],  # no counter, lost, and begun anew with the driver
)
def test_without_a_counter_the_power_is_integrated_and_that_is_said(counters):
    first, last = counters
    found = gpu.energy(
        [
            sample(0.0, power_w=100.0, energy_j=first),
            sample(1.0, power_w=300.0),
            sample(2.0),
            sample(4.0, power_w=200.0, energy_j=last),
        ]
    )
    assert (found.joules, found.seconds, found.integrated) == (200.0 + 3 * 250.0, 4.0, True)


def test_energy_that_is_not_known_of_every_gpu_is_not_known():
    told = [sample(0.0, "a", energy_j=0.0), sample(1.0, "a", energy_j=9.0)]
    assert gpu.energy([*told, sample(0.0, "b", power_w=3.0), sample(1.0, "b")]) is None
    assert gpu.energy(told[:1]) is None
    assert gpu.energy([]) is None


@given(powers=st.lists(st.floats(10.0, 1000.0), min_size=2, max_size=20), start_j=st.floats(0.0, 1e6))
def test_counter_and_power_agree_where_both_are_true(powers, start_j):
    counted = [start_j]
    for before, after in itertools.pairwise(powers):
        counted.append(counted[-1] + (before + after) / 2)
    both = [
        sample(float(t), power_w=w, energy_j=j) for t, (w, j) in enumerate(zip(powers, counted, strict=True))
    ]
    power = [sample(s.time_s, power_w=s.power_w) for s in both]
    assert gpu.energy(both).joules == pytest.approx(gpu.energy(power).joules)


# -- which GPUs ------------------------------------------------------------------------------------------


def test_the_gpus_of_a_server_are_those_with_its_processes():
    samples = [sample(pids=frozenset({7}), memory_bytes=GIB), sample(uuid="b", pids=frozenset({8}))]
    assert gpu.serving(samples, None, {7}) == {"a"}
    assert gpu.serving(samples, [], {7, 8}) == {"a", "b"}


def test_or_those_whose_memory_grew_where_its_processes_cannot_be_seen():
    before = [sample(memory_bytes=GIB), sample(uuid="b", memory_bytes=GIB)]
    samples = [sample(5.0, memory_bytes=3 * GIB), sample(5.0, "b", memory_bytes=GIB + 10 * 2**20)]
    assert gpu.serving(samples, before, {7}) == {"a"}
    assert gpu.serving(samples[1:], before, ()) == NONE  # a server on the CPU
    assert gpu.serving(samples, None, {7}) is None  # nobody knows


# -- health ----------------------------------------------------------------------------------------------


def limited(*limits, n=4, celsius=None):
    """n samples; the first has the limits."""
    return [
        sample(float(t), limits=frozenset(limits) if t == 0 else NONE, temperature_c=celsius)
        for t in range(n)
    ]


@pytest.mark.parametrize("limit", sorted(gpu.SPOILING))
def test_heat_and_a_power_brake_spoil_a_boot(limit):
    found = gpu.health(limited(limit), [H200], None, ())
    assert found.invalid == (f"NVIDIA H200: {limit} in 1 of 4 samples",)
    assert found.notes == ()


@pytest.mark.parametrize("limit", sorted(set(ClockLimit) - gpu.SPOILING))
def test_other_limits_are_only_said(limit):
    found = gpu.health(limited(limit), [H200], None, ())
    assert (found.invalid, found.notes) == ((), (f"NVIDIA H200: {limit} in 1 of 4 samples",))


def test_heat_is_said_in_degrees():
    found = gpu.health(limited(ClockLimit.HW_THERMAL, celsius=88.0), [H200], None, ())
    assert found.invalid == ("NVIDIA H200: hardware thermal slowdown in 1 of 4 samples, at up to 88 °C",)


def test_a_gpu_that_tells_nothing_is_not_said_to_be_well():
    assert gpu.health([sample(), sample(1.0)], [H200], None, ()) == gpu.Health()


def test_a_foreign_process_spoils_a_boot():
    samples = [
        sample(pids=frozenset({7})),
        sample(1.0, pids=frozenset({7, 31})),
        sample(2.0, "b", pids=frozenset({8})),
    ]
    found = gpu.health(samples, [H200, SECOND], None, {7, 8})
    assert found.invalid == ("NVIDIA H200 (1 of 2): it was shared with process 31",)
    more = gpu.health([sample(pids=frozenset({7, 31, 30}))], [H200], None, {7})
    assert more.invalid == ("NVIDIA H200: it was shared with processes 30, 31",)
    assert gpu.health(samples[:1], [H200], [sample(memory_bytes=9 * GIB)], {7}) == gpu.Health()


def test_where_processes_are_hidden_what_was_in_use_before_is_foreign():
    samples = [sample(pids=frozenset({4711}), memory_bytes=90 * GIB)]  # as the host numbers it
    busy, idle = [sample(memory_bytes=2 * GIB)], [sample(memory_bytes=10 * 2**20)]
    found = gpu.health(samples, [H200], busy, {7})
    assert found.invalid == ("NVIDIA H200: 2.15 GB of its memory were in use before the server was started",)
    assert gpu.health(samples, [H200], idle, {7}) == gpu.Health()
    assert gpu.health(samples, [H200], None, {7}) == gpu.Health()


class Machine:
    driver = "570.86.15"
    cuda = None


def test_facts_name_the_gpus_with_their_number():
    slice_ = Gpu(uuid="m", name="NVIDIA H200 MIG 1g.18gb", memory_bytes=None, mig=True)
    assert gpu.facts([H200, SECOND, slice_], Machine()) == {
        "gpu": "2 x NVIDIA H200, NVIDIA H200 MIG 1g.18gb",
        "gpu_driver": "570.86.15",
    }
