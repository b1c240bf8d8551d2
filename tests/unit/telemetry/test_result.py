"""From rounds to metrics: which rounds tell of the load, and what is said when some are missing."""

import pytest

from pytest_inferforge.exposition import EXPOSITIONS
from pytest_inferforge.metrics import metric
from pytest_inferforge.telemetry.gpu import ClockLimit, Gpu, GpuSample
from pytest_inferforge.telemetry.host import HostSample
from pytest_inferforge.telemetry.prometheus import Scrape
from pytest_inferforge.telemetry.result import Round, reckon, windows

VLLM = EXPOSITIONS["vllm"]
GIB = 2**30
MARKS = {"warmup": 0.0, "ready": 2.5, "load": 3.0, "drain": 13.0, "end": 14.0}
TIMES = (0.0, 1.0, 2.0, 2.6, 3.6, 4.6, 8.0, 12.0, 13.5, 14.1, 15.0)


def scrape(t, *, running=0.0, done=0.0, drafted=None):
    samples = {
        "vllm:num_requests_running": {(): running},
        "vllm:request_queue_time_seconds_sum": {(): 0.05 * done},
        "vllm:request_queue_time_seconds_count": {(): done},
        "vllm:generation_tokens_total": {(): 100.0 * done},
    }
    return Scrape(time_s=t, samples=samples)


class Machine:
    devices = (
        Gpu(uuid="a", name="H200", memory_bytes=140 * GIB, mig=False),
        Gpu(uuid="b", name="H200", memory_bytes=140 * GIB, mig=False),
    )
    driver = "570.86.15"
    cuda = "12.8"


def round_at(t, **seen):
    """The load runs from 3 to 14 s; six requests run until 13 s."""
    running = 6.0 if 3.0 <= t < 13.0 else (2.0 if t < 2.5 else 0.0)
    host = HostSample(
        time_s=t, pids=frozenset({7}), server_cpu_s=t, ours_cpu_s=1.5 * t, server_memory_bytes=int(t * 100),
        busy_s=2 * t, total_s=4 * t, steal_s=0.0, free_memory_bytes=int(9000 - t * 100),
    )  # fmt: skip
    gpus = (
        GpuSample(
            time_s=t,
            uuid="a",
            energy_j=300.0 * t,
            use_ratio=running / 6,
            memory_bytes=GIB,
            pids=frozenset({7}),
        ),
        GpuSample(time_s=t, uuid="b", energy_j=90.0 * t, memory_bytes=5 * GIB, pids=frozenset({31})),
    )
    known = {
        "scrape": scrape(t, running=running, done=20.0 + max(0.0, t - 2.6) * 10),
        "host": host,
        "gpus": gpus,
    }
    return Round(time_s=t, **(known | seen))


def reckoned(rounds, marks=MARKS, **known):
    given = {
        "exposition": VLLM, "gpus": Machine(), "before": None, "failures": (), "output_tokens": 1150,
        "requests": None,
    }  # fmt: skip
    return reckon(rounds, marks, **(given | known))


ROUNDS = tuple(round_at(t) for t in TIMES)


def times(rounds):
    return [r.time_s for r in rounds]


def test_a_load_is_told_by_the_rounds_around_it_and_its_state_by_those_inside():
    seen = windows(ROUNDS, MARKS)
    assert times(seen.whole) == [2.6, 3.6, 4.6, 8.0, 12.0, 13.5, 14.1]
    assert times(seen.steady) == [3.6, 4.6, 8.0, 12.0]


def test_without_a_round_between_warm_up_and_load_the_first_one_under_load_begins():
    assert times(windows(ROUNDS, MARKS | {"ready": 2.9}).whole)[0] == 3.6
    assert times(windows(ROUNDS, {"load": 3.0, "end": 14.0}).whole) == [3.6, 4.6, 8.0, 12.0, 13.5, 14.1]


def test_when_sending_took_less_than_half_of_the_time_the_answers_are_the_load():
    assert times(windows(ROUNDS, MARKS | {"drain": 3.1}).steady) == [3.6, 4.6, 8.0, 12.0, 13.5]


@pytest.mark.parametrize(("rounds", "marks"), [((), MARKS), (ROUNDS, {"warmup": 0.0}), (ROUNDS[:3], MARKS)])
def test_a_load_that_nobody_looked_at_is_not_told(rounds, marks):
    assert windows(rounds, marks) is None
    found = reckoned(rounds, marks)
    assert found.metrics == {}
    assert "nothing was measured" in found.notes[0]


def test_everything_together():
    found = reckoned(ROUNDS, requests=115)
    assert found.metrics == pytest.approx(
        {
            "queue_s": 0.05,
            "requests_running": 6.0,
            "requests_running.max": 6.0,
            "gpu_use_ratio": 1.0,
            "peak_vram_bytes": GIB,
            "gpu_power_w": 300.0,
            "energy_j": 300.0 * 11.5,
            "energy_j_per_output_tok": 3.0,
            "server_cpu_cores": 1.0,
            "foreign_cpu_cores": 0.5,
            "host_cpu_use_ratio": 0.5,
            "host_steal_ratio": 0.0,
            "server_memory_bytes": 1410.0,
            "host_free_memory_bytes": 7590.0,
        }
    )
    assert all(metric(metric_id).quantity.telemetry for metric_id in found.metrics)
    assert (found.notes, found.invalid_reasons, found.restarted) == ((), (), False)
    assert found.facts == {"gpu": "H200", "gpu_driver": "570.86.15", "gpu_cuda": "12.8"}


