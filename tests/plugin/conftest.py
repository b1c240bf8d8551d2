"""pytest driven from outside, as its users do."""

import datetime as dt
import json
from dataclasses import replace

import pytest

from pytest_inferforge.testing.suite import Suite
from pytest_inferforge.testing.timetable import Timetable, TimetableServer


@pytest.fixture
def suite(tmp_path, calm):
    folder = tmp_path / "suite"
    folder.mkdir()
    made = Suite(folder)
    made.write("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    made.write("inferforge.toml", calm)
    return made


@pytest.fixture
def timetable():
    """A function that starts a timetable server and returns its URL; all are stopped at the end."""
    servers = []

    def start(**fields):
        defaults = {"ttft_s": 0.005, "gap_s": 0.001}
        server = TimetableServer(Timetable(**{**defaults, **fields}))
        servers.append(server.__enter__())
        return server.url

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def multiply():
    """A function that makes so many sessions of the newest one in a baseline, a day apart, 0.4 % of noise."""

    def make(store, name, count):
        newest = store.load(name)[-1]
        for k in range(count):
            factor = 1.0 + 0.004 * (-1) ** k
            tests = tuple(replace(t, boots=tuple(_scaled(b, factor) for b in t.boots)) for t in newest.tests)
            began = dt.datetime.fromisoformat(newest.started_at) - dt.timedelta(days=k + 1)
            store.save(name, replace(newest, id=f"copy-{k}", started_at=began.isoformat(), tests=tests))

    return make


def _scaled(boot, factor):
    return replace(boot, metrics={name: value * factor for name, value in boot.metrics.items()})


_SCRIPTED = '''
"""In the place of lm-eval: answers as script.json says, boot by boot, and writes down what was asked."""

import json
from pathlib import Path

from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.outcomes import Outcomes, Repeat
from pytest_inferforge.quality import evaluating
from pytest_inferforge.quality.evaluation import Evaluation, Requests

HERE = Path(__file__).parent
turns = {}


def evaluate(job, *, folder, on_progress=None):
    model = job.target.model
    turns[model] = turns.get(model, 0) + 1
    boots = json.loads((HERE / "script.json").read_text())
    boot = (boots.get(model) or boots["any"])[: turns[model]][-1]
    asked = {
        "model": model, "tasks": [task.name for task in job.tasks], "limit": job.limit, "seed": job.seed,
        "concurrency": job.concurrency, "repeat": job.repeat, "chat": job.chat, "ca": job.target.ca_file,
        "loads": len(list(folder.parent.glob("test_*.jsonl.gz"))), "folder": folder.name,
    }
    with (HERE / "asked.jsonl").open("a") as file:
        file.write(json.dumps(asked) + "\\n")
    if "error" in boot:
        raise MeasuringError(boot["error"], seen="the script says so")
    on_progress(1, 1)
    return Evaluation(
        tasks=tuple(outcomes(task.name, job, **boot.get(task.name, {})) for task in job.tasks),
        observed={task.name: {} for task in job.tasks},
        requests=Requests(asked=200, failed={}, retried=0, truncated=0, prompt_tokens=1000,
                          output_tokens=400, latency_s={"p50": 0.01, "p90": 0.02, "p99": 0.03}),
        route=None,
        lm_eval_version="0.4.13",
        seconds=boot.get("seconds", 0.1),
    )


def outcomes(task, job, *, wrong=20, n=200, identity=None, **more):
    given = {
        "task": task, "metric": "acc", "filter": "none", "higher_is_better": True,
        "keys": tuple(f"{task}-{k}" for k in range(n)),
        "scores": tuple(float(k >= wrong) for k in range(n)),
        "identity": {"version": "1.0"} | (identity or {}),
        "repeat": Repeat(n=job.repeat, flipped=0, changed=0) if job.repeat else None,
    }
    return Outcomes(**(given | more))


evaluating.evaluate = evaluate
evaluating.require = lambda: None
'''


class Script:
    """What the evaluations of a suite come to: of each task 20 of 200 items are wrong, unless said."""

    def __init__(self, suite):
        self._suite = suite
        suite.write("conftest.py", _SCRIPTED)
        self.says({})

    def says(self, *boots, **of_models):
        """One evaluation after the other, the last one again and again; by the model that is asked."""
        boots_of = {"any": boots or [{}], **{name: list(said) for name, said in of_models.items()}}
        (self._suite.folder / "script.json").write_text(json.dumps(boots_of))

    def asked(self):
        """What was asked since the last time, in order."""
        path = self._suite.folder / "asked.jsonl"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        path.unlink()
        return [json.loads(line) for line in lines]


@pytest.fixture
def script(suite):
    return Script(suite)
