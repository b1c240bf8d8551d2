"""The log-likelihood of a given text, as either route tells it, and what a route must offer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Hashable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """`logprob` in nats, summed over `tokens`; `greedy`: each was the most probable one."""

    logprob: float
    greedy: bool
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """Why a text has no score: `reason` in a word, to be counted; `detail` for a person."""

    reason: str
    detail: str


class Route(Protocol):
    """One way to have a given text scored."""

    async def score(self, context: str, continuation: str) -> Score | Unscored:
        """How probable the continuation is after the context.

        A token that straddles the border belongs to the continuation; so does white space at the end of the
        context, as in lm-eval. A token before which nothing stands has no probability, and is left out.
        """

    async def probe(self) -> str | None:
        """None: the server can be asked so; else what was seen."""


def moved_border(context: str, continuation: str) -> tuple[str, str]:
    """White space at the end of the context belongs to the continuation.

    Source: `TemplateLM._encode_pair` of lm-eval 0.4.13 (api/model.py).
    """
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


class Remembered(Generic[T]):
    """What was asked last, by key: who asks for the same at the same time waits for the same answer."""

    def __init__(self, start: Callable[[Coroutine[None, None, T]], asyncio.Task[T]], most: int) -> None:
        self._start = start
        self._most = most
        self._tasks: OrderedDict[Hashable, asyncio.Task[T]] = OrderedDict()

    async def get(self, key: Hashable, ask: Callable[[], Coroutine[None, None, T]]) -> T:
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = self._start(ask())
            if len(self._tasks) > self._most:
                self._tasks.popitem(last=False)
        else:
            self._tasks.move_to_end(key)
        try:
            answer = await task
        except BaseException:
            self._tasks.pop(key, None)
            raise
        if isinstance(answer, Unscored):
            self._tasks.pop(key, None)
        return answer
