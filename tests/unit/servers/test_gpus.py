"""GPU leases, with GPUs that are made up: no lock is held twice, and nobody's devices are changed."""

import multiprocessing
import os

import pytest

from pytest_inferforge.errors import EngineError
from pytest_inferforge.servers import gpus
from pytest_inferforge.servers.gpus import VISIBLE, Leases, visible, wanted
from pytest_inferforge.servers.spec import ServerSpec, pairs
from pytest_inferforge.telemetry.gpu import Gpu, GpuSample

GIB = 2**30
CARDS = tuple(
    Gpu(uuid=f"GPU-{letter * 8}", name="a card", memory_bytes=80 * GIB, mig=False) for letter in "abcd"
)


class Cards:
    """GPUs that hold as much memory as they are told, look after look."""

    driver = cuda = None
    devices = CARDS

    def __init__(self, *held):
        self.held = list(held) or [GIB]

    def sample(self, time_s):
        now = self.held.pop(0) if len(self.held) > 1 else self.held[0]
        return tuple(GpuSample(time_s=time_s, uuid=card.uuid, memory_bytes=now) for card in self.devices)


def spec(engine="vllm", gpus=None, command=None, url=None, **settings):
    return ServerSpec(engine=engine, model="m", gpus=gpus, command=command, url=url, settings=pairs(settings))


def leases(tmp_path, cards=None, environ=None):
    return Leases(cards or Cards(), environ=environ or {}, folder=tmp_path)


def test_a_server_gets_as_many_as_its_parallelism_needs():
    assert wanted(spec()) == 1
    assert wanted(spec(tensor_parallel=2, pipeline_parallel=2, data_parallel=3)) == 12
    assert wanted(spec(tensor_parallel=2, gpus=4)) == 4
    assert wanted(spec("llama.cpp")) == 0
    assert wanted(spec("llama.cpp", gpus=1)) == 1
    assert wanted(spec("url", url="http://x")) == 0
    assert wanted(spec("custom", command="serve {port}")) is None


@pytest.mark.parametrize(
    ("shown", "seen"),
    [
        (None, "abcd"),
        ("2,0", "ca"),
        ("GPU-bbbbbbbb,GPU-a", "ba"),
        ("1, 3", "bd"),
        ("0,7,1", "a"),  # what stands behind one that is not there is not seen
        ("", ""),
        ("-1", ""),
        ("GPU-", ""),  # more than one begins like that
    ],
)
def test_only_what_is_visible_is_leased_in_its_order(shown, seen):
    assert "".join(card.uuid[-1] for card in visible(CARDS, shown)) == seen


def test_all_boots_of_a_session_get_the_same_devices(tmp_path):
    held = leases(tmp_path, environ={VISIBLE: "1,2,3"})
    first = held.take(spec(tensor_parallel=2))
    assert [card.uuid for card in first] == ["GPU-bbbbbbbb", "GPU-cccccccc"]
    assert held.take(spec(tensor_parallel=2)) == first
    assert held.take(spec()) == first[:1]
    assert held.environment(spec(), first[:1]) == {VISIBLE: "GPU-bbbbbbbb"}
    held.release()
    held.release()


def test_a_command_of_the_users_own_sees_what_it_saw(tmp_path):
    held = leases(tmp_path)
    own = spec("custom", command="serve {port}")
    chosen = held.take(own)
    assert chosen == CARDS
    assert held.environment(own, chosen) == {}
    held.release()


def test_too_few_are_refused_with_what_there_is(tmp_path):
    with pytest.raises(EngineError) as caught:
        leases(tmp_path, environ={VISIBLE: "0"}).take(spec(tensor_parallel=2))
    assert caught.value.what == "vllm needs 2 GPUs"
    assert caught.value.seen == "1 visible: a card"


def _hold(folder, held, over):
    Leases(Cards(), environ={VISIBLE: "0"}, folder=folder).take(spec())
    held.set()
    over.wait(30)


def test_another_session_is_named_and_its_end_gives_the_device_back(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, over = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, over))
    other.start()
    assert held.wait(30)
    with pytest.raises(EngineError) as caught:
        leases(tmp_path).take(spec())
    assert caught.value.seen == f"GPU-aaaaaaaa, held by process {other.pid}"
    other.kill()  # not even a SIGKILL leaves a lease behind
    other.join()
    mine = leases(tmp_path)
    assert len(mine.take(spec())) == 1
    assert (tmp_path / "pytest-inferforge-GPU-aaaaaaaa.lock").read_text() == str(os.getpid())
    mine.release()


def test_a_link_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "pytest-inferforge-GPU-aaaaaaaa.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="cannot be leased"):
        leases(tmp_path).take(spec())
    assert not (tmp_path / "elsewhere").exists()


def test_memory_is_awaited_until_it_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "_LOOK_S", 0.001)
    cards = Cards(GIB, 60 * GIB, 60 * GIB, GIB)
    held = leases(tmp_path, cards)
    before = held.sample()
    assert held.await_release(before, ["GPU-aaaaaaaa"]) is None
    assert cards.held == [GIB]


def test_memory_that_stays_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "_LOOK_S", 0.001)
    monkeypatch.setattr(gpus, "_RELEASE_S", 0.01)
    held = leases(tmp_path, Cards(GIB, 60 * GIB))
    assert held.await_release(held.sample(), ["GPU-aaaaaaaa"]) == "GPU-aaaaaaaa: 64.4 GB, 1.1 GB before"
    assert held.await_release(held.sample(), []) is None


def test_without_gpus_nothing_is_leased(tmp_path):
    none = Leases(None, folder=tmp_path)
    assert none.take(spec(tensor_parallel=8)) == ()
    assert none.sample() is None
    assert none.environment(spec(), ()) == {}
    assert list(tmp_path.iterdir()) == []
