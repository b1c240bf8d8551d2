"""How a server counts tokens, so that prompts have exactly the length asked for. Knows no pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import MeasuringError
from pytest_inferforge.workload import prompts

if TYPE_CHECKING:
    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.workload.prompts import WordBank
    from pytest_inferforge.workload.spec import Api

_TIMEOUT_S = 120.0
_WHAT = "the server could not be asked how long a prompt is"


def learn(server: Server, api: Api, *, ids: bool) -> WordBank:
    """The one-token words of a server. Completions are counted by its tokenizer where it has a route to it,
    chats by the usage of a short answer, which includes the template. `ids`: also the words' token ids.

    Raises:
        MeasuringError: it does not answer, refuses, reports no usage, or has no route to its tokenizer.
    """
    dialect = DIALECTS[server.dialect_name]
    with server.client(timeout_s=_TIMEOUT_S) as client:
        bank = prompts.learn(lambda text: count_tokens(client, server, api, text))
        if not ids:
            return bank
        if dialect.tokenize_path is None:
            raise MeasuringError(
                "prompts cannot be given as token ids for this server",
                seen=f"the dialect {dialect.name} has no route to the tokenizer",
                do="drop token_ids",
            )
        return prompts.with_ids(bank, lambda text: tokenize(client, server, text))


def count_tokens(client: httpx.Client, server: Server, api: Api, text: str) -> int:
    """How many prompt tokens the server counts for a text, template included: its usage of a short answer.

    Raises:
        MeasuringError: it does not answer, refuses, or reports no usage.
    """
    dialect = DIALECTS[server.dialect_name]
    path = dialect.chat_path if api == "chat" else dialect.completions_path
    content: dict[str, object] = (
        {"messages": [{"role": "user", "content": text}]} if api == "chat" else {"prompt": text}
    )
    body = {"model": server.model, dialect.max_tokens_field: 1, "temperature": 0.0, **content}
    answer = _post(client, server, path, body)
    try:
        return int(answer.json()["usage"]["prompt_tokens"])
    except (KeyError, TypeError, ValueError) as error:
        raise MeasuringError(
            _WHAT,
            seen=f"no usage.prompt_tokens in {answer.text[:200]}",
            do="prompts of an exact length need a server that reports usage",
        ) from error


def tokenize(client: httpx.Client, server: Server, text: str) -> list[int]:
    """The ids of a text, without what the server would put before or behind it.

    Raises:
        MeasuringError: it does not answer or refuses.
    """
    dialect = DIALECTS[server.dialect_name]
    assert dialect.tokenize_path is not None
    body = {"model": server.model, dialect.tokenize_field: text, **dict(dialect.tokenize_body)}
    answer = _post(client, server, dialect.tokenize_path, body)
    try:
        return [int(token) for token in answer.json()["tokens"]]
    except (KeyError, TypeError, ValueError) as error:
        seen = f"no tokens in {answer.text[:200]}"
        raise MeasuringError(_WHAT, seen=seen, do="drop token_ids") from error


def _post(client: httpx.Client, server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    try:
        answer = client.post(path, json=body)
    except httpx.HTTPError as error:
        raise MeasuringError(_WHAT, seen=f"POST {path} -> {error!r}", do=server.exit_report()) from error
    if not answer.is_success:
        raise MeasuringError(
            _WHAT, seen=f"POST {path} -> {answer.status_code} {answer.text[:200]}", do="see the server's log"
        )
    return answer
