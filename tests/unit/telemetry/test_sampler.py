"""The thread: when it looks, what it does when a look fails or hangs, and that it ends."""

import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.exposition import EXPOSITIONS
from pytest_inferforge.telemetry.gpu import Gpu, GpuSample
from pytest_inferforge.telemetry.host import HostSample
from pytest_inferforge.telemetry.sampler import Sampler

LLAMA = EXPOSITIONS["llama.cpp"]
WAIT_S = 10.0  # for what happens in a moment, on a machine that is busy


def text(done, running=1):
    return (
        f"llamacpp:tokens_predicted_total {done}\nllamacpp:prompt_seconds_total {done}\n"
        f"llamacpp:requests_processing {running}\n"
    )


def look_at_host(time_s):
    return HostSample(
        time_s=time_s, pids=frozenset(), server_cpu_s=0.0, ours_cpu_s=0.0, server_memory_bytes=None,
        busy_s=0.0, total_s=0.0, steal_s=None, free_memory_bytes=1000,
    )  # fmt: skip


def sampler(fetch, **given):
    known = {
        "exposition": LLAMA,
        "pids": tuple,
        "gpus": None,
        "look_at_host": look_at_host,
        "interval_s": 60.0,
    }
    return Sampler(fetch=fetch, **(known | given))


