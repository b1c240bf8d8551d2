"""Who sends what when, with a pool that only notes it."""

import asyncio
import random
import time
from time import monotonic_ns

import pytest

from pytest_inferforge.loadgen.dispatch import Alarm, ClosedLoop, OpenLoop
from pytest_inferforge.loadgen.wire import Exchange

MS = 1_000_000


class Pool:
    def __init__(self):
        self.sent = []  # (index, when)
        self.expected = []

    def submit(self, exchange):
        self.sent.append((exchange.index, monotonic_ns()))

    def expect(self, exchanges):
        self.expected.append(exchanges)


def make(index):
    return Exchange(
        index=index,
        place=index,
        cls=0,
        data=b"",
        prompt_tokens=1,
        output_tokens=1,
        measured=True,
        on_end=lambda _: None,
    )


def open_loop(due_ns, *, lead_ns=5 * MS, make=make):
    """Drive it; returns the pool and the origin."""

    async def drive():
        pool, origin_ns = Pool(), monotonic_ns() + 10 * MS
        loop = OpenLoop(
            pool=pool,
            make=make,
            due_ns=due_ns,
            origin_ns=origin_ns,
            lead_ns=lead_ns,
            to_come=0,
            until_ns=None,
        )
        loop.start()
        async with asyncio.timeout(10):
            await loop.all_sent.wait()
        return pool, origin_ns

    return asyncio.run(drive())


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_sent_before_it_is_due_and_nothing_is_skipped(seed):
    rng = random.Random(seed)
    due_ns = sorted(rng.randrange(100 * MS) for _ in range(60))
    pool, origin_ns = open_loop(due_ns)
    assert [index for index, _ in pool.sent] == list(range(60))
    assert all(when >= origin_ns + due for (_, when), due in zip(pool.sent, due_ns, strict=True))


def test_requests_due_together_are_all_sent():
    pool, origin_ns = open_loop([3 * MS] * 20)
    assert [index for index, _ in pool.sent] == list(range(20))
    assert all(when >= origin_ns + 3 * MS for _, when in pool.sent)


def test_a_late_client_sends_everything_late_and_keeps_the_schedule():
    made = []

    def slow(index):
        if index == 5:
            time.sleep(0.05)  # ten requests fall due meanwhile
        made.append(make(index))
        return made[-1]

    due_ns = [k * 5 * MS for k in range(20)]
    pool, origin_ns = open_loop(due_ns, lead_ns=0, make=slow)
    assert [index for index, _ in pool.sent] == list(range(20))
    assert [exchange.due_ns - origin_ns for exchange in made] == due_ns
    lag_ns = [when - origin_ns - due for (_, when), due in zip(pool.sent, due_ns, strict=True)]
    assert lag_ns[5] > 45 * MS
    assert lag_ns[19] < lag_ns[5] - 20 * MS  # it caught up: the schedule was not shifted


def test_connections_are_asked_for_before_they_are_needed():
    pool, _ = open_loop([k * 2 * MS for k in range(10)], lead_ns=9 * MS)
    assert len(pool.expected) == 10
    assert max(pool.expected) >= 3  # several were on their way at a time


def test_an_empty_schedule_is_over_at_once():
    pool, _ = open_loop([])
    assert pool.sent == []


def closed_loop(react, *, concurrency, **arguments):
    """Drive it; `react(loop, pool)` answers requests. Returns the pool and how long it took."""

    async def drive():
        pool = Pool()
        loop = ClosedLoop(pool=pool, make=make, starts_ns=[0] * concurrency, **arguments)
        began_ns = monotonic_ns()
        loop.start()
        react(loop, pool)
        async with asyncio.timeout(10):
            await loop.all_sent.wait()
        return pool, monotonic_ns() - began_ns

    return asyncio.run(drive())


def test_a_closed_loop_holds_its_concurrency_until_all_were_sent():
    def answer_all(loop, pool):
        assert len(pool.sent) == 3
        for k in range(7):
            loop.ended()
            assert len(pool.sent) == 4 + k
        loop.ended()

    pool, _ = closed_loop(answer_all, concurrency=3, requests=10, until_ns=None)
    assert [index for index, _ in pool.sent] == list(range(10))


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_fewer_requests_than_users_are_sent_at_once(requests):
    pool, _ = closed_loop(lambda *_: None, concurrency=3, requests=requests, until_ns=None)
    assert [index for index, _ in pool.sent] == list(range(requests))


def test_a_closed_loop_ends_on_time_also_when_nobody_answers():
    until_ns = monotonic_ns() + 60 * MS
    pool, took_ns = closed_loop(lambda *_: None, concurrency=3, requests=None, until_ns=until_ns)
    assert len(pool.sent) == 3
    assert took_ns < 5_000 * MS


def test_nothing_is_sent_after_the_end():
    def late(loop, pool):
        loop.ended()

    pool, _ = closed_loop(late, concurrency=2, requests=None, until_ns=monotonic_ns() - MS)
    assert pool.sent == []


def test_an_alarm_rings_once_and_never_early():
    async def ring(when_ns):
        rung = asyncio.get_running_loop().create_future()
        alarm = Alarm(asyncio.get_running_loop(), lambda: rung.set_result(monotonic_ns()))
        alarm.set(when_ns + 50 * MS)
        alarm.set(when_ns)  # the earlier setting is forgotten
        rang_ns = await rung
        await asyncio.sleep(0.06)  # ringing again would raise
        alarm.close()
        alarm.close()
        return rang_ns

    for ahead_ms in (0, 1, 7):
        when_ns = monotonic_ns() + ahead_ms * MS
        assert asyncio.run(ring(when_ns)) >= when_ns
