"""The tasks of a job as lm-eval makes them. It needs lm-eval: the evaluating process alone imports this."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import jinja2
import lm_eval.tasks
import yaml  # type: ignore[import-untyped]
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.evaluation import PACK_ITEMS
from pytest_inferforge.quality.packs import as_lm_eval, named, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_inferforge.quality.evaluation import Task

_SPLITS = ("test_split", "validation_split")  # in the order in which lm-eval looks for questions
_SHOT_SPLITS = ("training_split", "fewshot_split")
_READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_COLUMN = re.compile(r"{{\s*([A-Za-z_]\w*)")
_BROKEN = (
    OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, AssertionError,
    jinja2.TemplateError, yaml.YAMLError, datasets.exceptions.DatasetsError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One task of a job: its `leaves` are tasks of lm-eval, several of a group. `limit` is per leaf."""

    asked: Task
    leaves: Mapping[str, Any]
    limit: int | None

    @property
    def scores_texts(self) -> bool:
        return any(leaf.OUTPUT_TYPE != "generate_until" for leaf in self.leaves.values())

    def items(self, limit: int | None) -> int:
        """How many items are asked under that limit."""
        counts = [len(getattr(leaf, "task_docs", None) or leaf.eval_docs) for leaf in self.leaves.values()]
        return sum(counts if limit is None else (min(count, limit) for count in counts))

    def repeat_limit(self, repeat: int) -> int:
        """The limit under which about so many items are asked: those of a group are spread over its tasks."""
        limit = -(-repeat // len(self.leaves))
        return limit if self.limit is None else min(limit, self.limit)


def load(task: Task, *, limit: int | None, seed: int, cache_dir: Path) -> Loaded:
    """The task with its data; local data are read into `cache_dir`.

    Raises:
        UsageError: no such task, or its data or packages are not here.
    """
    pack = named(task.name)
    if pack is not None:
        limit = PACK_ITEMS if limit is None else limit
        spec: str | dict[str, Any] = as_lm_eval(*pack, seed=seed, n=limit)
        if task.data:
            raise UsageError(
                f"{task.name} makes its own questions",
                seen=f"data={dict(task.data)}",
                do="leave data out, or name another task",
            )
        manager = TaskManager(include_defaults=False)
        leaves = manager.load([spec])["tasks"]
    else:
        leaves = _from_files(task, cache_dir)
    for name, leaf in leaves.items():
        _check(name, leaf)
    return Loaded(asked=task, leaves=leaves, limit=limit)


def _from_files(task: Task, cache_dir: Path) -> Mapping[str, Any]:
    path = _path_of(task.name)
    config: dict[str, Any] = {}
    try:
        if path is None:
            manager = _shipped()
            known = manager.task_index.get(task.name)
            if known is None:
                raise _unknown(task.name, manager.all_tasks)
            if known.kind is Kind.TASK:
                path = known.yaml_path
            elif task.data:
                raise _no_single_data_set(task)
        spec: str | dict[str, Any] = task.name
        if path is not None:
            config = load_yaml(path, resolve_func=False)
            if "group" in config:
                if task.data:
                    raise _no_single_data_set(task)
                manager, spec = _beside(path, config), config["group"]
            else:
                manager = TaskManager(include_defaults=False)
                spec = _with_data(task, path, cache_dir) if _needs_reading(task, config) else str(path)
        return dict(manager.load([spec])["tasks"])
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{task.name} needs a package that is not installed",
            seen=str(error),
            do=f"pip install {error.name}; lm-eval has extras such as lm-eval[ifeval] and lm-eval[math]",
        ) from error
    except _BROKEN as error:
        raise _not_here(task, config, error) from error


def _path_of(name: str) -> Path | None:
    """The file that defines the task, where it can be told without reading all 14,000 that lm-eval ships."""
    given = Path(name).expanduser()
    if given.suffix in (".yaml", ".yml"):
        if given.is_file():
            return given.resolve()
        raise UsageError("the task's file is not there", seen=str(given), do="correct the path")
    if not re.fullmatch(r"[\w.+-]+", name):
        return None
    for found in sorted(Path(lm_eval.tasks.__file__).parent.rglob(f"{name}.yaml")):
        config = load_yaml(found, resolve_func=False)
        if config.get("task") == name and "group" not in config:
            return found
    return None


@cache
def _shipped() -> TaskManager:
    return TaskManager()


def _beside(path: Path, group: Mapping[str, Any]) -> TaskManager:
    """What the tasks of a group in a file may be: those in its folder, and if need be the shipped ones."""
    manager = TaskManager(include_defaults=False, include_path=path.parent)
    members = [member for member in group["task"] if isinstance(member, str)]
    if set(members) <= set(manager.all_tasks):
        return manager
    return TaskManager(include_path=path.parent)


