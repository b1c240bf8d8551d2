"""A server as lm-eval sees a model. It needs lm-eval: the evaluating process alone imports this."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from lm_eval.api.model import LM

from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.quality.client import ITEM
from pytest_inferforge.quality.generating import Written, body, wanted, written
from pytest_inferforge.quality.likelihoods import Score, Unscored
from pytest_inferforge.quality.routes import ROUTES, choose

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from lm_eval.api.instance import Instance

    from pytest_inferforge.quality.client import Client
    from pytest_inferforge.quality.evaluation import Job
    from pytest_inferforge.quality.likelihoods import Route

T = TypeVar("T")
Item = tuple[str, int]  # task, place of the document in it
_UNANSWERED = (-1.0, False)  # what lm-eval is given in place of a score; the item is left out afterwards


class Chat(str):
    """Messages as JSON, which lm-eval takes for a prompt and hashes."""

    __slots__ = ()


class ServerModel(LM):  # type: ignore[misc]
    """Asks the server what lm-eval wants to know, and keeps in mind what came of each item.

    `unanswered`: item -> why; `truncated`: items with a reply that was cut short; `tokens`: how many the
    continuation of a (context, continuation) has. `done` is told how many items are finished.
    """

    def __init__(
        self, client: Client, job: Job, runner: asyncio.Runner, *, done: Callable[[int], None]
    ) -> None:
        super().__init__()
        self.unanswered: dict[Item, str] = {}
        self.reasons: dict[str, str] = {}  # of what was not answered: an example of each
        self.truncated: set[Item] = set()
        self.tokens: dict[tuple[str, str], int] = {}
        self.route_name: str | None = None
        self._route: Route | None = None
        self._client = client
        self._job = job
        self._runner = runner
        self._done = done
        self._finished = 0

    def forget(self) -> None:
        """Begin anew: what is asked now says nothing about what was asked before."""
        self.unanswered, self.truncated, self.tokens, self.reasons = {}, set(), {}, {}
        if self.route_name is not None:
            self._route = ROUTES[self.route_name](self._client)  # which remembers answers

    def prepare_to_score(self) -> None:
        """Find out how the server can be asked for log-likelihoods.

        Raises:
            UsageError: it cannot be.
        """
        if self._job.chat:
            raise UsageError(
                "what a chat makes of a given text has no log-likelihood",
                seen="chat=True with a task that scores given texts",
                do="leave chat out, or use the generative form, such as forge_arithmetic",
            )
        if self._route is None:
            self.route_name, self._route = self._runner.run(choose(self._client))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        return self._all(requests, self._generate)

    def loglikelihood(
        self,
        requests: list[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        self.prepare_to_score()
        return self._all(requests, self._score)

    def loglikelihood_rolling(
        self,
        requests: list[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002
    ) -> list[float]:
        self.prepare_to_score()
        return self._all(requests, self._roll)

    @property
    def tokenizer_name(self) -> str:
        """Part of the name under which lm-eval would keep requests, which it is never told to do."""
        return "server"

    def chat_template(self, chat_template: bool | str = False) -> str:  # noqa: ARG002
        return "the server's own"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> Chat:
        """The messages; their template is applied by the server."""
        if not add_generation_prompt:
            raise UsageError(
                "the task begins the reply itself, which a chat API does not take",
                seen=f"the last message is the {chat_history[-1]['role']}'s",
                do="leave chat out",
            )
        return Chat(json.dumps(chat_history, ensure_ascii=False))

    async def _generate(self, request: Instance) -> str:
        prompt, settings = request.args[:2]
        want = wanted(settings, max_gen_toks=self._job.max_gen_toks)
        dialect = self._client.dialect
        chat = self._job.chat
        asked = body(
            dialect,
            self._client.target.model,
            json.loads(prompt) if chat else prompt,
            want,
            seed=self._job.seed,
        )
        path = dialect.chat_path if chat else str(dialect.completions_path)
        reply = await self._client.post(path, asked, writes=True)
        got = None if reply.body is None else written(reply.body, want.until)
        if not isinstance(got, Written):
            self._miss(request, reply.reason or "bad_json", reply.detail or "no text in the reply")
            return ""
        if got.truncated:
            self.truncated.add(_item(request))
        return got.text

    async def _score(self, request: Instance) -> tuple[float, bool]:
        context, continuation = request.args[:2]
        assert self._route is not None
        score = await self._route.score(context, continuation)
        if isinstance(score, Unscored):
            self._miss(request, score.reason, score.detail)
            return _UNANSWERED
        self.tokens[(context, continuation)] = score.tokens
        return score.logprob, score.greedy

    async def _roll(self, request: Instance) -> float:
        assert self._route is not None
        score: Score | Unscored = await self._route.score("", request.args[0])
        if isinstance(score, Unscored):
            self._miss(request, score.reason, score.detail)
            return _UNANSWERED[0]
        self.tokens[("", request.args[0])] = score.tokens
        return score.logprob

    def _miss(self, request: Instance, reason: str, detail: str) -> None:
        self.unanswered[_item(request)] = reason
        self.reasons.setdefault(reason, detail)

    def _all(self, requests: Sequence[Instance], ask: Callable[[Instance], Awaitable[T]]) -> list[T]:
        return self._runner.run(self._side_by_side(requests, ask))

    async def _side_by_side(
        self, requests: Sequence[Instance], ask: Callable[[Instance], Awaitable[T]]
    ) -> list[T]:
        """All answers in order; so many requests at a time as the job allows."""
        answers: list[T | None] = [None] * len(requests)
        left = Counter(map(_item, requests))
        places = iter(range(len(requests)))

        async def work(places: Iterator[int]) -> None:
            for place in places:
                item = _item(requests[place])
                ITEM.set(f"{item[0]}/{item[1]}")
                answers[place] = await ask(requests[place])
                left[item] -= 1
                if not left[item]:
                    self._finished += 1
                    self._done(self._finished)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._job.concurrency, len(requests))):
                    group.create_task(work(places))
        except* (UsageError, MeasuringError) as errors:
            raise _first(errors) from None
        return answers  # type: ignore[return-value]


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _item(request: Instance) -> Item:
    return str(request.task_name), int(request.doc_id)
