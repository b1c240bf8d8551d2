"""The table of metrics, and how ids are read."""

import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.metrics import METRICS, by_name, metric, quantile_of


def test_ids_are_read_and_printed_the_same():
    for text in ("ttft_s.p99", "tpot_s.mean", "icl_s.p99.9", "e2e_s.max", "output_tok_per_s", "error_ratio"):
        assert metric(text).id == text


@pytest.mark.parametrize(
    ("statistic", "quantile"), [("p50", 0.5), ("p99.9", 0.999), ("max", 1.0), ("mean", None), ("p100", None)]
)
def test_quantiles(statistic, quantile):
    assert quantile_of(statistic) == quantile


@pytest.mark.parametrize(
    ("wrong", "do"),
    [
        ("ttft.p99", "write ttft_s.p99"),
        ("throughput", "write output_tok_per_s"),
        ("ttft_s", "write ttft_s.p99"),
        ("ttft_s.99", "write ttft_s.p99"),
        ("output_tok_per_s.p50", "write output_tok_per_s"),
        ("ttfs_s.p99", "did you mean ttft_s"),
        ("zzz", "known: ttft_s"),
    ],
)
def test_wrong_ids_are_told_what_is_right(wrong, do):
    with pytest.raises(UsageError) as caught:
        metric(wrong)
    assert caught.value.seen == wrong
    assert caught.value.do.startswith(do)


def test_every_name_means_one_quantity_and_carries_a_unit_in_its_id():
    names = [name for quantity in METRICS.values() for name in (quantity.id, *quantity.names)]
    assert len(names) == len(set(names))
    units = {
        "s": "_s", "tok/s": "_tok_per_s", "req/s": "_per_s", "ratio": "_ratio", "change": "_ratio",
        "bytes": "_bytes", "W": "_w", "J": "_j", "J/tok": "_j_per_output_tok", "Hz": "_hz", "cores": "_cores",
    }  # fmt: skip
    for quantity in METRICS.values():
        # what is counted is in the name itself: preemptions, requests_waiting, spec_tokens_per_draft
        assert quantity.unit in ("count", "tok") or quantity.id.endswith(units[quantity.unit])
        assert all(by_name(name) is quantity for name in quantity.names)
