"""Stored JSON: what is written is read back, and nothing else is read."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_inferforge import codec
from pytest_inferforge.errors import BaselineError
from pytest_inferforge.records import (
    BootResult,
    Fingerprint,
    RequestCounts,
    RequestRecord,
    RequestStatus,
    RunVerdict,
    SessionResult,
    TestResult,
)

BOOT = BootResult(
    boot=1,
    ready_s=None,
    requests=RequestCounts(issued=3, completed=2, failed=1, cancelled=0),
    metrics={"ttft_s.p99": math.inf, "ttft_s.mean": 0.1 + 0.2},
    verdict=RunVerdict.INVALID,
    reasons=("schedule lag p99 3 ms",),
)
SESSION = SessionResult(
    schema=1,
    id="20260101-0300-ab12",
    started_at="2026-01-01T03:00:00Z",
    version="0.1.0",
    seed=7,
    fingerprint=Fingerprint(hard={"cpu_model": "A"}),
    planned_boots=1,
    complete=True,
    accepted=True,
    tests=(
        TestResult(
            nodeid="t.py::test_a[x]",
            fingerprint=Fingerprint(hard={"workload": "w"}),
            gated=("ttft_s.mean",),
            boots=(BOOT,),
            workload={"arrivals": "closed 4", "stages": [1, {"rate": 2.5}], "note": None},
        ),
    ),
    source={"commit": "abc", "dirty": "false"},
)


def changed(change):
    """The session's JSON with something else in it."""
    content = json.loads(codec.encode_session(SESSION))
    change(content)
    return json.dumps(content).encode()


def test_a_session_is_read_back_as_it_was_written():
    assert codec.decode_session(codec.encode_session(SESSION), where="a.json") == SESSION


def test_files_are_diffable_json_with_nothing_that_json_has_not():
    text = codec.encode_session(SESSION).decode()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert text.endswith("}\n")
    assert '\n "accepted": true,\n "complete": true,\n' in text
    assert list(content) == sorted(content)
    assert content["tests"][0]["boots"][0]["metrics"] == {"ttft_s.mean": 0.1 + 0.2, "ttft_s.p99": "inf"}


@settings(max_examples=50, deadline=None)
@given(values=st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False), max_size=5))
def test_every_number_comes_back_exactly(values):
    values = {k: v for k, v in values.items() if v != -math.inf}
    boot = BootResult(boot=1, ready_s=1.5, requests=BOOT.requests, metrics=values)
    test = TestResult(nodeid="t", fingerprint=Fingerprint(), gated=(), boots=(boot,))
    session = SessionResult(**{**{f: getattr(SESSION, f) for f in SESSION.__slots__}, "tests": (test,)})
    assert codec.decode_session(codec.encode_session(session), where="a.json") == session


def test_what_is_not_measured_is_absent_not_nan():
    boot = BootResult(boot=1, ready_s=None, requests=BOOT.requests, metrics={"ttft_s.mean": math.nan})
    test = TestResult(nodeid="t", fingerprint=Fingerprint(), gated=(), boots=(boot,))
    session = SessionResult(**{**{f: getattr(SESSION, f) for f in SESSION.__slots__}, "tests": (test,)})
    with pytest.raises(ValueError, match=r"\$\.tests\[0\]\.boots\[0\]\.metrics\.ttft_s\.mean is NaN"):
        codec.encode_session(session)


def test_a_file_from_before_a_field_was_added_is_read():
    content = json.loads(codec.encode_session(SESSION))
    for boot in (boot for test in content["tests"] for boot in test["boots"]):
        del boot["tails"], boot["position"]
    assert codec.decode_session(json.dumps(content).encode(), where="x") == SESSION


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda c: c.update(colour="red"), "unknown field - at `$.colour`"),
        (lambda c: c["tests"][0]["boots"][0].update(luck=1), "unknown field - at `$.tests[0].boots[0].luck`"),
        (lambda c: c.pop("seed"), "seed"),
        (lambda c: c.pop("tests"), "missing required field `tests`"),
        (
            lambda c: c["tests"][0]["boots"][0].pop("requests"),
            "missing required field `requests`",
        ),
        (lambda c: c.update(seed="7"), "Expected `int`, got `str` - at `$.seed`"),
        (lambda c: c["tests"][0]["boots"][0].update(verdict="fine"), "at `$.tests[0].boots[0].verdict`"),
        (
            lambda c: c["tests"][0]["boots"][0]["metrics"].update(x="1"),
            "at `$.tests[0].boots[0].metrics[...]`",
        ),
        (lambda c: c["tests"][0]["boots"][0].update(ready_s="inf"), "at `$.tests[0].boots[0].ready_s`"),
        (lambda c: c.update(started_at="yesterday"), "yesterday"),
        (lambda c: c.update(tests=3), "at `$.tests`"),
        (lambda c: c.update(schema=2), "schema 2, this version reads 1"),
        (lambda c: c.pop("schema"), "it has no schema"),
    ],
)
def test_a_foreign_file_is_named_with_the_place(change, seen):
    with pytest.raises(BaselineError) as error:
        codec.decode_session(changed(change), where="main/s1.json")
    assert "main/s1.json" in error.value.what
    assert seen in error.value.seen
    assert error.value.do


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b'{"schema": 1, "tests": [1]}']
)
def test_what_is_no_session_is_an_error(data):
    with pytest.raises(BaselineError, match=r"a\.json"):
        codec.decode_session(data, where="a.json")


def test_a_request_is_one_line():
    record = RequestRecord(
        index=3, id="r3", status=RequestStatus.FAILED, reason="http_500", detail="line\nbreak",
        prompt_tokens_asked=1, output_tokens_asked=2, chunk_s=(0.1, 0.2),
    )  # fmt: skip
    line = codec.encode_row(record)
    assert b"\n" not in line
    assert codec.decode_row(line, where="rows") == record
    with pytest.raises(BaselineError, match="rows, line 4"):
        codec.decode_row(b"{}", where="rows, line 4")
