"""Conversations: what was said so far is said again in the next turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pytest_inferforge.loadgen.bodies import Columns, Message, RequestWriter
    from pytest_inferforge.loadgen.wire import Exchange


class Conversations:
    """The turns of a worker's items."""

    def __init__(self, columns: Columns, writer: RequestWriter) -> None:
        self._columns = columns
        self._writer = writer

    def next_turn(self, exchange: Exchange, reply: str) -> list[Message]:
        """The messages of the turn behind a finished one: the history, the reply, what is said next."""
        history = cast("list[Message]", exchange.asked)
        answer: dict[str, Any] = {"role": "assistant", "content": reply}
        return [*history, answer, self._writer.next_turn(self._columns, exchange.place + 1)]

    def left(self, k: int) -> int:
        """How many turns a conversation has from the k-th request on."""
        columns, stop = self._columns, k
        while stop < len(columns) and columns.turn[stop] > 0:
            stop += 1
        return stop - k
