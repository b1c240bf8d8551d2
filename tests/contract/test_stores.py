"""What holds of a store, whichever place it is in: a folder, and a bucket behind S3's own protocol."""

import dataclasses
import json
import multiprocessing
import sys
import threading

import pytest

from pytest_inferforge.baselines import open_store
from pytest_inferforge.codec import SCHEMA, encode_session
from pytest_inferforge.errors import BaselineError, UsageError
from pytest_inferforge.records import (
    BootResult,
    Decision,
    DecisionKind,
    Fingerprint,
    RequestCounts,
    SessionResult,
    TestResult,
)


def session(id_="s1", day=1, value=0.1, **fields):
    counts = RequestCounts(issued=1, completed=1, failed=0, cancelled=0)
    boot = BootResult(boot=1, ready_s=1.0, requests=counts, metrics={"tpot_s.mean": value})
    test = TestResult(nodeid="t", fingerprint=Fingerprint(), gated=("tpot_s.mean",), boots=(boot,))
    made = SessionResult(
        schema=SCHEMA,
        id=id_,
        started_at=f"2026-01-{day:02d}T03:00:00+00:00",
        version="0.1.0",
        seed=7,
        fingerprint=Fingerprint(),
        planned_boots=1,
        complete=True,
        accepted=True,
        tests=(test,),
    )
    return dataclasses.replace(made, **fields)


def decision(kind, *sessions, at="2026-02-01T03:00:00+00:00", **fields):
    given = {"schema": SCHEMA, "sessions": sessions, "reason": "seen by a person", "at": at, **fields}
    return Decision(decision=DecisionKind(kind), **given)


class Folder:
    """A store in a folder, and how a test looks behind it."""

    def __init__(self, path):
        self.path = path
        self.location = str(path)

    def contents(self):
        files = (p for p in self.path.rglob("*") if p.is_file() and p.name != ".gitignore")
        return {p.relative_to(self.path).as_posix(): p.read_bytes() for p in files}

    def put(self, key, content):
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Bucket:
    """The same in a bucket; below a prefix, so that it is seen when somebody leaves it."""

    def __init__(self, s3):
        self.s3 = s3
        self.location = f"s3://{s3.bucket}/team/models"

    def contents(self):
        prefix = "team/models/"
        found = self.s3.contents()
        assert all(key.startswith(prefix) for key in found)
        return {key.removeprefix(prefix): content for key, content in found.items()}

    def put(self, key, content):
        self.s3.put(f"team/models/{key}", content)


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
    if request.param == "folder":
        return Folder(tmp_path / "store")
    return Bucket(request.getfixturevalue("s3"))


@pytest.fixture
def store(place, tmp_path):
    return open_store(place.location, local=tmp_path / "local")


def test_what_is_saved_is_loaded_oldest_first(store, place):
    saved = [session("zz", 1), session("aa", 3), session("mm", 2)]
    assert store.names() == ()
    where = [store.save("main", s) for s in saved]
    assert where[0] == f"{place.location}/baselines/main/zz.json"
    assert store.load("main") == (saved[0], saved[2], saved[1])
    assert place.contents() == {f"baselines/main/{s.id}.json": encode_session(s) for s in saved}
    assert store.names() == ("main",)


def test_a_stored_session_is_never_changed(store, place):
    store.save("main", session(value=0.1))
    before = place.contents()
    with pytest.raises(BaselineError, match="session s1 is in baseline main already") as error:
        store.save("main", session(value=0.2))
    assert error.value.seen.endswith("baselines/main/s1.json")
    assert place.contents() == before


def test_a_missing_baseline_names_the_nearest(store):
    with pytest.raises(UsageError) as error:
        store.load("main")
    assert "--infer-missing=record" in error.value.do
    store.save("main", session())
    store.save("nightly", session())
    assert store.missing("mian").do == "did you mean main?"
    assert store.missing("xyz").do == "choose one of: main, nightly"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": 99}', b"not json"])
def test_a_broken_file_is_named_and_left_alone(store, place, content):
    store.save("main", session())
    place.put("baselines/main/broken.json", content)
    with pytest.raises(BaselineError, match=r"baselines/main/broken\.json") as error:
        store.load("main")
    assert error.value.do
    assert place.contents()["baselines/main/broken.json"] == content


