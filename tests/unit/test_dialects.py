"""Facts that hold for every dialect; what each looks like on the wire is in `tests/contract`."""

import dataclasses

import pytest

from pytest_inferforge.dialects import BEARER, DIALECTS, Wire

EVERY = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=[*DIALECTS])


def test_who_is_spoken_to():
    assert [*DIALECTS] == [
        "llama.cpp", "vllm", "sglang", "tensorrt-llm", "tgi", "transformers", "lmdeploy", "ollama", "generic",
        "openai", "anthropic",
    ]  # fmt: skip


@EVERY
def test_a_dialect_knows_its_name_and_stays_as_it_is(dialect):
    assert DIALECTS[dialect.name] is dialect
    hash(dialect)
    with pytest.raises(dataclasses.FrozenInstanceError):
        dialect.name = "latin"


@EVERY
def test_headers_are_lines(dialect):
    pairs = (*dialect.headers, (dialect.key_header[0], f"{dialect.key_header[1]}key"))
    for name, value in pairs:
        assert name.isascii()
        assert not set(name + value) & set("\r\n:")


@EVERY
def test_the_wire_goes_with_what_is_sent(dialect):
    openai = dialect.wire is Wire.OPENAI
    assert openai == (dialect.completions_path is not None)
    assert openai == (dialect.key_header == BEARER)
    if not openai:
        assert not dialect.stream_options_usage
        assert not dialect.done_marker


@EVERY
def test_usage_as_it_goes_is_an_option_of_usage(dialect):
    assert dialect.stream_options_usage or not dialect.continuous_usage


def test_which_servers_can_be_told_how_long_an_answer_is():
    free = {name for name, dialect in DIALECTS.items() if not dialect.exact_length}
    assert free == {"tgi", "ollama", "generic", "openai", "anthropic"}
    assert DIALECTS["transformers"].exact_length


@EVERY
def test_a_least_length_is_known_only_where_the_end_can_be_forbidden(dialect):
    if dialect.min_tokens_completions or dialect.min_tokens_chat:
        assert dialect.ignore_eos
