"""What `infer_quality` asks for, read from its marker and what stands above it. Knows no pytest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_inferforge import units
from pytest_inferforge.errors import UsageError
from pytest_inferforge.gate.quality import fewest_items
from pytest_inferforge.pytest_plugin.layers import nearest
from pytest_inferforge.quality.evaluation import PACK_ITEMS, Task
from pytest_inferforge.quality.packs import named

if TYPE_CHECKING:
    from pytest_inferforge.options import JudgeOptions, QualityOptions

ARGUMENTS = (
    "tasks", "limit", "num_fewshot", "metric", "filter", "data", "not_worse_than", "at_least", "under_load",
    "chat", "concurrency", "timeout", "retries", "max_tokens", "seed",
)  # fmt: skip
SPLITS = ("test", "train", "validation", "dev", "fewshot")

_OF_A_TASK = ("num_fewshot", "metric", "filter", "data")
_WHOLE = {"limit": 1, "num_fewshot": 0, "concurrency": 1, "retries": 0, "max_tokens": 1, "under_load": 1}
_EXAMPLE = 'write infer_quality(tasks=["forge_arithmetic"], limit=200, not_worse_than="2 pt")'


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One test's quality. `not_worse_than`: the margin of comparisons, a share; `at_least`: task -> floor, a
    share. `under_load`: how many items are asked at once while the test's load runs, None: not at all.
    """

    tasks: tuple[Task, ...]
    limit: int | None
    not_worse_than: float
    at_least: Mapping[str, float]
    under_load: int | None
    chat: bool
    concurrency: int
    timeout_s: float
    retries: int
    max_gen_toks: int | None
    seed: int

    def quick(self, items: int) -> Asked:
        """A few items of each task, and no second look under load."""
        return replace(self, limit=min(self.limit or items, items), under_load=None)


def too_few_items(asked: Asked, options: JudgeOptions) -> list[str]:
    """What a person should know of tasks whose number of items is too small for their margin."""
    least = fewest_items(asked.not_worse_than, options)
    margin = f"{asked.not_worse_than * 100:g} pt"
    counted = {task.name: asked.limit or (PACK_ITEMS if named(task.name) else None) for task in asked.tasks}
    return [
        f"{n} items of {name} can never show that less than {margin} were lost: it takes {least} or more"
        for name, n in counted.items()
        if n is not None and n < least
    ]


def from_arguments(
    arguments: Mapping[str, Any], options: QualityOptions, judge: JudgeOptions, *, folder: Path
) -> Asked:
    """The merged arguments, checked; files are looked for from `folder`.

    Raises:
        UsageError: an unknown, missing or unreadable argument, or a file that is not there.
    """
    for name in arguments:
        if name not in ARGUMENTS:
            raise UsageError(
                "unknown argument of infer_quality",
                seen=name,
                do=nearest(name, ARGUMENTS, f"known: {', '.join(ARGUMENTS)}"),
            )
    whole = {name: _whole(name, arguments.get(name)) for name in _WHOLE}
    tasks = _tasks(arguments, whole["num_fewshot"], folder)
    chat = arguments.get("chat", False)
    if not isinstance(chat, bool):
        raise UsageError("chat is True or False", seen=repr(chat), do="write chat=True")
    seed = arguments.get("seed", options.seed)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError("a seed is a whole number", seen=repr(seed), do="write seed=7")
    return Asked(
        tasks=tasks,
        limit=whole["limit"],
        not_worse_than=_points(arguments.get("not_worse_than"), judge.quality_margin),
        at_least=_floors(arguments.get("at_least"), tasks),
        under_load=whole["under_load"],
        chat=chat,
        concurrency=whole["concurrency"] or options.concurrency,
        timeout_s=_seconds(arguments.get("timeout"), options.timeout_s),
        retries=options.retries if whole["retries"] is None else whole["retries"],
        max_gen_toks=whole["max_tokens"],
        seed=seed,
    )


def _tasks(arguments: Mapping[str, Any], num_fewshot: int | None, folder: Path) -> tuple[Task, ...]:
    said = arguments.get("tasks")
    names = [said] if isinstance(said, str) else said
    if not isinstance(names, Sequence) or not names or not all(isinstance(n, str) and n for n in names):
        raise UsageError("infer_quality needs the names of tasks", seen=repr(said), do=_EXAMPLE)
    if twice := [n for n in dict.fromkeys(names) if list(names).count(n) > 1]:
        raise UsageError("a task is named twice", seen=", ".join(twice), do="name each task once")
    for name in names:
        named(name)  # a misspelt pack is said before anything boots
    each = {name: _of_each(name, arguments.get(name), names) for name in ("metric", "filter")}
    data = _data(arguments.get("data"), names, folder)
    return tuple(
        Task(
            name=_found(name, folder) if name.endswith((".yaml", ".yml")) else name,
            data=data.get(name, {}),
            metric=each["metric"].get(name),
            filter=each["filter"].get(name),
            num_fewshot=num_fewshot,
        )
        for name in names
    )