def test_a_copy_under_another_name_would_count_twice(store, place):
    store.save("main", session())
    place.put("baselines/main/copy.json", encode_session(session()))
    with pytest.raises(BaselineError, match=r"copy\.json holds another session"):
        store.load("main")


def test_files_of_others_beside_the_sessions_are_no_sessions(store, place):
    for key in ("baselines/main/README.md", "baselines/main/.s3.json", "baselines/main/a/b.json"):
        place.put(key, b"x")
    assert store.names() == ()
    store.save("main", session())
    assert store.load("main") == (session(),)


def test_baselines_do_not_see_each_other_by_the_beginning_of_their_names(store):
    store.save("main", session("a"))
    store.save("main2", session("b"))
    assert [s.id for s in store.load("main")] == ["a"]
    assert store.names() == ("main", "main2")


# -- decisions ---------------------------------------------------------------------------------------------


def test_the_newest_decision_about_a_session_holds_and_the_session_stays_as_it_is(store, place):
    store.save("main", session("a"))
    store.save("main", session("b", accepted=False))
    before = place.contents()
    store.decide("main", decision("accept", "b", at="2026-02-02T03:00:00+00:00"))
    store.decide("main", decision("reject", "b", at="2026-02-01T03:00:00+00:00"))
    store.decide("main", decision("reject", "a", at="2026-02-01T03:00:00+00:00"))
    assert {s.id: s.accepted for s in store.load("main")} == {"a": False, "b": True}
    assert {s.id: s.accepted for s in store.stored("main")} == {"a": True, "b": False}
    assert {key: place.contents()[key] for key in before} == before
    assert store.names() == ("main",)
    assert [d.decision for d in store.decisions("main")] == ["reject", "reject", "accept"]


def test_decisions_are_told_apart_within_a_moment(store):
    store.save("main", session("a"))
    for _ in range(3):
        store.decide("main", decision("reject", "a"))
    assert len(store.decisions("main")) == 3


def test_the_newest_pin_holds_until_it_is_taken_back(store):
    for name in "abc":
        store.save("main", session(name, day=ord(name) - ord("a") + 1))
    assert store.pinned("main") == ()
    store.decide("main", decision("pin", "a", "b", at="2026-02-01T03:00:00+00:00"))
    assert [s.id for s in store.pinned("main")] == ["a", "b"]
    store.decide("main", decision("pin", "b", "c", at="2026-02-02T03:00:00+00:00"))
    assert [s.id for s in store.pinned("main")] == ["b", "c"]
    store.decide("main", decision("reject", "c", at="2026-02-03T03:00:00+00:00"))
    assert [s.id for s in store.pinned("main")] == ["b"]
    store.decide("main", decision("unpin", at="2026-02-04T03:00:00+00:00"))
    assert store.pinned("main") == ()


def test_a_pinned_session_that_is_gone_is_named(store):
    store.save("main", session("a"))
    store.save("main", session("b"))
    store.decide("main", decision("pin", "a", "b"))
    store.remove("main", "b")
    with pytest.raises(BaselineError, match="pinned sessions of baseline main are gone") as error:
        store.pinned("main")
    assert error.value.seen == "b"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content | {"schema": 2},
        lambda content: content | {"decision": "maybe"},
        lambda content: content | {"at": "yesterday"},
        lambda content: content | {"colour": "red"},
        lambda content: {k: v for k, v in content.items() if k != "reason"},
    ],
    ids=["schema", "decision", "time", "unknown", "missing"],
)
def test_a_broken_decision_is_named_and_left_alone(store, place, damage):
    store.save("main", session("a"))
    store.decide("main", decision("reject", "a"))
    (key,) = [k for k in place.contents() if "/decisions/" in k]
    broken = json.dumps(damage(json.loads(place.contents()[key]))).encode()
    place.put("baselines/main/decisions/x.json", broken)
    with pytest.raises(BaselineError, match=r"decisions/x\.json"):
        store.load("main")
    assert place.contents()["baselines/main/decisions/x.json"] == broken


# -- shards, rows ------------------------------------------------------------------------------------------


