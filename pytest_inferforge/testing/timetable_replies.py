"""What a timetable server writes: chunked server-sent events of the OpenAI-style API."""

from __future__ import annotations

import json
from typing import Any


def prompt_tokens(prompt: Any) -> int:
    """A word is a token; a prompt may also be a list of token ids, of prompts or of a message's parts."""
    if isinstance(prompt, str):
        return len(prompt.split())
    if isinstance(prompt, dict):
        return prompt_tokens(prompt.get("text", ""))
    return sum(prompt_tokens(part) for part in prompt) if isinstance(prompt, list) else 1


def framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(content: object) -> bytes:
    return framed(b"data: " + json.dumps(content).encode() + b"\n\n")


def chunk(chat: bool, *, usage: dict[str, int] | None = None, **choice: Any) -> bytes:
    content = {  # some clients take no chunk for one that does not name its object
        "object": "chat.completion.chunk" if chat else "text_completion",
        "choices": [{"index": 0, **choice}],
    }
    return event(content if usage is None else {**content, "usage": usage})


_TOKEN = chunk(False, text=" tok")
_CHAT_TOKEN = chunk(True, delta={"content": " tok"})


def token(chat: bool) -> bytes:
    """A chunk with one token."""
    return _CHAT_TOKEN if chat else _TOKEN


def empty(chat: bool) -> bytes:
    """A chunk without text."""
    return chunk(True, delta={"content": ""}) if chat else chunk(False, text="")


def finish(chat: bool, usage: dict[str, Any] | None) -> bytes:
    """The last chunk, with usage where it is given, and the end of the stream."""
    nothing: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    last = chunk(chat, usage=usage, **nothing, finish_reason="length")
    return last + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
