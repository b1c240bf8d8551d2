"""Boots beyond the plan: in which order, for whom, and when there is no time for them."""

import dataclasses
from types import SimpleNamespace

import pytest

from pytest_inferforge.errors import EngineError
from pytest_inferforge.options import JudgeOptions
from pytest_inferforge.pytest_plugin import references
from pytest_inferforge.pytest_plugin.gate_settings import GateSettings
from pytest_inferforge.pytest_plugin.more import MoreBoots
from pytest_inferforge.records import BootResult, Fingerprint, RequestCounts, SessionResult, TestResult
from pytest_inferforge.servers.spec import ServerSpec

HERE = ServerSpec(engine="llama.cpp", settings=(("max_num_seqs", 4),))
THERE = dataclasses.replace(HERE, settings=(("max_num_seqs", 1),))
COUNTS = RequestCounts(issued=1, completed=1, failed=0, cancelled=0)
SETTINGS = GateSettings(
    against=None, pairs=None, budget_s=1000.0, under_test=frozenset(), null_control=None, plan=False,
    tail="p99",
)  # fmt: skip


class Runs:
    """What measures, without measuring: a boot takes `boot_s`, a load `load_s`; `fails` at that boot."""

    def __init__(self, *, boot_s=1.0, load_s=2.0, keys=("a", "b"), fails=None):
        self.done = []  # (spec, test) in their order, None for a boot
        self.boots = 0
        self.fails = fails
        self.load_s = dict.fromkeys(keys, load_s)
        self.pool = SimpleNamespace(boot_s={HERE: boot_s}, fresh=self.fresh)
        self.finished = [SimpleNamespace(key=key, run=SimpleNamespace(by_hand=False)) for key in keys]
        self.on_news = None
        self.clock_s = 0.0

    def fresh(self, spec):
        self.boots += 1
        if self.boots == self.fails:
            raise EngineError("it did not become ready", seen="exit code 1")
        self.clock_s += self.pool.boot_s[HERE]
        self.done.append((spec, None))

    def server(self, spec):
        return spec

    def measure(self, declared, _workload, server, *, boot):
        self.clock_s += self.load_s[declared.key]
        self.done.append((server, declared.key))
        result = BootResult(boot=boot, ready_s=None, requests=COUNTS, metrics={"ttft_s.mean": 0.1})
        return SimpleNamespace(result=result)

    def by_key(self, declared, boot):
        return {declared.key: boot.result}


def declared(key, server=HERE):
    return SimpleNamespace(
        key=key, nodeid=f"t.py::{key}", server=server, workload="w", slos=(), variants=None
    )


def more(runs, *, tests=("a", "b"), bootable=True, control=False, options=None, **settings):
    known = {key: declared(key) for key in tests}
    return MoreBoots(
        runs, known, dict.fromkeys(tests, THERE) if bootable else {},
        settings=dataclasses.replace(SETTINGS, **settings), options=options or JudgeOptions(),
        planned_boots=1, control=control, clock=lambda: runs.clock_s,
    )  # fmt: skip


def test_boots_are_in_turns_and_each_has_every_test_of_its_server():
    runs = Runs()
    made = more(runs)
    found = made.turns(["a", "b"])
    assert [slot.arm for slot in found.slots] == [
        {"R": "reference", "C": "current"}[letter] for letter in "RCCRCRRC"
    ]
    specs = [spec for spec, test in runs.done if test is None]
    assert specs == [{"R": THERE, "C": HERE}[letter] for letter in "RCCRCRRC"]
    assert all(set(slot.boots) == {"a", "b"} for slot in found.slots)
    # the order of the tests turns by one each boot
    tests = [test for _, test in runs.done if test is not None]
    assert tests[:6] == ["a", "b", "b", "a", "a", "b"]
    assert (made.boots, made.seconds, found.fault) == (8, 8 * 5.0, "")
    assert made.news == ["4 rounds of reference and current in turns for a, b, about 40 s"]


def test_only_the_tests_asked_for_are_measured():
    runs = Runs()
    found = more(runs).turns(["b", "b::class=chat"])
    assert {test for _, test in runs.done if test} == {"b"}
    assert len(found.slots) == 8


@pytest.mark.parametrize(
    ("boot_s", "budget_s", "pairs", "rounds"),
    [
        (1.0, 1000.0, None, 4),
        (60.0, 1000.0, None, 3),  # a slow boot
        (1.0, 31.0, None, 3),  # 4 rounds of 10 s do not fit
        (1.0, 29.0, None, 0),
        (1.0, 1000.0, 6, 6),
        (1.0, 59.0, 6, 0),  # so many were asked for
    ],
)
def test_as_many_pairs_as_boots_and_the_budget_allow(boot_s, budget_s, pairs, rounds):
    runs = Runs(boot_s=boot_s)
    found = more(runs, budget_s=budget_s, pairs=pairs).turns(["a", "b"])
    assert len(found.slots) == 2 * rounds
    if not rounds:
        assert runs.done == []
        assert "of the budget are left (--infer-budget)" in found.fault
        assert f"{pairs or 4} pairs of boots would take about" in found.fault


