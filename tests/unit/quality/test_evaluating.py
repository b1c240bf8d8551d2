"""What is refused before a process is started, and what that process sees."""

from dataclasses import replace

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality import evaluating
from pytest_inferforge.quality.evaluation import Job, Target, Task

JOB = Job(
    target=Target(url="http://127.0.0.1:1", model="m", dialect="generic"),
    tasks=(Task(name="forge_recall"),),
    limit=5,
    chat=False,
    concurrency=1,
    seed=1,
    timeout_s=1.0,
    retries=0,
)


def test_without_lm_eval_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating.importlib.util, "find_spec", lambda _name: None)
    assert not evaluating.installed()
    with pytest.raises(UsageError) as caught:
        evaluating.evaluate(JOB, folder=tmp_path)
    assert caught.value.do == "pip install 'pytest-inferforge[quality]'"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"target": replace(JOB.target, dialect="latin")}, "no such dialect"),
        ({"tasks": ()}, "nothing to evaluate"),
        ({"tasks": JOB.tasks * 2}, "named twice"),
        ({"limit": 0}, "limit is too small"),
        ({"concurrency": 0}, "concurrency is too small"),
        ({"retries": -1}, "retries is too small"),
        ({"max_gen_toks": 0}, "max_gen_toks is too small"),
    ],
)
def test_what_cannot_be_is_refused_at_once(changed, what, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "installed", lambda: True)
    with pytest.raises(UsageError, match=what):
        evaluating.evaluate(replace(JOB, **changed), folder=tmp_path)


def test_it_is_offline_where_the_user_did_not_decide():
    assert evaluating.environment({"A": "b"})["HF_HUB_OFFLINE"] == "1"
    assert evaluating.environment({"A": "b"})["A"] == "b"
    chosen = evaluating.environment({"HF_HUB_OFFLINE": "0", "HF_HOME": "/data"})
    assert (chosen["HF_HUB_OFFLINE"], chosen["HF_HOME"]) == ("0", "/data")
    assert "HF_DATASETS_OFFLINE" not in chosen
    assert chosen["TQDM_DISABLE"] == "1"
