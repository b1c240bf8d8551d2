"""The packs as tasks of lm-eval: plain data and functions, without importing it.

Source: `TaskConfig` and `ConfigurableTask` of lm-eval 0.4.13 (config/task.py, api/task.py).
"""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pytest_inferforge.errors import UsageError
from pytest_inferforge.quality.packs import grounded, instructions
from pytest_inferforge.quality.packs.checking import passes
from pytest_inferforge.quality.packs.collection import PACKS, items, kinds_of
from pytest_inferforge.quality.packs.item import Check, Item, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Form = Literal["generate", "choice"]

FORMS: tuple[Form, ...] = ("generate", "choice")

_CHOICE = "_choice"  # behind a pack's name: its multiple-choice form
_OURS = "forge_"  # how names of packs begin

_MOST_TOKENS = 48  # room for the longest answer in the tokens of any common tokenizer


class Documents(list[dict[str, Any]]):
    """A list that lm-eval takes for a split of `datasets.Dataset`: it also asks for the columns' names."""

    @property
    def features(self) -> dict[str, str]:
        return {name: type(value).__name__ for name, value in self[0].items()} if self else {}


def names() -> tuple[str, ...]:
    """What may be asked for: each pack, and its multiple-choice form where it has one."""
    return (*PACKS, *(f"{pack}{_CHOICE}" for pack in PACKS if "choice" in forms_of(pack)))


def named(name: str) -> tuple[str, Form] | None:
    """The pack and the form of such a name; None: not a name of ours.

    Raises:
        UsageError: it would be one of ours, and there is none.
    """
    pack = name.removesuffix(_CHOICE)
    if name in names():
        return pack, "generate" if pack == name else "choice"
    if pack in PACKS:
        raise UsageError(f"{pack} has no such form", seen=name, do=f"ask for {pack}")
    if name.startswith(_OURS):
        near = difflib.get_close_matches(name, names(), n=4, cutoff=0.5)
        raise UsageError(
            "no such task",
            seen=name,
            do=f"the nearest: {', '.join(near)}" if near else "see the packs' names",
        )
    return None


def as_lm_eval(pack: str, form: str, *, seed: int, n: int) -> dict[str, Any]:
    """The inline configuration of a task over `n` items of the pack's test split.

    Its metrics: `acc`; of forge_grounded `hallucination`, the share of the questions that the text does not
    answer which were answered all the same; of the choice form `tied`, the share of the questions of which
    no choice was the best: such a reply is wrong. The name is the pack's, an underscore and the form.

    Raises:
        UsageError: no such pack or form, a form that the pack does not have, or no items.
    """
    forms = forms_of(pack)
    if form not in forms:
        raise UsageError(f"{pack} has no such form", seen=form, do=f"it has: {', '.join(forms)}")
    if n < 1:
        raise UsageError("a task needs items", seen=f"n={n}", do="ask for 1 or more")
    metrics = ["acc"]
    lower = [*(["hallucination"] if pack == grounded.NAME else []), *(["tied"] if form == "choice" else [])]
    task: dict[str, Any] = {
        "task": f"{pack}_{form}",
        "custom_dataset": documents,
        "dataset_kwargs": {"pack": pack, "seed": seed, "n": n},
        "test_split": "test",
        "doc_to_text": "prompt",
        "target_delimiter": " ",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": name in metrics}
            for name in [*metrics, *lower]
        ],
        "metadata": {"version": 1.0},
    }
    if form == "choice":
        return task | {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "process_results": chosen,
        }
    return task | {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "process_results": generated,
        "generation_kwargs": {
            "until": ["\n"],
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": _MOST_TOKENS,
        },
    }


def forms_of(pack: str) -> tuple[Form, ...]:
    """The forms that fit the pack.

    Raises:
        UsageError: no such pack.
    """
    kinds_of(pack)
    return FORMS[:1] if pack == instructions.NAME else FORMS


def documents(*, pack: str, seed: int, n: int, **_metadata: Any) -> dict[str, Documents]:
    """The test split; lm-eval hands over the task's metadata as well."""
    return {"test": Documents(document_of(item) for item in items(pack, seed=seed, n=n, split="test"))}


def generated(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The metrics of one reply."""
    return _metrics(item_of(doc), results[0])


def chosen(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """The metrics of one question by the log-likelihoods of its choices."""
    item = item_of(doc)
    likelihoods = [likelihood for likelihood, _greedy in results]
    best = max(likelihoods)
    tied = likelihoods.count(best) > 1
    reply = "" if tied else item.choices[likelihoods.index(best)]
    return _metrics(item, reply) | {"tied": float(tied)}


def _metrics(item: Item, reply: str) -> dict[str, float]:
    """Without `hallucination` where the text does say it: lm-eval then leaves the item out of that mean."""
    outcome = passes(item, reply)
    silent = item.check.rule is Rule.SILENT
    return {"acc": float(outcome.correct)} | (
        {"hallucination": float(outcome.hallucinated)} if silent else {}
    )


def document_of(item: Item) -> dict[str, Any]:
    """The item as JSON would hold it."""
    plain = asdict(item) | {"choices": list(item.choices)}
    plain["check"] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(item.check).items()
    } | {"rule": item.check.rule.value}
    return plain


def item_of(doc: Mapping[str, Any]) -> Item:
    """The item of such a document, also after it went through JSON."""
    check: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in doc["check"].items()
    }
    rule = Rule(check.pop("rule"))
    return Item(**{**doc, "choices": tuple(doc["choices"]), "check": Check(rule=rule, **check)})