def _unknown(name: str, known: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(name, [*names(), *known], n=4, cutoff=0.5)
    return UsageError(
        "no such task",
        seen=name,
        do=f"the nearest: {', '.join(near)}"
        if near
        else "give a pack, a task of lm-eval, or the path of a .yaml",
    )


def _no_single_data_set(task: Task) -> UsageError:
    return UsageError(
        f"{task.name} is a group of tasks, each with a data set of its own",
        seen=f"data={dict(task.data)}",
        do="name its tasks one by one, each with its data",
    )


def _needs_reading(task: Task, config: Mapping[str, Any]) -> bool:
    return bool(task.data) or config.get("dataset_path") in _READERS.values()


def _with_data(task: Task, path: Path, cache_dir: Path) -> dict[str, Any]:
    """The task's configuration with local files for its data set."""
    config: dict[str, Any] = load_yaml(path, resolve_func=True)
    if "class" in config:
        raise UsageError(
            f"{task.name} is a program that reads its own data",
            seen=f"data={dict(task.data)}",
            do="fill the cache of its data set, and name it with HF_HOME",
        )
    if not task.data:
        return config | {
            "dataset_kwargs": {"cache_dir": str(cache_dir), **(config.get("dataset_kwargs") or {})}
        }
    files = {split: _file(task, given) for split, given in task.data.items()}
    readers = {_READERS[Path(file).suffix] for file in files.values()}
    if len(readers) > 1:
        raise UsageError(
            f"the data of {task.name} are in several formats",
            seen=", ".join(sorted(files.values())),
            do="give all splits in one",
        )
    shots = config.get("num_fewshot") if task.num_fewshot is None else task.num_fewshot
    needed = _needed(config, shots=bool(shots))
    if missing := [split for split in needed if split not in files]:
        raise UsageError(
            f"{task.name} needs data that were not given",
            seen=f"given: {', '.join(sorted(files))}; missing: {', '.join(missing)}",
            do=_how_to_supply(config, missing),
        )
    for key in (*_SPLITS, *_SHOT_SPLITS):
        if config.get(key) is not None and config[key] not in files:
            config[key] = None
    return config | {
        "dataset_path": readers.pop(),
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(cache_dir)},
    }


def _file(task: Task, given: str) -> str:
    file = Path(given).expanduser().resolve()
    if not file.is_file():
        raise UsageError(f"the data of {task.name} are not there", seen=str(file), do="correct the path")
    if file.suffix not in _READERS:
        raise UsageError(
            f"the data of {task.name} are in no known format",
            seen=str(file),
            do=f"give a file that ends with {', '.join(_READERS)}",
        )
    return str(file)


def _needed(config: Mapping[str, Any], *, shots: bool) -> list[str]:
    """Splits without which the task cannot be asked."""
    questions = next((config[key] for key in _SPLITS if config.get(key)), None)
    examples = next((config[key] for key in reversed(_SHOT_SPLITS) if config.get(key)), None)
    return list(dict.fromkeys(split for split in (questions, examples if shots else None) if split))


def _not_here(task: Task, config: Mapping[str, Any], error: BaseException) -> UsageError:
    said = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
    first = said.splitlines()[0][:300]
    if not config:
        return UsageError(
            f"{task.name} cannot be made",
            seen=first,
            do="if its data sets are not here: name a filled cache with HF_HOME, or its tasks one by one,"
            ' each with its data, such as data={"test": "path.jsonl"}',
        )
    if task.data:
        return UsageError(
            f"the data of {task.name} do not fit it", seen=first, do=_how_to_supply(config, list(task.data))
        )
    shots = config.get("num_fewshot") if task.num_fewshot is None else task.num_fewshot
    name = " ".join(str(part) for part in (config.get("dataset_path"), config.get("dataset_name")) if part)
    splits = _needed(config, shots=bool(shots)) or ["test"]
    return UsageError(
        f"the data of {task.name} are not here",
        seen=f"data set {name}, splits {', '.join(splits)}: {first}",
        do=_how_to_supply(config, splits)
        + "; or name a filled cache with HF_HOME; or let it be downloaded with HF_HUB_OFFLINE=0",
    )


def _how_to_supply(config: Mapping[str, Any], splits: Iterable[str]) -> str:
    files = ", ".join(f'"{split}": "{split}.jsonl"' for split in splits)
    columns = _columns(config)
    what = f"lines with the columns {', '.join(columns)}" if columns else "lines as its data set has them"
    by = " (before its own code reads them)" if config.get("process_docs") and columns else ""
    return f"give local files, data={{{files}}}: {what}{by}"


def _columns(config: Mapping[str, Any]) -> list[str]:
    """Columns that the task's templates name, as far as they are templates."""
    if config.get("process_docs"):
        return []
    found: dict[str, None] = {}
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        template = config.get(key)
        if isinstance(template, str):
            names = _COLUMN.findall(template)
            plain = not names and template.isidentifier()
            found |= dict.fromkeys([template] if plain else names)
    return list(found)


def _check(name: str, leaf: Any) -> None:
    """Refuse what cannot be evaluated here."""
    if getattr(leaf, "UNSAFE_CODE", False):
        raise UsageError(
            f"{name} runs programs that the model wrote",
            seen="unsafe_code: true in its definition",
            do="evaluate it with lm-eval itself, in a place where nothing can be broken",
        )
    if getattr(leaf, "MULTIMODAL", False):
        raise UsageError(
            f"{name} shows pictures or sounds", seen="doc_to_image or doc_to_audio", do="leave it out"
        )