def test_shards_are_kept_apart_from_baselines_and_loaded_in_the_order_of_their_start(store, place):
    late, early = session("ci-7", day=3), session("ci-7", day=2)
    for shard in (late, early, session("ci-8", day=1)):
        store.save_shard("main", shard)
    assert store.shards("main", "ci-7") == (early, late)
    assert store.names() == ()
    with pytest.raises(UsageError, match="session ci-9 has no shards for baseline main"):
        store.shards("main", "ci-9")
    assert all(key.startswith("shards/ci-") for key in place.contents())


def test_a_shard_of_another_session_is_named(store, place):
    place.put("shards/ci-7/main/x.json", encode_session(session("ci-8")))
    with pytest.raises(BaselineError, match=r"x\.json holds another session"):
        store.shards("main", "ci-7")


def test_rows_and_logs_stay_on_this_machine(store, place, tmp_path):
    folder = store.run_folder("s1")
    assert folder == tmp_path / "local/runs/s1"
    assert (folder.parent / ".gitignore").read_text() == "*\n"
    assert place.contents() == {}


# -- writers at once ---------------------------------------------------------------------------------------


def test_of_many_threads_that_save_one_session_one_wins(store, place):
    won, lost, ready = [], [], threading.Barrier(8)

    def save(value):
        ready.wait()
        try:
            store.save("main", session(value=value))
            won.append(value)
        except BaselineError:
            lost.append(value)

    threads = [threading.Thread(target=save, args=(float(k),)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert place.contents() == {"baselines/main/s1.json": encode_session(session(value=won[0]))}


def _race(location, local, writer, barrier, won):
    store = open_store(location, local=local)
    for k in range(5):
        barrier.wait()
        store.save("main", session(f"own-{writer}-{k}"))
        try:
            store.save("main", session(f"both-{k}", value=float(writer)))
            won.put((k, writer))
        except BaselineError:
            pass


def test_of_processes_that_save_at_once_one_wins_and_nothing_is_lost(place, tmp_path):
    spawn = multiprocessing.get_context("spawn")  # obstore's threads do not survive a fork
    barrier, won = spawn.Barrier(2), spawn.Queue()
    arguments = (place.location, tmp_path / "local")
    writers = [spawn.Process(target=_race, args=(*arguments, w, barrier, won)) for w in range(2)]
    for writer in writers:
        writer.start()
    winners = dict(won.get(timeout=60) for _ in range(5))
    for writer in writers:
        writer.join()
    assert [w.exitcode for w in writers] == [0, 0]
    assert won.empty()
    stored = {s.id: s for s in open_store(place.location, local=tmp_path).load("main")}
    assert len(stored) == 15
    for k, writer in winners.items():
        assert stored[f"both-{k}"] == session(f"both-{k}", value=float(writer))


# -- URLs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("s4://bucket/x", "s3://BUCKET/PREFIX"),
        ("http://bucket/x", "or a folder"),
        ("s3://", "s3://BUCKET/PREFIX"),
        ("s3:///prefix", "s3://BUCKET/PREFIX"),
        ("s3://key:geheim@bucket/x", "from the environment (AWS_...)"),
        ("s3://bucket/x?secret_access_key=geheim", "from the environment (AWS_...)"),
        ("az://bucket/x#geheim", "from the environment (AZURE_...)"),
    ],
)
def test_what_is_no_place_for_a_store_is_refused_without_repeating_secrets(location, told):
    with pytest.raises(UsageError) as error:
        open_store(location)
    assert told in error.value.do
    assert "geheim" not in str(error.value)


def test_without_obstore_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match="needs the package obstore") as error:
        open_store("s3://bucket/x")
    assert error.value.do == "pip install 'pytest-inferforge[store]'"


@pytest.mark.parametrize(
    ("location", "environment"),
    [
        ("gs://bucket/prefix", {}),
        ("az://container/prefix", {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "YQ=="}),
    ],
)
def test_buckets_of_others_are_opened_too(monkeypatch, location, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert open_store(location)


def test_the_stand_in_speaks_of_conditions_as_s3_does(s3):
    """Else the races above would prove nothing of a bucket."""
    s3.put("x", b"first")
    with pytest.raises(Exception, match="PreconditionFailed"):
        s3._client().put_object(Bucket=s3.bucket, Key="x", Body=b"second", IfNoneMatch="*")
    assert s3.contents() == {"x": b"first"}
