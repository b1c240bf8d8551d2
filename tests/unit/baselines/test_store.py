"""A store in a folder, beyond what holds of every store: whole files only, never outside of its folder."""

import dataclasses
import gzip
import multiprocessing
import os
from pathlib import Path

import pytest

from pytest_inferforge.baselines import open_store, read_rows, write_rows
from pytest_inferforge.errors import BaselineError, UsageError
from pytest_inferforge.records import (
    BootResult,
    Fingerprint,
    RequestCounts,
    RequestRecord,
    RequestStatus,
    SessionResult,
    TestResult,
)


def session(id_="s1", day=1, value=0.1):
    boot = BootResult(
        boot=1,
        ready_s=1.0,
        requests=RequestCounts(issued=1, completed=1, failed=0, cancelled=0),
        metrics={f"metric_{k}": value for k in range(200)},
    )
    return SessionResult(
        schema=1,
        id=id_,
        started_at=f"2026-01-{day:02d}T03:00:00Z",
        version="0.1.0",
        seed=7,
        fingerprint=Fingerprint(),
        planned_boots=1,
        complete=True,
        accepted=True,
        tests=(TestResult(nodeid="t", fingerprint=Fingerprint(), gated=("metric_1",), boots=(boot,)),),
    )


def names_in(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / ".inferforge")


def test_a_stored_session_is_never_changed(store):
    path = Path(store.save("main", session(value=0.1)))
    before = path.read_bytes()
    with pytest.raises(BaselineError, match="session s1 is in baseline main already"):
        store.save("main", session(value=0.2))
    assert path.read_bytes() == before
    assert names_in(path.parent) == ["s1.json"]  # no draft is left


def test_a_file_appears_whole_or_not_at_all(store, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(BaselineError, match="cannot be written") as error:
        store.save("main", session())
    assert error.value.seen == "disk full"
    assert store.names() == ()
    assert names_in(tmp_path / ".inferforge/baselines/main") == []


def test_file_systems_without_hard_links_still_never_overwrite(store, monkeypatch):
    def unsupported(self, target):
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    path = Path(store.save("main", session(value=0.1)))
    with pytest.raises(BaselineError, match="already"):
        store.save("main", session(value=0.2))
    assert store.load("main") == (session(value=0.1),)
    assert names_in(path.parent) == ["s1.json"]


def _save_some(root, writer):
    store = open_store(root)
    for k in range(10):
        store.save("main", session(f"w{writer}-{k}"))


def test_many_processes_add_their_sessions_while_others_read(store, tmp_path):
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_save_some, args=(tmp_path / ".inferforge", w)) for w in range(3)]
    store.save("main", session("first"))
    for writer in writers:
        writer.start()
    seen = [len(store.load("main"))]  # every file that is seen is whole
    while any(w.is_alive() for w in writers):
        seen.append(len(store.load("main")))
    for writer in writers:
        writer.join()
    assert [w.exitcode for w in writers] == [0, 0, 0]
    assert seen == sorted(seen)
    assert len(store.load("main")) == 31


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        ".hidden",
        "-x",
        "a b",
        "a\n",
        "a\0",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        "x" * 129,
    ],
)
def test_names_stay_inside_the_folder(store, tmp_path, name):
    for use in (
        lambda: store.save(name, session()),
        lambda: store.load(name),
        lambda: store.save("main", session(name)),
        lambda: store.run_folder(name),
    ):
        with pytest.raises(UsageError, match="cannot be used for a file"):
            use()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", ["main", "release-1.2_rc", "0", "x" * 128])
def test_plain_names_are_fine(store, name):
    store.save(name, session())
    assert store.names() == (name,)


def test_files_of_others_beside_the_sessions_are_no_sessions(store):
    path = Path(store.save("main", session()))
    for name in ("README.md", ".s2.json.abc.tmp", ".s3.json"):
        path.with_name(name).write_text("x")
    assert store.load("main") == (session(),)
    path.unlink()
    assert store.names() == ()
    with pytest.raises(UsageError, match="unknown baseline"):
        store.load("main")


def test_runs_are_ignored_by_git(store, tmp_path):
    folder = store.run_folder("s1")
    assert folder == store.run_folder("s1") == tmp_path / ".inferforge/runs/s1"
    assert folder.is_dir()
    assert (folder.parent / ".gitignore").read_text() == "*\n"
    (folder.parent / ".gitignore").write_text("mine\n")
    store.run_folder("s2")
    assert (folder.parent / ".gitignore").read_text() == "mine\n"


def rows(n=3):
    return [
        RequestRecord(
            index=k,
            id=str(k),
            status=RequestStatus.OK,
            prompt_tokens_asked=1,
            output_tokens_asked=1,
            chunk_s=(0.5 + k,),
        )
        for k in range(n)
    ]


def test_rows_are_read_back(tmp_path):
    path = tmp_path / "chat.jsonl.gz"
    write_rows(path, iter(rows()))
    assert list(read_rows(path)) == rows()
    assert gzip.decompress(path.read_bytes()).count(b"\n") == 3
    with pytest.raises(FileExistsError):
        write_rows(path, rows(1))
    assert len(list(read_rows(path))) == 3


def test_no_rows_are_a_file_without_rows(tmp_path):
    write_rows(tmp_path / "x.jsonl.gz", [])
    assert list(read_rows(tmp_path / "x.jsonl.gz")) == []


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda _: b"plain text", lambda _: gzip.compress(b'{"index": 1}\n')]
)
def test_damaged_rows_are_named(tmp_path, damage):
    path = tmp_path / "chat.jsonl.gz"
    write_rows(path, rows(200))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BaselineError, match=r"chat\.jsonl\.gz"):
        list(read_rows(path))


def test_absent_rows_are_named(tmp_path):
    with pytest.raises(BaselineError, match="absent"):
        list(read_rows(tmp_path / "absent.jsonl.gz"))


def test_saving_does_not_depend_on_the_order_of_keys(store):
    one = session()
    (test,) = one.tests
    (boot,) = test.boots
    boot = dataclasses.replace(boot, metrics=dict(reversed(boot.metrics.items())))
    turned = dataclasses.replace(one, tests=(dataclasses.replace(test, boots=(boot,)),))
    assert Path(store.save("turned", turned)).read_bytes() == Path(store.save("main", one)).read_bytes()
