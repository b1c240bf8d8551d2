"""From what lm-eval logged to outcomes: pure, given its samples and what became of each request."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_inferforge.errors import UsageError
from pytest_inferforge.outcomes import SAID_CHARACTERS, SAID_ITEMS, Outcomes, Repeat
from pytest_inferforge.quality import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    Sample = Mapping[str, Any]
    Alone = Callable[[Any], float]


_SAME = 0.9  # a reply that so many of the items share is told
_SHOWN = 60  # characters of it
_MOST_NATS = 700.0  # of which the exponential still is a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One task of lm-eval after it was asked. `alone`: metric -> the score of one item's raw value.

    `samples` hold every item once for each filter. `unanswered` and `truncated` are places of documents;
    `tokens`: (context, continuation) -> how many tokens the continuation has.
    """

    name: str
    generated: bool
    choices: bool
    metrics: tuple[str, ...]
    filters: tuple[str, ...]
    higher_is_better: Mapping[str, bool]
    alone: Mapping[str, Alone]
    samples: Sequence[Sample]
    unanswered: Collection[int]
    truncated: Collection[int]
    tokens: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    key: str
    score: float
    cluster: str
    reply: str | None
    likelihoods: tuple[float, ...]
    right: tuple[float, int] | None  # log-likelihood of the right choice, and its tokens


def gated(task: str, what: str, asked: str | None, had: Sequence[Sequence[str]]) -> str:
    """The metric or filter that is asked for, else the first one; `had`: those of each of the task's leaves.

    Raises:
        UsageError: it is not one that all of them have.
    """
    everywhere = [name for name in had[0] if all(name in names for names in had)]
    if not everywhere or (asked is not None and asked not in everywhere):
        raise UsageError(
            f"{task} has no such {what}" if asked else f"the tasks of {task} have no {what} in common",
            seen=str(asked or "; ".join(", ".join(names) for names in had)),
            do=f"it has: {', '.join(everywhere)}" if everywhere else "name its tasks one by one",
        )
    return asked or everywhere[0]


def outcomes(
    task: str, leaves: Sequence[Leaf], *, metric: str, filter_: str, known_as: Mapping[str, str]
) -> Outcomes:
    """One task's outcomes; of a group its leaves together. `known_as`: its identity but for the data."""
    rows = [row for leaf in leaves for row in _rows(leaf, metric, filter_)]
    asked = [(leaf, sample) for leaf in leaves for sample in _of(leaf, filter_) if metric in sample]
    clusters = [row.cluster for row in rows]
    replies = [row.reply for row in rows if row.reply is not None]
    likelihoods = [row.likelihoods for row in rows]
    choices = all(leaf.choices for leaf in leaves)
    return Outcomes(
        task=task,
        metric=metric,
        filter=filter_,
        higher_is_better=leaves[0].higher_is_better.get(metric, True),
        keys=tuple(row.key for row in rows),
        scores=tuple(row.score for row in rows),
        clusters=tuple(clusters) if all(clusters) else (),
        replies=tuple(identity.reply_digest(reply) for reply in replies) if len(replies) == len(rows) else (),
        likelihoods=tuple(likelihoods) if all(likelihoods) else (),
        said=tuple(reply[:SAID_CHARACTERS] for reply in replies[:SAID_ITEMS]),
        identity={**known_as, "data": identity.data_digest(str(one["doc_hash"]) for _leaf, one in asked)},
        unanswered=len(asked) - len(rows),
        truncated=sum(
            sample["doc_id"] in leaf.truncated and sample["doc_id"] not in leaf.unanswered
            for leaf, sample in asked
        ),
        tied=sum(_tied(values) for values in likelihoods) if choices else 0,
        chance=_mean(1 / len(values) for values in likelihoods) if choices and all(likelihoods) else None,
        perplexity=_perplexity(rows),
    )


def observed(leaves: Sequence[Leaf], *, but: tuple[str, str]) -> dict[str, float]:
    """Mean scores of what is not gated, by "metric,filter"; of items that have such a score."""
    found: dict[str, float] = {}
    for metric in dict.fromkeys(name for leaf in leaves for name in leaf.metrics):
        for filter_ in dict.fromkeys(name for leaf in leaves for name in leaf.filters):
            scores = [row.score for leaf in leaves for row in _rows(leaf, metric, filter_)]
            if (metric, filter_) != but and scores:
                found[f"{metric},{filter_}"] = math.fsum(scores) / len(scores)
    return found


def repeated(first: Outcomes, again: Outcomes) -> Repeat:
    """The same items asked twice, as far as both were answered."""
    before = {key: place for place, key in enumerate(first.keys)}
    pairs = [(before[key], place) for place, key in enumerate(again.keys) if key in before]
    written = bool(first.replies and again.replies)
    return Repeat(
        n=len(pairs),
        flipped=sum(first.scores[a] != again.scores[b] for a, b in pairs),
        changed=sum(first.replies[a] != again.replies[b] for a, b in pairs) if written else None,
    )


