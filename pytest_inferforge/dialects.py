"""How each server wants to be asked, and what its answers look like on the wire: facts, no code.

Engines choose a dialect by name; whoever sends requests reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Fields = tuple[tuple[str, object], ...]  # body fields and their JSON values

BEARER = ("Authorization", "Bearer ")


class Wire(StrEnum):
    """The protocol that requests and replies are written in."""

    OPENAI = "openai"  # completions and chat completions
    ANTHROPIC = "anthropic"  # messages


class PromptLogprobs(StrEnum):
    """Whose log probabilities a server tells over HTTP."""

    ECHO = "echo"  # the prompt's: completions with `echo` and `logprobs`, so that a given text can be scored
    TOP_LOGPROBS = "top_logprobs"  # those of generated tokens alone, so that one next token can be
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way of speaking to a server.

    `completions_path`: None where that API is not offered. `body_completions`, `body_chat`: fields that
    every request carries. `max_tokens_*` bounds the output; where `ignore_eos` and `min_tokens_*` (None:
    there is no such field) are known to the server they make its length exact.
    `temperature`: what is sent when the workload names none.
    `prefix_cache_off`: fields by which one request neither reads nor feeds the prefix cache; empty where a
    request cannot say so.
    """

    name: str
    wire: Wire = Wire.OPENAI
    completions_path: str | None = "/v1/completions"
    chat_path: str = "/v1/chat/completions"
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request, beside those of HTTP."""
    key_header: tuple[str, str] = BEARER
    """The header that carries the API key, and what stands before the key in it."""
    body_completions: Fields = ()
    body_chat: Fields = ()
    max_tokens_completions: str = "max_tokens"
    max_tokens_chat: str = "max_tokens"
    min_tokens_completions: str | None = None
    min_tokens_chat: str | None = None
    ignore_eos: bool
    """The server knows `ignore_eos`; where it does not, the field may be an error."""
    length_json: tuple[str, tuple[str, ...]] | None = None
    """A body field that holds a JSON object as a string, and the keys in it that take the output's length:
    for a server whose own fields cannot make it exact."""
    token_ids: bool
    """The prompt of a completion may be a list of token ids."""
    stream_options_usage: bool
    """`stream_options: {"include_usage": true}` may be sent, and brings usage into a stream."""
    continuous_usage: bool
    """`stream_options` may also hold `continuous_usage_stats`, which brings usage into every chunk. It costs
    the server time, and is never sent unasked."""
    usage_on_finish_chunk: bool
    """In streamed completions usage rides on the chunk with the `finish_reason`, not on one of its own."""
    done_marker: bool
    """A stream ends with `data: [DONE]`; Anthropic's with the event `message_stop`."""
    survives_stream: bool
    """The connection can be used again after a streamed reply."""
    prompt_logprobs: PromptLogprobs
    prefix_cache_off: Fields = ()
    tokenize_path: str | None = None
    """Gives the ids of a text; None: there is no such route."""
    tokenize_field: str = "prompt"
    tokenize_body: Fields = ()
    temperature: float = 0.0

    @property
    def exact_length(self) -> bool:
        """A request can forbid an early end of its answer."""
        return self.ignore_eos or self.length_json is not None