def test_a_control_is_a_third_arm():
    found = more(Runs(), control=True).turns(["a"])
    assert sorted(slot.arm for slot in found.slots) == sorted(["reference", "current", "control"] * 4)


def test_a_fault_ends_it_and_keeps_what_was_measured():
    runs = Runs(fails=4)
    found = more(runs).turns(["a"])
    assert len(found.slots) == 3
    assert found.fault == "it did not become ready"


def test_confirming_boots_go_on_counting_and_stop_with_the_budget():
    made = more(Runs(), bootable=False)
    found = made.confirm(["a"])
    assert [boot.boot for boot in found.boots["a"]] == [2, 3]
    one = more(Runs(), bootable=False, budget_s=5.0).confirm(["a"])
    assert [boot.boot for boot in one.boots["a"]] == [2]
    none = more(Runs(), bootable=False, budget_s=2.0).confirm(["a"])
    assert none.boots == {}
    assert "a confirming boot would take about 3 s" in none.fault
    costly = more(Runs(boot_s=300.0), bootable=False).confirm(["a"])
    assert len(costly.boots["a"]) == 1


def test_servers_are_measured_one_after_the_other_from_one_budget():
    runs = Runs(keys=("a", "b"))
    known = {"a": declared("a"), "b": declared("b", server=THERE)}
    runs.pool.boot_s[THERE] = 1.0
    made = MoreBoots(
        runs, known, {}, settings=dataclasses.replace(SETTINGS, budget_s=8.0), options=JudgeOptions(),
        planned_boots=1, control=False, clock=lambda: runs.clock_s,
    )  # fmt: skip
    found = made.confirm(["a", "b"])
    assert (len(found.boots["a"]), "b" in found.boots) == (2, False)
    assert "looks worse" in found.fault


def test_runs_by_hand_and_servers_that_run_elsewhere_are_not_measured_again():
    runs = Runs()
    runs.finished[0].run.by_hand = True
    assert more(runs).can == {"b"}
    url = ServerSpec(engine="url", url="http://127.0.0.1:1")
    made = MoreBoots(
        Runs(), {"a": declared("a", server=url)}, {}, settings=SETTINGS, options=JudgeOptions(),
        planned_boots=1, control=False,
    )  # fmt: skip
    assert made.can == frozenset()
    assert made.as_gate_input(None) is None
    restarted = dataclasses.replace(url, restart="systemctl restart x")
    assert MoreBoots(
        Runs(), {"a": declared("a", server=restarted)}, {}, settings=SETTINGS, options=JudgeOptions(),
        planned_boots=1, control=False,
    ).can == {"a"}  # fmt: skip


# -- the server of a baseline ----------------------------------------------------------------------------


def stored(spec, **changed):
    identity = {**spec.identity(), **changed}
    test = TestResult(nodeid="a", fingerprint=Fingerprint(), gated=(), boots=(), server=identity)
    return SessionResult(
        schema=1, id="s", started_at="2026-01-01T00:00:00+00:00", version="0", seed=1,
        fingerprint=Fingerprint(), planned_boots=1, complete=True, accepted=True, tests=(test,),
    )  # fmt: skip


def test_other_settings_or_another_model_can_be_booted():
    here = {"a": declared("a")}
    assert references.of_baseline(here, [stored(THERE)]) == {"a": THERE}
    other = dataclasses.replace(HERE, model="other.gguf", revision="r1")
    assert references.of_baseline(here, [stored(other)]) == {"a": other}


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"python": "/elsewhere/python"}, {"command": "rm -rf /"}, {"image": "evil:latest"},
        {"args": ["--trust-remote-code"]}, {"env": {"LD_PRELOAD": "x"}}, {"engine": "vllm"}, {"gpus": 8},
        {"settings": "no table"},
    ],
)  # fmt: skip
def test_nothing_that_a_file_names_is_ever_started(changed):
    assert references.of_baseline({"a": declared("a")}, [stored(HERE, **changed)]) == {}


def test_only_the_newest_accepted_session_counts():
    rejected = dataclasses.replace(stored(THERE), accepted=False)
    assert references.of_baseline({"a": declared("a")}, [rejected]) == {}
    assert references.of_baseline({"a": declared("a")}, []) == {}
