import csv
import hashlib
import json
import random
from array import array
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_inferforge.errors import UsageError
from pytest_inferforge.testing.samples import write_trace
from pytest_inferforge.workload import trace_ids, traces

MOONCAKE = {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}
OWN = {"due_s": 0.5, "prompt_tokens": 8, "output_tokens": 4}
BURST_HEAD = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
AZURE_HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
DO_MOONCAKE = (
    'write rows like {"timestamp": 27482, "input_length": 6955, "output_length": 52,'
    ' "hash_ids": [46, 47, 2353]}'
)
DO_BURSTGPT = (
    "write rows like 5,ChatGPT,472,18,490,Conversation log,"
    " under Timestamp,Model,Request tokens,Response tokens,..."
)
DO_AZURE = (
    "write rows like 2023-11-16 18:17:03.9799600,4808,10, under TIMESTAMP,ContextTokens,GeneratedTokens"
)
DO_OWN = (
    'write rows like {"due_s": 0.25, "prompt_tokens": 256, "output_tokens": 128},'
    ' where known with "session", "class" and "blocks"'
)


def json_lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def numbered(ids):
    """By the dictionary that the real one does without."""
    known = {}
    return [-1 if i is None else known.setdefault(i, len(known)) for i in ids]


@pytest.fixture
def read(tmp_path):
    def read(content, **options):
        path = tmp_path / "t.x"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return traces.read(path, **options)

    return read


def blocks_of(table):
    return [b.tolist() for b in np.split(table.blocks, table.block_start[1:-1])]


def test_mooncake_as_published(read):
    """The first rows of FAST25-release/traces/conversation_trace.jsonl, shortened."""
    table = read(
        '{"timestamp": 0, "input_length": 2290, "output_length": 316, "hash_ids": [0, 42, 43, 44, 45]}\n'
        '{"timestamp": 3000, "input_length": 915, "output_length": 355, "hash_ids": [0, 462]}\n\n'
        '{"timestamp": 5999, "input_length": 1053, "output_length": 26, "hash_ids": [0, 42, 774]}'
    )
    assert (table.format, table.block_tokens, table.class_name, table.skipped) == ("mooncake", 512, None, 0)
    assert table.due_s.tolist() == [0.0, 3.0, 5.999]
    assert table.prompt_tokens.tolist() == [2290, 915, 1053]
    assert table.output_tokens.tolist() == [316, 355, 26]
    assert blocks_of(table) == [[0, 1, 2, 3, 4], [0, 5], [0, 1, 6]]
    assert table.session.tolist() == table.class_id.tolist() == [-1, -1, -1]


def test_burstgpt_as_published(read):
    table = read(
        BURST_HEAD
        + "5,ChatGPT,472,18,490,Conversation log\n"
        + "45,ChatGPT,0,0,0,API log\n"
        + "118,GPT-4,1087,0,1087,API log\n"
        + "118,GPT-4,417,276,693,Conversation log\n"
    )
    assert (table.format, table.skipped, table.block_tokens) == ("burstgpt", 2, 0)
    assert table.due_s.tolist() == [0.0, 113.0]
    assert (table.prompt_tokens.tolist(), table.output_tokens.tolist()) == ([472, 417], [18, 276])
    assert (table.blocks.size, table.block_start.tolist()) == (0, [0, 0, 0])
    assert table.session.tolist() == [-1, -1]


def test_newer_burstgpt_has_columns_in_between_and_some_sessions(read):
    """Rows of BurstGPT_3.csv, release v2.0; API rows have no session."""
    table = read(
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\r\n"
        "19440110.0,1722ac82-0a46-4bf0-aa08-89794e7a2b3f,43,GPT-4,906,446,1352,Conversation log\r\n"
        "19440161.0,d5983bf9-4b48-497b-892b-a58995247443,2,ChatGPT,36,29,65,Conversation log\r\n"
        "19440192.0,,1,ChatGPT,10,5,15,API log\r\n"
        "19440193.0,1722ac82-0a46-4bf0-aa08-89794e7a2b3f,1,GPT-4,9,5,14,Conversation log\r\n"
    )
    assert table.session.tolist() == [0, 1, -1, 0]
    assert table.due_s.tolist() == [0.0, 51.0, 82.0, 83.0]
    assert table.prompt_tokens.tolist() == [906, 36, 10, 9]