def notes(result: Outcomes, *, examples: Mapping[str, str]) -> list[str]:
    """What a reader should know before the score is believed. `examples`: what requests failed of."""
    n = len(result.scores)
    found = []
    if result.unanswered:
        why = "; ".join(f"{reason}: {detail}" for reason, detail in sorted(examples.items()))
        missed = f"{result.unanswered} of {n + result.unanswered} items unanswered"
        found.append(f"{result.task}: {missed} ({why or 'their scores are no numbers'})")
    if not n:
        return found
    if result.truncated:
        share = result.truncated / n
        found.append(
            f"{result.task}: {result.truncated} of {n} replies ({share:.0%}) cut at the most tokens allowed"
        )
    if result.tied:
        found.append(
            f"{result.task}: {result.tied} of {n} items have no best choice"
            + (": the log-likelihoods say nothing" if result.tied == n else "")
        )
    if result.replies and n > 1:
        common, times = Counter(result.replies).most_common(1)[0]
        if times >= _SAME * n:
            found.append(f"{result.task}: {times} of {n} items share one reply, {_said(result, common)!r}")
    value = result.value
    if result.chance is not None and value is not None and result.metric.startswith("acc"):
        spread = math.sqrt(result.chance * (1 - result.chance) / n)
        if value <= result.chance + 2 * spread:
            got = f"{result.metric} {value:.3g} of {n} items"
            found.append(f"{result.task}: {got} where a coin gets {result.chance:.3g}")
    return found


def _said(result: Outcomes, reply: str) -> str:
    """The text of that digest, as far as it was kept."""
    kept = dict(zip(result.replies, result.said, strict=False))
    return kept.get(reply, "")[:_SHOWN]


def with_repeat(result: Outcomes, again: Outcomes) -> Outcomes:
    return replace(result, repeat=repeated(result, again))


def _of(leaf: Leaf, filter_: str) -> list[Sample]:
    return [sample for sample in leaf.samples if sample["filter"] == filter_]


def _rows(leaf: Leaf, metric: str, filter_: str) -> list[_Row]:
    rows = []
    for sample in _of(leaf, filter_):
        if sample["doc_id"] in leaf.unanswered or metric not in sample:
            continue
        score = _number(sample[metric], leaf.alone.get(metric))
        if score is None:
            continue
        likelihoods = _likelihoods(sample, leaf)
        rows.append(
            _Row(
                key=identity.item_key(leaf.name, sample),
                score=score,
                cluster=_cluster(sample["doc"]),
                reply=str(sample["resps"][0][0]) if leaf.generated else None,
                likelihoods=likelihoods,
                right=_right(sample, leaf, likelihoods),
            )
        )
    return rows


def _number(value: Any, alone: Alone | None) -> float | None:
    """The score of one item; None: it is no number."""
    if not isinstance(value, (bool, int, float)) and not hasattr(value, "__float__"):
        if alone is None:
            return None
        value = alone(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _cluster(doc: Any) -> str:
    """A pack's documents name theirs."""
    return str(doc["cluster"]) if isinstance(doc, dict) and {"pack", "cluster"} <= doc.keys() else ""


def _likelihoods(sample: Sample, leaf: Leaf) -> tuple[float, ...]:
    """Of the choices; the unconditional ones that lm-eval asks for beside them are left out."""
    if not leaf.choices:
        return ()
    contexts = [argument[0] for argument in sample["arguments"]]
    return tuple(
        float(logprob)
        for (logprob, _greedy), context in zip(sample["filtered_resps"], contexts, strict=False)
        if context != "" or contexts[0] == ""
    )


def _right(sample: Sample, leaf: Leaf, likelihoods: tuple[float, ...]) -> tuple[float, int] | None:
    """Log-likelihood and tokens of the right choice, or of the one text that is scored."""
    if leaf.generated:
        return None
    target = sample["target"] if leaf.choices else 0
    if isinstance(target, str) and target.strip().isdigit():
        target = int(target)
    arguments = sample["arguments"]
    if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < len(arguments):
        return None
    asked = arguments[target]
    tokens = leaf.tokens.get((asked[0], asked[1]) if len(asked) > 1 else ("", asked[0]))
    if tokens is None:
        return None
    said = sample["filtered_resps"][target]
    logprob = likelihoods[target] if leaf.choices else said[0] if isinstance(said, tuple) else said
    return float(logprob), tokens


def _tied(likelihoods: Sequence[float]) -> bool:
    return len(likelihoods) > 1 and sum(value == max(likelihoods) for value in likelihoods) > 1


def _perplexity(rows: Sequence[_Row]) -> float | None:
    """Of the right choices, per token; None where one of them is not known."""
    right = [row.right for row in rows if row.right is not None]
    if not right or len(right) < len(rows):
        return None
    nats = -math.fsum(logprob for logprob, _tokens in right) / sum(tokens for _logprob, tokens in right)
    return math.exp(nats) if nats < _MOST_NATS else None


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
