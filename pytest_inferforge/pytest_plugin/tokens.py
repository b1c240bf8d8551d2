"""How a server counts tokens, so that prompts have exactly the length asked for. Knows no pytest."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import httpx

from pytest_inferforge import asking
from pytest_inferforge.dialects import DIALECTS
from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.loadgen.planning import refuse_unspoken
from pytest_inferforge.workload import prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_inferforge.servers.server import Server
    from pytest_inferforge.workload.prompts import WordBank
    from pytest_inferforge.workload.spec import Api

    Split = Callable[[str], list[int]]  # a text -> the ids of its tokens

_TIMEOUT_S = 120.0
_WHAT = "the server could not be asked how long a prompt is"


def learn(server: Server, api: Api, *, ids: bool, tokenizer: str | None = None) -> WordBank:
    """The one-token words of a server, by what it counts itself: the usage of a short answer, which includes
    its template; where it reports none, its route to the tokenizer, or a local `tokenizer` (a file), without
    the template. `ids`: also the words' token ids, from one of the latter.

    Raises:
        MeasuringError: it does not answer, refuses, nothing counts, or its dialect cannot say what is asked.
    """
    dialect = DIALECTS[server.dialect_name]
    refuse_unspoken(dialect, api, token_ids=ids)
    with server.client(timeout_s=_TIMEOUT_S) as client:
        split: Split | None = None
        if tokenizer is not None:
            split = _local(tokenizer)
        elif dialect.tokenize_path is not None:
            split = functools.partial(tokenize, client, server)
        bank = prompts.learn(_counter(client, server, api, split))
        if not ids:
            return bank
        if split is None:
            raise MeasuringError(
                "prompts cannot be given as token ids for this server",
                seen=f"the dialect {dialect.name} has no route to the tokenizer",
                do="name a local one with --infer-tokenizer=FILE, or drop token_ids",
            )
        return prompts.with_ids(bank, split)


def _counter(client: httpx.Client, server: Server, api: Api, split: Split | None) -> Callable[[str], int]:
    """What counts the tokens of a text."""
    if count_tokens(client, server, api, "a") is not None:
        return lambda text: count_tokens(client, server, api, text) or 0
    if split is None:
        raise MeasuringError(
            _WHAT,
            seen="its answers have no usage.prompt_tokens, and it has no route to its tokenizer",
            do="name its tokenizer with --infer-tokenizer=FILE (a tokenizer.json)",
        )
    return lambda text: len(split(text))


def _local(path: str) -> Split:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UsageError(
            "a local tokenizer needs the package tokenizers",
            seen=f"--infer-tokenizer={path}",
            do='pip install "pytest-inferforge[tokenizer]"',
        ) from error
    try:
        loaded = Tokenizer.from_file(path)
    except Exception as error:  # the package raises nothing narrower
        raise UsageError("not a tokenizer", seen=f"{path}: {error}", do="give a tokenizer.json") from error
    return lambda text: [int(token) for token in loaded.encode(text, add_special_tokens=False).ids]


def count_tokens(client: httpx.Client, server: Server, api: Api, text: str) -> int | None:
    """How many prompt tokens the server counts for a text, template included: its usage of a short answer.

    None: it reports none.

    Raises:
        MeasuringError: it does not answer or refuses.
    """
    dialect = DIALECTS[server.dialect_name]
    chat = api == "chat"
    path = dialect.chat_path if chat else dialect.completions_path
    assert path is not None
    body = asking.body(dialect, server.model, text, chat=chat, max_tokens=1)
    answer = _post(client, server, path, body)
    try:
        return asking.prompt_tokens(dialect, answer.json())
    except ValueError:
        return None


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
        found = answer.json()
        if isinstance(found, list):  # of {"id", "text", ...}: TGI
            return [int(token["id"]) for token in found]
        return [int(token) for token in found["tokens"]]
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