def _of_each(argument: str, said: object, names: Sequence[str]) -> dict[str, str]:
    """A text for every task, or a table by task."""
    if said is None:
        return {}
    if isinstance(said, str):
        return dict.fromkeys(names, said)
    if isinstance(said, Mapping) and all(isinstance(value, str) for value in said.values()):
        _known_tasks(argument, said, names)
        return dict(said)
    raise UsageError(f"{argument} is not readable", seen=repr(said), do=f'write {argument}="acc_norm"')


def _data(said: object, names: Sequence[str], folder: Path) -> dict[str, dict[str, str]]:
    """Local files in place of a hub's: task -> split -> path."""
    if said is None:
        return {}
    do = 'write data={"gsm8k": {"test": "gsm8k_test.jsonl", "train": "gsm8k_train.jsonl"}}'
    if isinstance(said, str):
        said = {"test": said}
    if not isinstance(said, Mapping) or not said:
        raise UsageError("data is not readable", seen=repr(said), do=do)
    if set(said) <= set(SPLITS):
        if len(names) > 1:
            raise UsageError("data of which task?", seen=f"{len(names)} tasks", do=do)
        said = {names[0]: said}
    _known_tasks("data", said, names)
    found: dict[str, dict[str, str]] = {}
    for name, splits in said.items():
        splits = {"test": splits} if isinstance(splits, str) else splits
        if not isinstance(splits, Mapping) or not all(isinstance(p, str) for p in splits.values()):
            raise UsageError("data is not readable", seen=repr(splits), do=do)
        found[name] = {split: _found(path, folder) for split, path in splits.items()}
    return found


def _found(path: str, folder: Path) -> str:
    full = (folder / Path(path).expanduser()).resolve()
    if not full.is_file():
        raise UsageError("a file of infer_quality is not there", seen=str(full), do="check the path")
    return str(full)


def _known_tasks(argument: str, said: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in said:
        if name not in names:
            raise UsageError(
                f"{argument} of a task that is not asked for",
                seen=name,
                do=nearest(name, names, f"the tasks are {', '.join(names)}"),
            )


def _points(said: object, default: float) -> float:
    """`"2 pt"`, `"2 %"` or 0.02: points of accuracy as a share."""
    if said is None:
        return default
    text = str(said)
    number = text.strip().removesuffix("pts").removesuffix("pt").removesuffix("points").strip()
    value = _parsed("not_worse_than", f"{number} %" if number != text.strip() else text, "ratio")
    if not 0.0 < value < 1.0:
        raise UsageError("a margin lies between 0 and 1", seen=text, do='write not_worse_than="2 pt"')
    return value


def _floors(said: object, tasks: Sequence[Task]) -> dict[str, float]:
    names = [task.name for task in tasks]
    if said is None:
        return {}
    if isinstance(said, Mapping):
        _known_tasks("at_least", said, names)
        floors = {str(name): _parsed("at_least", value, "ratio") for name, value in said.items()}
    else:
        floors = dict.fromkeys(names, _parsed("at_least", said, "ratio"))
    for name, value in floors.items():
        if not 0.0 < value < 1.0:
            raise UsageError(
                "a floor lies between 0 and 1", seen=f"{name}: {value}", do='write at_least="80 %"'
            )
    return floors


def _whole(name: str, said: object) -> int | None:
    if said is None:
        return None
    text = str(said)
    if isinstance(said, bool) or not text.isdecimal() or int(text) < _WHOLE[name]:
        raise UsageError(
            f"{name} is a whole number, at least {_WHOLE[name]}", seen=repr(said), do=f"write {name}=100"
        )
    return int(text)


def _seconds(said: object, default: float) -> float:
    return default if said is None else _parsed("timeout", said, "s")


def _parsed(name: str, said: object, unit: str) -> float:
    """A number with its unit; an error names the argument."""
    try:
        return units.parse(str(said), unit)
    except UsageError as error:
        raise UsageError(f"{name}: {error.what}", seen=error.seen, do=error.do) from error
