"""The bytes of requests, made shortly before they are due."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec

from pytest_inferforge.dialects import Wire
from pytest_inferforge.workload import images
from pytest_inferforge.workload.prompts import PromptMaker

if TYPE_CHECKING:
    from pytest_inferforge.loadgen.plan import ClassPlan, Items, Plan

    Message = dict[str, Any]


class Columns:
    """`plan.Items` unpacked; n requests."""

    def __init__(self, items: Items) -> None:
        self.index = _array("q", items.index)
        self.due_ns = _array("q", items.due_ns)
        self.lane = _array("h", items.lane)
        self.cls = _array("h", items.cls)
        self.session = _array("q", items.session)
        self.turn = _array("h", items.turn)
        self.think_ns = _array("q", items.think_ns)
        self.prompt_tokens = _array("i", items.prompt_tokens)
        self.output_tokens = _array("i", items.output_tokens)
        self.text = _array("i", items.text)
        self._block_start = _array("q", items.block_start)
        self._blocks = _array("i", items.blocks)

    def __len__(self) -> int:
        return len(self.index)

    def blocks(self, k: int) -> array[int]:
        """Prefix blocks of the k-th request."""
        return self._blocks[self._block_start[k] : self._block_start[k + 1]]

    def goes_on(self, k: int) -> bool:
        """The k-th request is followed by another turn of its conversation."""
        return k + 1 < len(self.session) and self.turn[k + 1] > 0


class RequestWriter:
    """Makes the bytes of a request: its head, ready to be written to a socket, and its body."""

    def __init__(self, plan: Plan, key: str | None) -> None:
        self._plan = plan
        self._makers = [_maker(plan, c) for c in plan.classes]
        parts = urlsplit(plan.url)
        host, headers = parts.netloc.rpartition("@")[2], _headers(plan, key)
        self._heads = [_head(c, parts.path, host, headers) for c in plan.classes]
        self._encode = msgspec.json.Encoder().encode

    def opening(self, columns: Columns, k: int, salt_index: int) -> str | list[int] | list[Message]:
        """What the k-th request asks: a text, token ids, or in a chat its messages.

        `salt_index`: makes its prompt unlike every other one of the run.
        """
        plan, place = self._plan, columns.cls[k]
        c, text = plan.classes[place], columns.text[k]
        if text >= 0:
            told = plan.texts[place][text]
            said = told.turns[columns.turn[k] % len(told.turns)]
            system = [{"role": "system", "content": told.system}] if told.system else []
            return [*system, {"role": "user", "content": said}] if c.chat else said
        maker = self._makers[place]
        assert maker is not None
        prompt = columns.prompt_tokens[k], columns.blocks(k), c.block_tokens
        if c.token_ids:
            return maker.token_ids(salt_index, *prompt)
        written = maker.text(salt_index, *prompt)
        return [{"role": "user", "content": self._content(c, salt_index, written)}] if c.chat else written

    def next_turn(self, columns: Columns, k: int) -> Message:
        """What the user says in the k-th request, a later turn of its conversation."""
        place, text, turn = columns.cls[k], columns.text[k], columns.turn[k]
        if text >= 0:
            turns = self._plan.texts[place][text].turns
            return {"role": "user", "content": turns[turn % len(turns)]}
        maker = self._makers[place]
        assert maker is not None
        return {
            "role": "user",
            "content": maker.more(columns.index[k], turn, columns.prompt_tokens[k]),
        }

    def request(
        self, place: int, name: str, asked: str | list[int] | list[Message], output_tokens: int
    ) -> bytes:
        """The whole request of the class at that place."""
        data = self.body(place, asked, output_tokens)
        head = f"{self._heads[place]}\r\nX-Request-Id: {name}\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode("latin-1") + data

    def body(self, place: int, asked: str | list[int] | list[Message], output_tokens: int) -> bytes:
        """The JSON of a request."""
        c = self._plan.classes[place]
        body = dict(c.body)
        body["model"] = self._plan.model
        body["messages" if c.chat else "prompt"] = asked
        if c.wire is Wire.ANTHROPIC:
            body |= _system_apart(cast("list[Message]", asked))
        body[c.max_tokens_field] = output_tokens
        if c.min_tokens_field:
            body[c.min_tokens_field] = output_tokens
        if c.length_json is not None:
            field, keys = c.length_json
            body[field] = self._encode(dict.fromkeys(keys, output_tokens)).decode()
        return self._encode(body)

    def _content(self, c: ClassPlan, salt_index: int, text: str) -> str | list[Message]:
        """The text, or with images its parts; the salted text goes first."""
        if c.images is None:
            return text
        count, width, height = c.images
        urls = (images.data_url(width, height, f"{c.salt}/{salt_index}/{k}") for k in range(count))
        return [{"type": "text", "text": text}, *(_picture(c.wire, url) for url in urls)]


def _maker(plan: Plan, c: ClassPlan) -> PromptMaker | None:
    if c.bank < 0:
        return None
    bank = plan.banks[c.bank]
    return PromptMaker(
        words=bank.words,
        ring=bank.ring,
        overhead_tokens=bank.overhead_tokens,
        salt=c.salt,
        ids=bank.ids if c.token_ids else (),
    )


def _picture(wire: Wire, url: str) -> Message:
    """An image as the wire has it, from its `data:` URL.

    Source: OpenAI API reference, chat completions; Anthropic API reference, messages.
    """
    if wire is Wire.OPENAI:
        return {"type": "image_url", "image_url": {"url": url}}
    media_type, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _system_apart(messages: list[Message]) -> dict[str, Any]:
    """What the system says has a field of its own. Source: Anthropic API reference, messages."""
    first, *rest = messages
    return {"system": first["content"], "messages": rest} if first["role"] == "system" else {}


def _headers(plan: Plan, key: str | None) -> list[str]:
    """Those of the dialect, and the key."""
    lines = [f"{name}: {value}" for name, value in plan.headers]
    if key:
        name, before = plan.key_header
        lines.append(f"{name}: {before}{key}")
    return lines


def _head(c: ClassPlan, base: str, host: str, headers: list[str]) -> str:
    lines = [
        f"POST {base.rstrip('/')}{c.path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        "User-Agent: pytest-inferforge",
        *headers,
    ]
    return "\r\n".join(lines)


def _array(code: str, data: bytes) -> array[int]:
    found: array[int] = array(code)
    found.frombytes(data)
    return found
