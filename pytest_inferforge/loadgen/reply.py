"""What a reply came to, whatever protocol it was written in."""

from __future__ import annotations

from array import array

import msgspec

Event = tuple[int, bytes, bytes]  # when its last byte arrived (ns), its type, its data


class Reply(msgspec.Struct, kw_only=True):
    """What a whole reply came to. Times in ns as the pieces carry them; None = never, or not told.

    `first_chunk_tokens`: the output tokens up to the first chunk, where the server counts as it goes.
    `server_ttft_ns`, `server_queue_ns`: by the server's own clock, durations.
    `fault`: why this reply is a failure although its transport was fine: bad_json, error_event, no_token,
    or cut (the stream ended before it said that it was finished).
    """

    first_event_ns: int | None = None
    first_token_ns: int | None = None
    first_visible_ns: int | None = None
    last_token_ns: int | None = None
    chunk_ns: array[int] = msgspec.field(default_factory=lambda: array("q"))
    empty_chunks: int = 0
    first_chunk_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    server_ttft_ns: int | None = None
    server_queue_ns: int | None = None
    finish_reason: str | None = None
    done: bool = False
    fault: str | None = None
    detail: str | None = None
    text: list[str] | None = None  # what the user sees, when it is to be kept

    def add_chunk(self, when: int, *, visible: bool) -> None:
        """A chunk with something generated in it came then."""
        self.chunk_ns.append(when)
        self.last_token_ns = when
        if self.first_token_ns is None:
            self.first_token_ns = when
        if visible and self.first_visible_ns is None:
            self.first_visible_ns = when

    def fail(self, fault: str, detail: str) -> None:
        """It is a failure; whoever reads it stops here."""
        self.fault = fault
        self.detail = detail

    def close(self, *, ends: str) -> None:
        """There is no more of it. `ends`: by which signs its protocol says that it was whole."""
        if not self.done and not self.finish_reason:
            self.fail("cut", f"the stream ended without {ends}")
        elif self.first_token_ns is None:
            self.fail("no_token", "the reply finished without any generated text")


def shown(data: bytes, limit: int = 200) -> str:
    """The beginning of what a server sent, for a person."""
    text = data[:limit].decode("utf-8", "backslashreplace")
    return text + ("..." if len(data) > limit else "")
