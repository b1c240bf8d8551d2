"""What to evaluate, and what came of it: plain data that goes to the evaluating process and back as JSON."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (msgspec reads these annotations at run time)
from dataclasses import dataclass, field

from pytest_inferforge.outcomes import Outcomes  # noqa: TC001 (the same)

PACK_ITEMS = 200  # of a pack whose job has no limit

# The files by which the evaluating process is told its job and tells what came of it.
JOB, EVALUATION, ERROR = "job.json", "evaluation.json", "error.json"
REQUESTS = "requests.jsonl"  # each request, for a person to look into: item, latency, attempts, tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server to ask. `url` has no /v1; `api_key_env` names an environment variable, never a key.

    `proxies`: those that the environment names may be used.
    """

    url: str
    model: str
    dialect: str
    api_key_env: str | None = None
    ca_file: str | None = None
    verify_tls: bool = True
    proxies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: a pack's name, a task of lm-eval by name, or the path of a task file.

    `data`: split (test, train, validation, ...) -> path of a local file in the format of the task's data set,
    in place of what the hub holds. `metric`: the one that is gated, None: the task's first one; `filter`
    likewise. `num_fewshot`: None: what the task says.
    """

    name: str
    data: Mapping[str, str] = field(default_factory=dict)
    metric: str | None = None
    filter: str | None = None
    num_fewshot: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One evaluation. `limit`: the first so many items of each task, None: all (of a pack `PACK_ITEMS`).

    `chat`: through the chat API, with the model's own template; only what is generated can be asked so.
    `repeat`: ask the first so many items of each task a second time. `max_gen_toks`: None: what tasks say.
    """

    target: Target
    tasks: tuple[Task, ...]
    limit: int | None
    chat: bool
    concurrency: int
    seed: int
    timeout_s: float
    retries: int
    repeat: int = 0
    max_gen_toks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What was asked: `failed` by reason, after all retries; `retried` requests that were sent again."""

    asked: int
    failed: Mapping[str, int]
    retried: int
    truncated: int
    prompt_tokens: int | None
    output_tokens: int | None
    latency_s: Mapping[str, float]  # p50, p90, p99; empty: none came back


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came of a job: `tasks` in its order, and for each of its tasks also what is not gated.

    `route`: how log-likelihoods were read (echo, teacher_forced), None: none were asked for.
    `observed`: task -> "metric,filter" -> mean score of the metrics that are not gated.
    """

    tasks: tuple[Outcomes, ...]
    observed: Mapping[str, Mapping[str, float]]
    requests: Requests
    route: str | None
    lm_eval_version: str
    seconds: float
    notes: tuple[str, ...] = ()
