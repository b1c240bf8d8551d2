"""Recorded traces, replayed: every request leaves when its row says."""

import numpy as np
import pytest

from pytest_inferforge.errors import UsageError
from pytest_inferforge.testing.samples import write_trace
from pytest_inferforge.testing.timetable import Timetable
from pytest_inferforge.workload import traces

ROWS = 400
TRIES = 4  # a shared machine may stand still for some 50 ms


@pytest.mark.parametrize("trace_format", ["mooncake", "burstgpt", "azure", "inferforge"])
def test_a_trace_is_replayed_on_time(trace_format, build, drive_timetable, tmp_path):
    path = tmp_path / f"sample.{'csv' if trace_format in ('burstgpt', 'azure') else 'jsonl'}"
    write_trace(path, trace_format, ROWS, 3)
    trace = traces.read(path)
    span_s = float(trace.due_s[-1])
    scale = 6.0 / span_s  # six seconds of it
    drawn = build(
        folder=tmp_path,
        arrivals=f"trace {path.name} time_scale={scale:.6f}",
        prompt_tokens=None,
        output_tokens=2,
    )
    expected_s = trace.due_s * float(f"{scale:.6f}")
    for attempt in range(1, TRIES + 1):
        found, true = drive_timetable(drawn, Timetable(ttft_s=0.005, gap_s=0.001))
        table = found.table
        assert len(table) == len(trace.due_s) == len(true)
        np.testing.assert_allclose(table.times["due_s"], expected_s, atol=1e-6)
        late_s = table.times["send_s"] - expected_s
        assert late_s.min() >= 0.0
        if np.quantile(late_s, 0.99) <= 0.002:
            break
        assert attempt < TRIES, f"p99 {np.quantile(late_s, 0.99) * 1e3:.1f} ms late"
    np.testing.assert_array_equal(table.counts["prompt_tokens_asked"], trace.prompt_tokens)
    np.testing.assert_array_equal(table.counts["prompt_tokens"], trace.prompt_tokens)


def test_rows_that_share_a_block_share_the_beginning_of_their_prompts(build, target, tmp_path):
    from pytest_inferforge.loadgen.bodies import Columns, RequestWriter
    from pytest_inferforge.loadgen.planning import make_plan

    (tmp_path / "t.jsonl").write_text(
        '{"timestamp": 0, "input_length": 1100, "output_length": 1, "hash_ids": [7, 8, 9]}\n'
        '{"timestamp": 5, "input_length": 1300, "output_length": 1, "hash_ids": [7, 8, 4]}\n'
        '{"timestamp": 9, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}\n'
    )
    drawn = build(folder=tmp_path, arrivals="trace t.jsonl", prompt_tokens=None, output_tokens=None)
    plan = make_plan(drawn, target("http://h"), id_prefix="t", salt="s", connect_lead_s=0.05)
    columns, writer = Columns(plan.items), RequestWriter(plan, None)
    texts = [str(writer.opening(columns, k, k)).split() for k in range(3)]
    assert [len(words) for words in texts] == [1100, 1300, 600]
    assert texts[0][:1025] == texts[1][:1025]  # the opening word and two blocks of 512
    assert texts[0][1025:1030] != texts[1][1025:1030]
    assert texts[0][1:5] != texts[2][1:5]


def test_a_wrong_row_is_named_before_anything_runs(build, tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"timestamp": 0, "input_length": 10, "output_length": 1, "hash_ids": [7]}\n{"timestamp": 1}\n'
    )
    with pytest.raises(UsageError) as error:
        build(folder=tmp_path, arrivals="trace t.jsonl", prompt_tokens=None, output_tokens=None)
    assert "t.jsonl, line 2" in str(error.value)