def test_azure_as_published(read):
    """AzureLLMInferenceTrace_conv.csv of 2023, and the form of 2024."""
    old = read(AZURE_HEAD + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n")
    assert (old.format, old.due_s.tolist()) == ("azure", [0.0, 4.314579])
    assert (old.prompt_tokens.tolist(), old.output_tokens.tolist()) == ([374, 396], [44, 109])
    new = read(AZURE_HEAD + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00,2399,6\n")
    assert new.due_s == pytest.approx([0.0, 0.00993])
    assert new.prompt_tokens.tolist() == [2399, 2162]


def test_our_own_format(read):
    table = read(
        '{"block_tokens": 256}\n'
        '{"due_s": 1.5, "prompt_tokens": 600, "output_tokens": 7, "session": "a", "class": "rag",'
        ' "blocks": [9, 4]}\n'
        '{"due_s": 2, "prompt_tokens": 8, "output_tokens": 7, "session": 5, "class": "chat"}\n'
        '{"due_s": 2.25, "prompt_tokens": 8, "output_tokens": 7}\n'
        '{"due_s": 3, "prompt_tokens": 600, "output_tokens": 7, "session": "5", "class": "rag",'
        ' "blocks": [9]}\n'
    )
    assert (table.format, table.block_tokens) == ("inferforge", 256)
    assert table.due_s.tolist() == [0.0, 0.5, 0.75, 1.5]
    assert blocks_of(table) == [[0, 1], [], [], [0]]
    assert table.session.tolist() == [0, 1, -1, 1]
    assert (table.class_name, table.class_id.tolist()) == (("rag", "chat"), [0, 1, -1, 0])


def test_columns_have_their_types_and_cannot_be_changed(read):
    table = read(json_lines(MOONCAKE))
    types = {
        "due_s": np.float64, "prompt_tokens": np.int32, "output_tokens": np.int32, "block_start": np.int64,
        "blocks": np.int32, "session": np.int32, "class_id": np.int16,
    }  # fmt: skip
    for name, dtype in types.items():
        column = getattr(table, name)
        assert column.dtype == dtype
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_a_trace_is_known_by_its_bytes(read):
    content = json_lines(MOONCAKE)
    assert read(content).digest == hashlib.sha256(content.encode()).hexdigest()[:16]
    assert read(content + "\n").digest != read(content).digest


def test_rows_are_put_in_the_order_of_their_times_and_equal_times_stay(read):
    rows = [
        {"due_s": due, "prompt_tokens": k + 1, "output_tokens": 1, "session": s, "class": c, "blocks": b}
        for k, (due, s, c, b) in enumerate(
            [(9.0, 1, "x", [8, 7]), (2.0, 2, "y", []), (2.0, 3, "x", [7]), (1.0, 2, "x", [5, 8, 8])]
        )
    ]
    table = read(json_lines({"block_tokens": 16}, *rows))
    assert table.due_s.tolist() == [0.0, 1.0, 1.0, 8.0]
    assert table.prompt_tokens.tolist() == [4, 2, 3, 1]
    assert blocks_of(table) == [[0, 1, 1], [], [2], [1, 2]]
    assert table.session.tolist() == [0, 0, 1, 2]
    assert [table.class_name[k] for k in table.class_id] == ["x", "y", "x", "x"]
    azure = read(AZURE_HEAD + "2024-05-10 00:00:05,1,1\n2024-05-10 00:00:01,2,2\n")
    assert (azure.due_s.tolist(), azure.prompt_tokens.tolist()) == ([0.0, 4.0], [2, 1])


IDS = st.lists(st.none() | st.integers(0, 6) | st.integers(0, 2**63 - 1), max_size=60)


@given(IDS, st.sampled_from([1, 3, 1 << 18]), st.sampled_from([1, 5, 1 << 18]))
def test_ids_are_numbered_as_a_dictionary_would(ids, part, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_ids, "_PART", part)
        patch.setattr(trace_ids, "_CHUNK", chunk)
        column = array("q", [-1 if i is None else i for i in ids])
        assert trace_ids.numbered(column).tolist() == numbered(ids)
        small = [None if i is None else i % 2**31 for i in ids]
        column = array("i", [-1 if i is None else i for i in small])
        assert trace_ids.numbered(column).tolist() == numbered(small)


@given(st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=20), st.randoms())
def test_rows_of_ids_move_together(rows, rng):
    order = list(range(len(rows)))
    rng.shuffle(order)
    begins = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    ids = np.array([i for row in rows for i in row], dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_ids, "_ROWS", 3)
        moved = trace_ids.gathered(ids, begins, np.array(order))
    assert moved.tolist() == [i for k in order for i in rows[k]]


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_a_large_mooncake_trace_is_read_as_it_is(tmp_path, shuffled, wide):
    path = tmp_path / "t.jsonl"
    write_trace(path, "mooncake", 20_000, seed=3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    if wide:
        for row in rows[700:]:
            row["hash_ids"] = [hash((i, "x")) % 2**63 for i in row["hash_ids"]]
    if shuffled:
        random.Random(1).shuffle(rows)
    path.write_text(json_lines(*rows))
    table = traces.read(path)
    rows.sort(key=lambda row: row["timestamp"])
    first = rows[0]["timestamp"] / 1000
    assert np.array_equal(table.due_s, [row["timestamp"] / 1000 - first for row in rows])
    assert table.prompt_tokens.tolist() == [row["input_length"] for row in rows]
    assert table.output_tokens.tolist() == [row["output_length"] for row in rows]
    assert table.blocks.tolist() == numbered([i for row in rows for i in row["hash_ids"]])
    assert np.array_equal(np.diff(table.block_start), [len(row["hash_ids"]) for row in rows])


def test_samples_of_tables_are_read_as_they_are(tmp_path):
    path = tmp_path / "burst.csv"
    write_trace(path, "burstgpt", 3000, seed=3)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    answered = [row for row in rows if row["Response tokens"] != "0"]
    table = traces.read(path)
    assert table.skipped == len(rows) - len(answered) > 50
    assert table.output_tokens.tolist() == [int(row["Response tokens"]) for row in answered]
    assert table.session.tolist() == numbered([row["Session ID"] or None for row in answered])
    path = tmp_path / "azure.csv"
    write_trace(path, "azure", 3000, seed=3)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    whens = [datetime.fromisoformat(row["TIMESTAMP"]) for row in rows]
    assert traces.read(path).due_s.tolist() == [(when - whens[0]).total_seconds() for when in whens]
    assert traces.read(path).prompt_tokens.tolist() == [int(row["ContextTokens"]) for row in rows]


@pytest.mark.parametrize("name", traces.FORMATS)
def test_samples_come_from_their_seed_in_bursts_and_share(tmp_path, name):
    paths = [tmp_path / str(k) for k in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_trace(path, name, 12_000, seed)
    same, again, other = (path.read_bytes() for path in paths)
    assert same == again != other
    table = traces.read(paths[0])
    assert (table.format, len(table.due_s) + table.skipped) == (name, 12_000)
    counts = np.bincount((table.due_s / 10).astype(int))
    assert 2.5 < counts.var() / counts.mean() < 6  # Poisson: 1
    assert np.log(table.prompt_tokens).std() == pytest.approx(0.8, rel=0.05)
    if name in ("mooncake", "inferforge"):
        assert 0.2 < len(set(table.blocks.tolist())) / len(table.blocks) < 0.8


def test_samples_of_an_unknown_format_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown trace format"):
        write_trace(tmp_path / "t", "splitwise", 1, 1)


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("content", "what", "where", "do"),
    [
        (json_lines(MOONCAKE, without(MOONCAKE, "hash_ids")), "hash_ids is missing", 2, DO_MOONCAKE),
        (json_lines(MOONCAKE | {"input_length": "5"}), "input_length: expected int, got str", 1, DO_MOONCAKE),
        (json_lines(MOONCAKE | {"input_length": 0}), "input_length: expected int >= 1", 1, DO_MOONCAKE),
        (json_lines(MOONCAKE | {"output_length": 0}), "output_length: expected int >= 1", 1, DO_MOONCAKE),
        (json_lines(MOONCAKE | {"output_length": 2**31}), "output_length: expected int <= 214748", 1, None),
        (json_lines(MOONCAKE | {"timestamp": -1}), "timestamp: expected float >= 0.0", 1, DO_MOONCAKE),
        (json_lines(MOONCAKE, MOONCAKE | {"timestamp": float("nan")}), "not JSON: ", 2, DO_MOONCAKE),
        (json_lines(MOONCAKE) + '{"timestamp": 1e999', "timestamp: number out of range", 2, None),
        (json_lines(MOONCAKE | {"hash_ids": [4, -4]}), "hash_ids[1]: expected int >= 0", 1, DO_MOONCAKE),
        (json_lines(MOONCAKE | {"hash_ids": [2**64]}), "hash_ids[0]: expected int <= ", 1, DO_MOONCAKE),
        (json_lines(MOONCAKE) + "\n{not json}\n", "not JSON: ", 3, DO_MOONCAKE),
        (json_lines(MOONCAKE) + "[1]\n", "expected object, got array", 2, DO_MOONCAKE),
        (json_lines(OWN | {"size": 1, "colour": "red"}), "unknown colour, size", 1, DO_OWN),
        (json_lines(OWN, {"block_tokens": 16}), "unknown block_tokens", 2, DO_OWN),
        (json_lines({"block_tokens": 0}), "block_tokens: expected int >= 1", 1, DO_OWN),
        (json_lines(OWN | {"class": ""}), "class: expected str of length >= 1", 1, DO_OWN),
        (json_lines(OWN | {"session": 1.5}), "session: expected int | str | null, got float", 1, DO_OWN),
        (json_lines(OWN | {"blocks": [1]}), "blocks of unknown size", 1, 'begin with {"block_tokens": 256}'),
        (BURST_HEAD + "5,GPT-4,x,18,490,a\n", "Request tokens is not a whole number", 2, DO_BURSTGPT),
        (BURST_HEAD + "5,GPT-4,4,1.5,490,a\n", "Response tokens is not a whole number", 2, DO_BURSTGPT),
        (BURST_HEAD + "\n5,GPT-4,4,-1,490,a\n", "Response tokens must be at least 1", 3, DO_BURSTGPT),
        (BURST_HEAD + "5,GPT-4,4,9999999999,4,a\n", "Response tokens must be at most 2,147,483,647", 2, None),
        (BURST_HEAD + f"5,GPT-4,4,{'9' * 400},4,a\n", "Response tokens must be at most 2,147,4", 2, None),
        (BURST_HEAD + "soon,GPT-4,4,1,5,a\n", "Timestamp is not a number", 2, DO_BURSTGPT),
        (BURST_HEAD + "nan,GPT-4,4,1,5,a\n", "Timestamp is not finite", 2, DO_BURSTGPT),
        (BURST_HEAD + "nan,GPT-4,4,0,5,a\n", "Timestamp is not finite", 2, DO_BURSTGPT),
        (BURST_HEAD + "inf,GPT-4,4,1,5,a\n", "Timestamp is not finite", 2, DO_BURSTGPT),
        (BURST_HEAD + "-1,GPT-4,4,1,5,a\n", "Timestamp must be at least 0", 2, DO_BURSTGPT),
        (BURST_HEAD + "5,GPT-4,4\n", "Response tokens is missing", 2, DO_BURSTGPT),
        (BURST_HEAD + ",GPT-4,4,4,8,a\n", "Timestamp is missing", 2, DO_BURSTGPT),
        (AZURE_HEAD + "yesterday,374,44\n", "TIMESTAMP is not a time", 2, DO_AZURE),
        (AZURE_HEAD + "2023-11-16 18:15:46.68,0,44\n", "ContextTokens must be at least 1", 2, DO_AZURE),
        (AZURE_HEAD + "2023-11-16 18:15:46.68,9,0\n", "GeneratedTokens must be at least 1", 2, DO_AZURE),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_with_its_line(read, content, what, where, do):
    with pytest.raises(UsageError) as error:
        read(content)
    assert error.value.what.startswith(f"wrong trace row: {what}")
    row = content.splitlines()[where - 1]
    assert error.value.seen.startswith(f"t.x, line {where}: ")
    assert row[:40] in error.value.seen
    assert do is None or error.value.do == do


@pytest.mark.parametrize(
    ("content", "options", "what", "seen", "do"),
    [
        ("", {}, "the trace is empty", "t.x: no rows", "check what was written to "),
        ("\n  \n", {}, "the trace is empty", "t.x: no rows", "check what was written to "),
        (BURST_HEAD, {}, "the trace is empty", "t.x: no requests", "check what was written to "),
        (BURST_HEAD + "5,GPT-4,4,0,4,a\n", {}, "the trace is empty",
         "t.x: no requests, 1 failed ones skipped", "check what was written to "),
        ('{"block_tokens": 9}\n', {}, "the trace is empty", "t.x: no requests", "check what was written to "),
        ("\n", {"format": "mooncake"}, "the trace is empty", "t.x: no requests", "check what was "),
        ("a,b\n1,2\n", {}, "the format of the trace is unknown", "t.x, line 1: 'a,b'",
         "name its format: mooncake, burstgpt, azure, inferforge; rows of ours are like {"),
        ('{"when": 5}\n', {}, "the format of the trace is unknown", "t.x, line 1: '{\"when\": 5}'",
         "name its format: "),
        ("[1, 2]\n", {}, "the format of the trace is unknown", "t.x, line 1: '[1, 2]'", "name its format: "),
        ("a\n", {"format": "azur"}, "unknown trace format", "azur", "did you mean azure?"),
        ("a\n", {"format": "x"}, "unknown trace format", "x", "known: mooncake, burstgpt, azure, inferforge"),
        ("TIMESTAMP,ContextTokens\n", {"format": "azure"}, "the file has no column GeneratedTokens",
         "t.x, line 1: 'TIMESTAMP,ContextTokens'", DO_AZURE),
        ("", {"format": "burstgpt"},
         "the file has no column Timestamp and no column Request tokens and no column Response tokens",
         "t.x, line 1: ''", DO_BURSTGPT),
        (json_lines(MOONCAKE).encode() + b"\xff\n", {}, "the file is not UTF-8 text", "t.x, line 2: ",
         "save the file as UTF-8"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_trace_says_what_is_known(read, content, options, what, seen, do):
    with pytest.raises(UsageError) as error:
        read(content, **options)
    assert error.value.what == what
    assert error.value.seen.startswith(seen)
    assert error.value.do.startswith(do)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError) as error:
        traces.read(tmp_path / "gone.jsonl")
    assert (error.value.what, error.value.seen) == ("trace: no such file", str(tmp_path / "gone.jsonl"))
    assert error.value.do


def test_a_named_format_is_taken_at_its_word(read):
    row = MOONCAKE | {"due_s": 1.0, "prompt_tokens": 3, "output_tokens": 2}
    assert read(json_lines(row), format="mooncake").prompt_tokens.tolist() == [6758]
    with pytest.raises(UsageError, match="unknown hash_ids, input_length, output_length, timestamp"):
        read(json_lines(row), format="inferforge")


def test_a_byte_order_mark_is_no_part_of_a_name(read):
    assert read("\ufeff" + json_lines(MOONCAKE)).format == "mooncake"
    assert read("\ufeff" + AZURE_HEAD + "2024-05-10 00:00:05,1,1\n").format == "azure"


def test_there_are_not_more_classes_than_fit(read):
    rows = [OWN | {"class": str(k)} for k in range(32_768)]
    assert len(read(json_lines(*rows[:-1])).class_name) == 32_767
    with pytest.raises(UsageError) as error:
        read(json_lines(*rows))
    assert error.value.what == "wrong trace row: more than 32,767 classes"
    assert error.value.seen.startswith("t.x, line 32768: ")
