"""One task through lm-eval. It needs lm-eval: the evaluating process alone imports this."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from pytest_inferforge.quality import identity, scoring
from pytest_inferforge.quality.scoring import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_inferforge.outcomes import Outcomes
    from pytest_inferforge.quality.adapter import ServerModel
    from pytest_inferforge.quality.evaluation import Job
    from pytest_inferforge.quality.tasks import Loaded

_CHOICE = "multiple_choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of one task; `observed`: of the metrics that are not gated."""

    outcomes: Outcomes
    observed: Mapping[str, float]
    notes: tuple[str, ...]


def check(loaded: Loaded) -> None:
    """Whether the task declares the metric and the filter that are asked for, before anything is sent.

    Raises:
        UsageError: it does not.
    """
    task, leaves = loaded.asked, loaded.leaves.values()
    if task.metric is not None:
        scoring.gated(task.name, "metric", task.metric, [list(leaf.aggregation()) for leaf in leaves])
    if task.filter is not None:
        filters = [[one.name for one in getattr(leaf, "_filters", ())] for leaf in leaves]
        scoring.gated(task.name, "filter", task.filter, filters)


def run(loaded: Loaded, job: Job, model: ServerModel) -> Ran:
    """Ask all items of the task, and the first ones again where the job says so.

    Raises:
        UsageError: the task has no such metric or filter.
    """
    task = loaded.asked
    leaves = _asked(loaded, job, model, limit=loaded.limit)
    metric = scoring.gated(task.name, "metric", task.metric, [leaf.metrics for leaf in leaves])
    filter_ = scoring.gated(task.name, "filter", task.filter, [leaf.filters for leaf in leaves])
    known_as = _identity(loaded, job, model)
    result = scoring.outcomes(task.name, leaves, metric=metric, filter_=filter_, known_as=known_as)
    notes = scoring.notes(result, examples=model.reasons)
    if task.num_fewshot is not None and known_as["num_fewshot"] != str(task.num_fewshot):
        notes.append(
            f"{task.name}: asked with {known_as['num_fewshot']} examples, not {task.num_fewshot}: its"
            " definition does not let that be changed"
        )
    if job.repeat:
        limit = loaded.repeat_limit(job.repeat)
        second = _asked(loaded, job, model, limit=limit)
        again = scoring.outcomes(task.name, second, metric=metric, filter_=filter_, known_as=known_as)
        result = scoring.with_repeat(result, again)
    return Ran(outcomes=result, observed=scoring.observed(leaves, but=(metric, filter_)), notes=tuple(notes))


def _asked(loaded: Loaded, job: Job, model: ServerModel, *, limit: int | None) -> tuple[Leaf, ...]:
    model.forget()
    results = simple_evaluate(
        model,
        tasks=list(loaded.leaves.values()),
        num_fewshot=loaded.asked.num_fewshot,
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
        use_cache=None,
        apply_chat_template=job.chat,
        fewshot_as_multiturn=True,
        task_manager=TaskManager(include_defaults=False),
    )
    return tuple(_leaf(name, task, results["samples"][name], model) for name, task in loaded.leaves.items())


def _leaf(name: str, task: Any, samples: Sequence[Mapping[str, Any]], model: ServerModel) -> Leaf:
    logged = dict.fromkeys(metric for sample in samples for metric in sample["metrics"])
    listed = [metric for metric in task.aggregation() if metric in logged]
    return Leaf(
        name=name,
        generated=task.OUTPUT_TYPE == "generate_until",
        choices=task.OUTPUT_TYPE == _CHOICE,
        metrics=tuple(dict.fromkeys([*listed, *logged])),
        filters=tuple(dict.fromkeys(sample["filter"] for sample in samples)),
        higher_is_better=dict(task.higher_is_better()),
        alone={metric: _alone(aggregate) for metric, aggregate in task.aggregation().items()},
        samples=samples,
        unanswered={place for leaf, place in model.unanswered if leaf == name},
        truncated={place for leaf, place in model.truncated if leaf == name},
        tokens=model.tokens,
    )


def _alone(aggregate: Callable[[list[Any]], Any]) -> Callable[[Any], float]:
    """A metric whose raw values are no numbers, of one item."""

    def score(value: Any) -> float:
        try:
            return float(aggregate([value]))
        except (ArithmeticError, TypeError, ValueError, IndexError):
            return float("nan")

    return score


def _identity(loaded: Loaded, job: Job, model: ServerModel) -> dict[str, str]:
    leaves = loaded.leaves
    versions = {name: str(task.VERSION) for name, task in leaves.items()}
    configs = {name: identity.config_digest(task.config) for name, task in leaves.items()}
    shots = sorted({int(task.config.num_fewshot or 0) for task in leaves.values()})
    return {
        "lm_eval": version("lm_eval"),
        "version": _one(versions),
        "config": _one(configs),
        "num_fewshot": ",".join(map(str, shots)),
        "limit": "none" if loaded.limit is None else str(loaded.limit),
        "api": "chat" if job.chat else "completions",
        "max_gen_toks": "none" if job.max_gen_toks is None else str(job.max_gen_toks),
        **({"route": str(model.route_name)} if loaded.scores_texts else {}),
    }


def _one(by_leaf: Mapping[str, str]) -> str:
    """The one that all have, or a digest of all."""
    if len(by_leaf) == 1:
        return next(iter(by_leaf.values()))
    parts = [f"{name}={value}" for name, value in sorted(by_leaf.items())]
    return identity.digest(*parts, characters=identity.KEY_CHARACTERS)