def test_tokens_that_the_client_did_not_count_are_the_servers():
    assert reckoned(ROUNDS, output_tokens=None).metrics["energy_j_per_output_tok"] == pytest.approx(0.3)
    alone = reckoned(ROUNDS, output_tokens=None, exposition=None).metrics
    assert "energy_j" in alone
    assert "energy_j_per_output_tok" not in alone
    assert "energy_j_per_output_tok" not in reckoned(ROUNDS, output_tokens=0).metrics


def test_without_gpus_or_metrics_or_processes_these_are_absent():
    bare = [Round(time_s=t) for t in TIMES]
    found = reckoned(bare, gpus=None, exposition=None)
    assert (found.metrics, found.notes, found.facts) == ({}, (), {})


def test_a_server_on_the_cpu_has_no_gpu_metrics():
    def hidden(t):
        (a, _) = round_at(t).gpus
        return round_at(
            t, gpus=(GpuSample(time_s=t, uuid="a", memory_bytes=a.memory_bytes, energy_j=a.energy_j),)
        )

    rounds = [hidden(t) for t in TIMES]
    idle = (GpuSample(time_s=0.0, uuid="a", memory_bytes=GIB),)
    found = reckoned(rounds, before=idle)
    assert not any(name.startswith(("gpu", "energy", "peak")) for name in found.metrics)
    assert (found.facts, found.notes) == ({}, ())
    unknown = reckoned(rounds, before=None)
    assert not any(name.startswith(("gpu", "energy", "peak")) for name in unknown.metrics)
    assert "which GPUs the server uses cannot be told" in unknown.notes[0]


def test_the_state_of_the_gpus_is_said_and_spoils():
    def hot(t):
        a, b = round_at(t).gpus
        limits = frozenset({ClockLimit.HW_THERMAL}) if t == 8.0 else frozenset({ClockLimit.POWER_CAP})
        known = {name: getattr(a, name) for name in ("uuid", "energy_j", "memory_bytes", "pids")}
        return round_at(t, gpus=(GpuSample(time_s=t, limits=limits, **known), b))

    found = reckoned([hot(t) for t in TIMES])
    assert found.invalid_reasons == ("H200: hardware thermal slowdown in 1 of 7 samples",)
    assert found.notes == ("H200: software power cap in 6 of 7 samples",)


def test_energy_from_power_is_said():
    def counterless(t):
        return round_at(t, gpus=(GpuSample(time_s=t, uuid="a", power_w=300.0, pids=frozenset({7})),))

    found = reckoned([counterless(t) for t in TIMES])
    assert found.metrics["energy_j"] == pytest.approx(300.0 * 11.5)
    assert "integrated" in found.notes[0]


def test_counters_that_began_anew_leave_only_what_they_do_not_tell():
    rounds = [r if r.time_s < 9.0 else round_at(r.time_s, scrape=scrape(r.time_s, done=1.0)) for r in ROUNDS]
    found = reckoned(rounds, output_tokens=None)
    assert found.restarted
    assert "began anew" in found.notes[0]
    assert "queue_s" not in found.metrics
    assert "energy_j_per_output_tok" not in found.metrics
    assert "requests_running" in found.metrics


def test_failed_scrapes_are_said_and_what_they_leave_is_still_told():
    rounds = [r if r.time_s not in (2.6, 14.1) else round_at(r.time_s, scrape=None) for r in ROUNDS]
    found = reckoned(rounds, failures=["ReadTimeout: timed out", "no answer"])
    assert found.metrics["queue_s"] == pytest.approx(0.05)
    assert found.notes == (
        "2 of 11 scrapes of the server's metrics failed: ReadTimeout: timed out",
        "the server's counters miss the begin and the end of the load",
    )


def test_sums_without_a_count_are_not_divided_by_requests_that_they_do_not_hold():
    def plain(t):
        samples = {"llamacpp:prompt_seconds_total": {(): 2.0 * t}, "llamacpp:tokens_predicted_total": {(): t}}
        return Round(time_s=t, scrape=Scrape(time_s=t, samples=samples))

    rounds = [plain(t) for t in TIMES]
    llama = {"exposition": EXPOSITIONS["llama.cpp"], "gpus": None, "requests": 23}
    assert reckoned(rounds, **llama).metrics == {"prefill_s": 1.0}
    late = [r if r.time_s != 2.6 else Round(time_s=2.6) for r in rounds]
    assert reckoned(late, **llama).metrics == {}


@pytest.mark.parametrize("left", [0, 1])
def test_fewer_than_two_scrapes_tell_no_difference(left):
    rounds = [r if k in (5, 6)[:left] else round_at(r.time_s, scrape=None) for k, r in enumerate(ROUNDS)]
    found = reckoned(rounds, failures=["no answer"] * (11 - left))
    assert "queue_s" not in found.metrics
    assert ("requests_running" in found.metrics) == bool(left)
    assert found.notes[1] == "the server's counters were not read both before and after the load"


def test_a_load_too_short_for_a_look_has_no_state_but_its_counters():
    rounds = [round_at(2.6), round_at(14.1)]
    found = reckoned(rounds, MARKS)
    assert "requests_running" not in found.metrics
    assert {"queue_s", "energy_j", "gpu_power_w", "server_cpu_cores"} <= set(found.metrics)