DIALECTS: dict[str, Dialect] = {
    # Source: llama.cpp tools/server at 0c1e57098: unknown fields are ignored; `echo` is refused, and log
    # probabilities come in the shape of the chat API; `timings` are on the last chunk whether asked for or
    # not. The connection was watched on xllamacpp 2026.10.11549: it ends right after each streamed reply,
    # though the reply's headers say keep-alive; after a plain reply it stays.
    "llama.cpp": Dialect(
        name="llama.cpp",
        ignore_eos=True,
        token_ids=True,
        stream_options_usage=True,
        continuous_usage=False,
        usage_on_finish_chunk=True,
        done_marker=True,
        survives_stream=False,
        prompt_logprobs=PromptLogprobs.TOP_LOGPROBS,
        prefix_cache_off=(("cache_prompt", False),),
        tokenize_path="/tokenize",
        tokenize_field="content",
        tokenize_body=(("add_special", False),),
    ),
    # Source: vLLM 0.32.0, vllm/entrypoints/openai; unknown fields are ignored there. `metrics` of a request
    # ride on its usage chunk where the server was started with --enable-per-request-metrics.
    "vllm": Dialect(
        name="vllm",
        min_tokens_completions="min_tokens",
        min_tokens_chat="min_tokens",
        ignore_eos=True,
        token_ids=True,
        stream_options_usage=True,
        continuous_usage=True,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.ECHO,
        tokenize_path="/tokenize",
        tokenize_body=(("add_special_tokens", False),),
    ),
    # Source: SGLang 0.5.23 (PyPI wheel), sglang/srt/entrypoints/openai: unknown fields are ignored; `echo`
    # with `logprobs` works, though it logs that the two are not compatible; /tokenize is asked as vLLM's is.
    "sglang": Dialect(
        name="sglang",
        min_tokens_completions="min_tokens",
        min_tokens_chat="min_tokens",
        ignore_eos=True,
        token_ids=True,
        stream_options_usage=True,
        continuous_usage=True,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.ECHO,
        tokenize_path="/tokenize",
        tokenize_body=(("add_special_tokens", False),),
    ),
    # Source: TensorRT-LLM main, tensorrt_llm/serve/openai_protocol.py (0076e939) and openai_server.py:
    # unknown fields are refused with 400; log probabilities are those of generated tokens. The route to the
    # tokenizer is one of newer versions.
    "tensorrt-llm": Dialect(
        name="tensorrt-llm",
        min_tokens_completions="min_tokens",
        min_tokens_chat="min_tokens",
        ignore_eos=True,
        token_ids=True,
        stream_options_usage=True,
        continuous_usage=True,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.TOP_LOGPROBS,
        tokenize_path="/_internal/tokenize",
    ),
    # Source: text-generation-inference 3.3.7 (db931fcf), router: unknown fields are ignored; the end of text
    # cannot be forbidden (`ignore_eos_token` is a constant there); log probabilities of a prompt are told on
    # /generate alone. Its tokenizer's reply is a list of {"id", "text", ...}.
    "tgi": Dialect(
        name="tgi",
        ignore_eos=False,
        token_ids=False,
        stream_options_usage=True,
        continuous_usage=False,
        usage_on_finish_chunk=True,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.NONE,
        tokenize_path="/tokenize",
        tokenize_field="inputs",
    ),
    # Source: transformers 5.19.0, src/transformers/cli/serving: unknown fields (`ignore_eos`, `min_tokens`)
    # are refused with 422; `stream_options`, `max_completion_tokens` and `logprobs` are accepted and do
    # nothing. A `generation_config` takes the place of the model's own, so that nothing is sampled;
    # `max_tokens` and `temperature` are applied to it.
    "transformers": Dialect(
        name="transformers",
        ignore_eos=False,
        length_json=("generation_config", ("max_new_tokens", "min_new_tokens")),
        token_ids=False,
        stream_options_usage=False,
        continuous_usage=False,
        usage_on_finish_chunk=True,
        done_marker=False,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.NONE,
    ),
    # Source: LMDeploy 0.18.0 (PyPI wheel): unknown fields are ignored; a list of token ids would be that many
    # prompts; `logprobs` of completions are removed (/get_ppl takes their place).
    "lmdeploy": Dialect(
        name="lmdeploy",
        min_tokens_chat="min_new_tokens",
        ignore_eos=True,
        token_ids=False,
        stream_options_usage=True,
        continuous_usage=False,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.NONE,
    ),
    # Source: Ollama v0.33.0-rc2 (fb307609), its /v1: unknown fields are ignored, prompts are texts.
    "ollama": Dialect(
        name="ollama",
        ignore_eos=False,
        token_ids=False,
        stream_options_usage=True,
        continuous_usage=False,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.NONE,
    ),
    # What servers that speak the OpenAI protocol, and are none of those above, have in common. Many of them
    # do not know `max_completion_tokens`, and would write without end.
    "generic": Dialect(
        name="generic",
        ignore_eos=False,
        token_ids=True,
        stream_options_usage=True,
        continuous_usage=False,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.NONE,
    ),
    # Source: OpenAI API reference and SDK 3.52.0; unknown fields are refused with 400. `max_tokens` of a chat
    # is deprecated, and o-series models do not take it. Of the prompt's log probabilities babbage-002 and
    # davinci-002 alone tell.
    "openai": Dialect(
        name="openai",
        max_tokens_chat="max_completion_tokens",
        ignore_eos=False,
        token_ids=True,
        stream_options_usage=True,
        continuous_usage=False,
        usage_on_finish_chunk=False,
        done_marker=True,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.NONE,
    ),
    # Source: Anthropic API reference, Messages, and SDK 2.11.0; unknown fields are refused with 400, and
    # `max_tokens` is required. vLLM, SGLang, llama.cpp, LMDeploy and Ollama offer /v1/messages too.
    "anthropic": Dialect(
        name="anthropic",
        wire=Wire.ANTHROPIC,
        completions_path=None,
        chat_path="/v1/messages",
        headers=(("anthropic-version", "2023-06-01"),),
        key_header=("x-api-key", ""),
        ignore_eos=False,
        token_ids=False,
        stream_options_usage=False,
        continuous_usage=False,
        usage_on_finish_chunk=False,
        done_marker=False,
        survives_stream=True,
        prompt_logprobs=PromptLogprobs.NONE,
    ),
}
