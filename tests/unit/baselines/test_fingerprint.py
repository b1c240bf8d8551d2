import os
import platform
import subprocess

import pytest

from pytest_inferforge.baselines import git_source, host_fingerprint


def test_the_cpu_model_is_hard(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some  CPU @ 2.0GHz\nmodel name\t: Other\n"
    )
    found = host_fingerprint(cpuinfo)
    assert found.hard == {"cpu_model": "Some CPU @ 2.0GHz"}
    assert found.identity == {}
    assert set(found.soft) == {"kernel", "python", "host", "cpus", "inferforge"}
    assert found.soft["cpus"] == str(os.cpu_count())
    assert all(found.soft.values())


@pytest.mark.parametrize("text", ["", "processor\t: 0\nBogoMIPS\t: 50\n", None])
def test_a_cpu_without_a_name_is_known_by_its_architecture(tmp_path, text):
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    assert host_fingerprint(cpuinfo).hard["cpu_model"] in {platform.processor(), platform.machine()}


def git(folder, *arguments):
    names = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, env={**os.environ, **names}
    )


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_tree(repository):
    found = git_source(repository)
    assert (found["branch"], found["dirty"], len(found["commit"])) == ("trunk", "false", 40)


def test_a_new_baseline_does_not_make_a_tree_dirty_but_a_change_does(repository):
    (repository / "new").write_text("1")
    assert git_source(repository)["dirty"] == "false"
    (repository / "a").write_text("2")
    assert git_source(repository)["dirty"] == "true"


def test_a_detached_head_has_no_branch(repository):
    git(repository, "checkout", "-q", "--detach")
    assert git_source(repository)["branch"] == "HEAD"


def test_outside_a_repository_there_is_no_source(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_source(tmp_path) == {}
    assert git_source(tmp_path / "absent") == {}


def test_without_git_there_is_no_source(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_source(repository) == {}