def until(true):
    """Wait for another thread."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Clock:
    """One second more each time it is asked."""

    def __init__(self):
        self._ticks = itertools.count()

    def __call__(self):
        return float(next(self._ticks))


def test_it_looks_at_once_before_the_load_and_after_it_and_between_by_the_interval():
    calls = []

    def fetch():
        calls.append(len(calls))
        return text(len(calls))

    with sampler(fetch, clock=Clock()) as telemetry:
        until(lambda: len(calls) == 1)
        telemetry.mark("warmup")
        telemetry.mark("ready")
        until(lambda: len(calls) == 2)
        telemetry.mark("load")
        telemetry.mark("load")
        telemetry.mark("drain")
        time.sleep(0.05)
        assert len(calls) == 2  # the interval is a minute
        telemetry.mark("end")
        until(lambda: len(calls) == 3)
    time.sleep(0.05)
    assert len(calls) == 3
    assert not telemetry._thread.is_alive()
    found = telemetry.result(requests=4)
    assert found.metrics == {"prefill_s": 0.25, "host_free_memory_bytes": 1000.0}
    assert found.notes == ()


def test_a_load_without_a_pause_before_it_is_looked_at_when_it_begins():
    calls = []
    with sampler(lambda: calls.append(1) or text(len(calls))) as telemetry:
        until(lambda: len(calls) == 1)
        telemetry.mark("load")
        until(lambda: len(calls) == 2)
    assert len(calls) == 3  # the end of the block is the end of the load
    assert telemetry.result(requests=1).metrics["prefill_s"] == 1.0


def test_rounds_come_by_the_interval_and_never_overlap():
    inside, most, times = [], [], []

    def fetch():
        inside.append(1)
        most.append(len(inside))
        times.append(time.monotonic())
        time.sleep(0.002)
        inside.pop()
        return text(len(times))

    with sampler(fetch, interval_s=0.05) as telemetry:
        telemetry.mark("load")
        until(lambda: len(times) >= 7)
    assert set(most) == {1}
    assert times[6] - times[2] > 0.12  # four intervals, and a machine that is busy
    assert telemetry.result().metrics["requests_running"] == 1.0


def test_after_a_round_that_took_long_it_rests_a_whole_interval():
    times = []

    def slow():
        times.append(time.monotonic())
        time.sleep(0.06)
        return text(1)

    with sampler(slow, interval_s=0.05):
        until(lambda: len(times) == 3)
    assert all(after - before > 0.1 for before, after in itertools.pairwise(times[:3]))


@pytest.mark.parametrize(
    ("fetch", "said"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: None, "no answer"),
        (lambda: "<html>503</html>", "none of the engine's series is in it"),
        (lambda: "llamacpp:requests_processing many\n", "ValueError: could not convert"),
    ],
)
def test_a_failing_fetch_is_counted_and_said_and_never_raises(fetch, said):
    with sampler(fetch) as telemetry:
        telemetry.mark("load")
    found = telemetry.result()
    assert found.metrics == {"host_free_memory_bytes": 1000.0}
    assert "scrapes of the server's metrics failed" in found.notes[0]
    assert said in found.notes[0]
    assert "not read both before and after" in found.notes[1]


def test_a_fetch_that_hangs_holds_the_end_up_for_no_longer_than_the_patience():
    release = threading.Event()
    answers = iter([text(1), text(2)])

    def fetch():
        try:
            return next(answers)
        except StopIteration:
            release.wait(30.0)
            return text(1000)

    telemetry = sampler(fetch, patience_s=0.1)
    with telemetry:
        until(lambda: len(telemetry._rounds) == 1)
        telemetry.mark("load")
        until(lambda: len(telemetry._rounds) == 2)
        began = time.monotonic()
    assert time.monotonic() - began < 5.0
    before = telemetry.result()
    assert "the last one took longer than 0.1 s" in before.notes[0]
    release.set()
    telemetry._thread.join(WAIT_S)
    assert telemetry.result() == before  # what came too late is left out


def test_an_error_in_the_block_ends_it_without_another_look():
    calls = []
    telemetry = sampler(lambda: calls.append(1) or text(1))

    def interrupted():
        with telemetry:
            until(lambda: telemetry._rounds)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    telemetry._thread.join(WAIT_S)
    assert not telemetry._thread.is_alive()
    assert len(calls) == 1


def test_nothing_to_scrape_is_no_failure():
    for nothing in ({"fetch": None}, {"fetch": lambda: 1 / 0, "exposition": None}):
        with sampler(**nothing) as telemetry:
            telemetry.mark("load")
        assert telemetry.result().notes == ()


def played(events, *, thin):
    """A run without its thread: what happens each second, a mark or a look (True: its scrape succeeds)."""
    now = itertools.count()
    done = itertools.count(1)
    outcome = []
    telemetry = sampler(lambda: text(next(done)) if outcome[-1] else None, clock=lambda: float(next(now)))
    if not thin:
        telemetry._thin = lambda: None
    for event in events:
        if isinstance(event, str):
            telemetry.mark(event)
        else:
            outcome.append(event)
            telemetry._look(telemetry._clock())
    return telemetry


LOOKS = st.lists(st.booleans(), max_size=4)


@given(
    phases=st.tuples(LOOKS, LOOKS, LOOKS, LOOKS, LOOKS),
    ready=st.booleans(),
    drain=st.booleans(),
    last=st.booleans(),
)
def test_counters_that_are_not_kept_are_not_needed(phases, ready, drain, last):
    marks = ("warmup", "ready" if ready else "warmup", "load", "drain" if drain else "load", "end")
    events = [e for looks, mark in zip(phases, marks, strict=True) for e in (*looks, mark)] + [last]
    thinned, whole = played(events, thin=True), played(events, thin=False)
    assert thinned.result(requests=3) == whole.result(requests=3)
    assert len(thinned._rounds) == len(whole._rounds)


def test_of_a_long_run_only_the_edges_keep_their_counters():
    telemetry = played(["ready", True, "load", *[True] * 50, "end", True], thin=True)
    counted = [
        k for k, r in enumerate(telemetry._rounds) if "llamacpp:prompt_seconds_total" in r.scrape.samples
    ]
    assert counted == [0, 51]
    assert telemetry.result().metrics["requests_running"] == 1.0


class Machine:
    devices = (Gpu(uuid="a", name="H200", memory_bytes=2**37, mig=False),)
    driver = "570.86.15"
    cuda = None

    def sample(self, time_s):
        return (
            GpuSample(
                time_s=time_s, uuid="a", energy_j=200.0 * time_s, memory_bytes=2**30, pids=frozenset({7})
            ),
        )


def test_gpus_are_looked_at_in_the_same_rounds():
    def host(time_s):
        known = {name: getattr(look_at_host(time_s), name) for name in HostSample.__dataclass_fields__}
        return HostSample(**(known | {"pids": frozenset({7})}))

    with sampler(None, gpus=Machine(), look_at_host=host, clock=Clock()) as telemetry:
        until(lambda: len(telemetry._rounds) == 1)
        telemetry.mark("load")
        until(lambda: len(telemetry._rounds) == 2)
    found = telemetry.result(output_tokens=100)
    seconds = telemetry._rounds[-1].time_s - telemetry._rounds[1].time_s
    assert found.metrics["energy_j"] == pytest.approx(200.0 * seconds)
    assert found.metrics["energy_j_per_output_tok"] == pytest.approx(2.0 * seconds)
    assert found.metrics["gpu_power_w"] == pytest.approx(200.0)
    assert found.facts == {"gpu": "H200", "gpu_driver": "570.86.15"}


def test_processes_are_looked_at_by_itself():
    with Sampler(fetch=None, exposition=None, pids=tuple, gpus=None) as telemetry:
        telemetry.mark("load")
    assert telemetry.result().metrics["host_free_memory_bytes"] > 0
