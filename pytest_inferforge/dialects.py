"""How each server wants to be asked, and what its answers look like on the wire: facts, no code.

Engines choose a dialect by name; whoever sends requests reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

Fields = tuple[tuple[str, object], ...]  # body fields and their JSON values


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way of speaking the OpenAI protocol.

    `body_completions`, `body_chat`: fields that every request carries. `max_tokens_field` bounds the output;
    where `ignore_eos` and `min_tokens` are known to the server they make its length exact.
    `temperature`: what is sent when the workload names none.
    `prefix_cache_off`: fields by which one request neither reads nor feeds the prefix cache; empty where a
    request cannot say so.
    """

    name: str
    completions_path: str = "/v1/completions"
    chat_path: str = "/v1/chat/completions"
    body_completions: Fields = ()
    body_chat: Fields = ()
    max_tokens_field: str = "max_tokens"
    ignore_eos: bool
    """The server knows `ignore_eos`; where it does not, the field may be an error."""
    min_tokens: bool
    """The server knows `min_tokens`; likewise."""
    stream_options_usage: bool
    """`stream_options: {"include_usage": true}` may be sent, and brings usage into a stream."""
    usage_on_finish_chunk: bool
    """In streamed completions usage rides on the chunk with the `finish_reason`, not on one of its own."""
    done_marker: bool
    """A stream ends with `data: [DONE]`."""
    survives_stream: bool
    """The connection can be used again after a streamed reply."""
    prefix_cache_off: Fields = ()
    tokenize_path: str | None = None
    """Gives the ids of a text as `{"tokens": [...]}`; None: there is no such route."""
    tokenize_field: str = "prompt"
    tokenize_body: Fields = ()
    temperature: float = 0.0


DIALECTS: dict[str, Dialect] = {
    # Source: llama.cpp tools/server at 0c1e57098. The connection was watched on xllamacpp 2026.10.11549: it
    # ends right after each streamed reply, though the reply's headers say keep-alive; after a plain reply it
    # stays.
    "llama.cpp": Dialect(
        name="llama.cpp",
        ignore_eos=True,
        min_tokens=False,
        stream_options_usage=True,
        usage_on_finish_chunk=True,
        done_marker=True,
        survives_stream=False,
        prefix_cache_off=(("cache_prompt", False),),
        tokenize_path="/tokenize",
        tokenize_field="content",
        tokenize_body=(("add_special", False),),
    ),
    # Source: vLLM 0.32.0, vllm/entrypoints/openai; unknown fields are ignored there.
    "vllm": Dialect(
        name="vllm",
        ignore_eos=True,
        min_tokens=True,
        stream_options_usage=True,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        tokenize_path="/tokenize",
        tokenize_body=(("add_special_tokens", False),),
    ),
    # Source: OpenAI API reference; unknown fields are refused with 400.
    "openai": Dialect(
        name="openai",
        ignore_eos=False,
        min_tokens=False,
        stream_options_usage=True,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
    ),
}
