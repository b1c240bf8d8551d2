from __future__ import annotations

import signal

import pytest

from pytest_inferforge.servers.server import exit_words, parse_metrics


def test_samples_are_named_with_their_labels_in_order() -> None:
    text = """\
# HELP vllm:num_requests_running Number of requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m",engine="0"} 2.0
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 3336
# TYPE t_seconds histogram
t_seconds_bucket{le="0.1"} 1
t_seconds_bucket{le="+Inf"} 2
t_seconds_sum 0.5
t_seconds_count 2
"""
    assert parse_metrics(text) == {
        'vllm:num_requests_running{engine="0",model_name="m"}': 2.0,
        "llamacpp:tokens_predicted_total": 3336.0,
        't_seconds_bucket{le="0.1"}': 1.0,
        't_seconds_bucket{le="+Inf"}': 2.0,
        "t_seconds_sum": 0.5,
        "t_seconds_count": 2.0,
    }


def test_nothing_scraped_is_no_samples() -> None:
    assert parse_metrics("") == {}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-250, "was killed by signal 250"),
    ],
)
def test_ends_in_words(code: int, words: str) -> None:
    assert exit_words(code) == words
