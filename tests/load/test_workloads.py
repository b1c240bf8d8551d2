"""Conversations, classes, images and other shapes of load, as a server sees them."""

import base64
import json
import struct
import zlib

import numpy as np
import pytest

from pytest_inferforge.loadgen.bodies import Columns, RequestWriter
from pytest_inferforge.loadgen.planning import make_plan
from pytest_inferforge.testing.timetable import Timetable

TEMPLATE = 3  # tokens that the timetable server's chat costs


def bodies(drawn, target, url="http://h"):
    plan = make_plan(drawn, target(url), id_prefix="t", salt="s", connect_lead_s=0.05)
    columns, writer = Columns(plan.items), RequestWriter(plan, None)
    return [
        json.loads(
            writer.body(
                columns.cls[k], writer.opening(columns, k, columns.index[k]), columns.output_tokens[k]
            )
        )
        for k in range(len(columns))
    ]


@pytest.mark.parametrize("arrivals", ["poisson 20 req/s", "closed 4"])
def test_a_conversation_carries_its_history_and_waits_before_each_turn(arrivals, build, drive_timetable):
    drawn = build(
        arrivals=arrivals,
        requests=60,
        api="chat",
        turns=3,
        think_time="100 ms",
        prompt_tokens=10,
        output_tokens=4,
    )
    found, _ = drive_timetable(drawn, Timetable(ttft_s=0.02, gap_s=0.002))
    table = found.table
    assert table.request_counts().completed == 60
    assert table.counts["session"].max() == 19
    for session in range(20):
        turns = table.where(table.counts["session"] == session)
        assert turns.counts["turn"].tolist() == [0, 1, 2]
        # the prompt asked for; then each answer of four words, and ten new ones
        assert turns.counts["prompt_tokens"].tolist() == [10, 24, 38]
        waited_s = turns.times["due_s"][1:] - turns.times["end_s"][:-1]
        np.testing.assert_allclose(waited_s, 0.1, atol=1e-6)
        assert (turns.times["send_s"][1:] >= turns.times["due_s"][1:]).all()


def test_conversations_end_with_the_duration_and_after_a_failure(build, drive_timetable):
    drawn = build(arrivals="poisson 20 req/s", duration="2 s", api="chat", turns=50, think_time="50 ms")
    found, _ = drive_timetable(drawn, Timetable(ttft_s=0.02, gap_s=0.002))
    table = found.table
    assert table.request_counts().failed == 0
    assert np.nanmax(table.times["send_s"]) < 2.1
    assert table.counts["turn"].max() > 5
    broken = build(arrivals="poisson 50 req/s", requests=30, api="chat", turns=3)
    found, _ = drive_timetable(broken, Timetable(ttft_s=0.02, gap_s=0.002, faults={0: "http_500", 4: "cut"}))
    assert len(found.table) == 30 - 2 - 1  # the turns behind a failed one were never asked
    assert found.table.failures() == {"cut": 1, "http_500": 1}


def test_workers_share_conversations_whole(build, drive_timetable):
    drawn = build(arrivals="poisson 30 req/s", requests=60, api="chat", turns=3, think_time="20 ms")
    found, _ = drive_timetable(drawn, Timetable(ttft_s=0.02, gap_s=0.002), "2")
    assert found.table.request_counts().completed == 60
    assert len(found.workers) == 2


def test_open_and_closed_classes_run_beside_each_other(build, drive_timetable):
    drawn = build(
        duration="3 s",
        prompt_tokens=None,
        output_tokens=None,
        classes={
            "chat": {"arrivals": "poisson 30 req/s", "prompt_tokens": 8, "output_tokens": 4, "api": "chat"},
            "batch": {"arrivals": "closed 3", "prompt_tokens": 40, "output_tokens": 20},
        },
    )
    found, _ = drive_timetable(drawn, Timetable(ttft_s=0.02, gap_s=0.002))
    chat, batch = found.table.of_class("chat"), found.table.of_class("batch")
    assert len(chat) + len(batch) == len(found.table)
    assert 60 <= len(chat) <= 130
    assert not np.isnan(chat.times["due_s"]).any()
    assert np.isnan(batch.times["due_s"]).all()
    assert set(chat.counts["prompt_tokens"]) == {8 + 0}
    assert set(batch.counts["prompt_tokens"][batch.ok]) == {40}
    events = sorted([(s, 1) for s in batch.times["send_s"]] + [(e, -1) for e in batch.times["end_s"]])
    assert max(np.cumsum([step for _, step in events])) == 3


def test_shares_of_one_process_of_arrivals(build):
    drawn = build(
        arrivals="poisson 100 req/s",
        requests=4000,
        prompt_tokens=None,
        output_tokens=None,
        classes={
            "a": {"share": 0.75, "prompt_tokens": 8, "output_tokens": 4},
            "b": {"share": "25 %", "prompt_tokens": 80, "output_tokens": 40},
        },
    )
    share = (drawn.requests.cls == 1).mean()
    assert share == pytest.approx(0.25, abs=0.03)
    assert set(drawn.requests.prompt_tokens[drawn.requests.cls == 1]) == {80}
    assert drawn.workload.expected_of("b") == 1000


def test_a_burst_comes_at_once_and_users_arrive_over_a_ramp(build, drive_timetable):
    found, true = drive_timetable(build(arrivals="burst 40"), Timetable(ttft_s=0.2, gap_s=0.002))
    received = [t.received_s for t in true.values()]
    assert len(received) == 40
    assert max(received) - min(received) < 0.15
    drawn = build(arrivals="closed 10 ramp 1 s", duration="2 s")
    found, _ = drive_timetable(drawn, Timetable(ttft_s=5.0, gap_s=0.1))
    first_s = np.sort(found.table.times["send_s"])
    np.testing.assert_allclose(first_s, np.arange(10) * 0.1, atol=0.08)


def test_shared_prefixes_stand_before_what_is_unique(build, target):
    drawn = build(
        arrivals="poisson 9 req/s", requests=200, prompt_tokens=64, shared_prefix="3 x 40 tokens, 50 %"
    )
    texts = [body["prompt"].split() for body in bodies(drawn, target)]
    assert {len(text) for text in texts} == {64}
    beginnings = [" ".join(text[:41]) for text in texts]
    shared = {b for b in beginnings if beginnings.count(b) > 1}
    assert len(shared) == 3
    assert sum(b in shared for b in beginnings) == pytest.approx(100, abs=30)
    assert len({" ".join(text) for text in texts}) == 200


def test_images_are_real_pngs_and_no_two_are_equal(build, target):
    drawn = build(arrivals="poisson 9 req/s", requests=3, api="chat", images="2 x 50x33")
    urls = []
    for body in bodies(drawn, target):
        text, *images = body["messages"][0]["content"]
        assert text["type"] == "text"
        urls += [image["image_url"]["url"] for image in images]
    assert len(set(urls)) == 6
    for url in urls:
        data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height, *_ = struct.unpack(">IIBBBBB", data[16:29])
        assert (width, height) == (50, 33)
        at, pixels = 8, b""
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at : at + 8])
            content = data[at + 8 : at + 8 + size]
            assert zlib.crc32(kind + content) == struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0]
            pixels += content if kind == b"IDAT" else b""
            at += 12 + size
        assert len(zlib.decompress(pixels)) == 33 * 51


def test_prompts_come_from_a_file_in_a_drawn_order_and_again(build, target, tmp_path):
    (tmp_path / "p.jsonl").write_text(
        "".join(f'{{"prompt": "say {k}", "output_tokens": {k + 1}}}\n' for k in range(5))
    )
    drawn = build(
        folder=tmp_path, arrivals="poisson 9 req/s", requests=10, prompts="p.jsonl", prompt_tokens=None,
        output_tokens=None,
    )  # fmt: skip
    said = bodies(drawn, target)
    texts = [body["prompt"] for body in said]
    assert sorted(texts[:5]) == [f"say {k}" for k in range(5)]
    assert texts[5:] == texts[:5]
    assert all(body["max_tokens"] == int(body["prompt"].split()[1]) + 1 for body in said)


def test_a_conversation_of_a_file_is_said_turn_by_turn(build, drive_timetable, tmp_path):
    talk = {"conversations": [{"from": "human", "value": "one two"}, {"from": "gpt", "value": "x"},
                              {"from": "human", "value": "three"}]}  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps([talk]))
    drawn = build(
        folder=tmp_path, arrivals="poisson 9 req/s", requests=4, prompts="s.json", prompt_tokens=None,
        api="chat", turns=2, output_tokens=5,
    )  # fmt: skip
    found, _ = drive_timetable(drawn)
    assert found.table.counts["prompt_tokens"].tolist() == [2 + TEMPLATE, 2 + 5 + 1 + TEMPLATE] * 2


def test_conversations_have_as_many_turns_as_their_file_gives_them(build, tmp_path):
    (tmp_path / "c.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": f"u{k}"} for k in range(turns)]}) + "\n"
            for turns in (1, 2, 3)
        )
    )
    drawn = build(
        folder=tmp_path, arrivals="poisson 9 req/s", requests=12, prompts="c.jsonl", prompt_tokens=None,
        api="chat", turns="file",
    ).requests  # fmt: skip
    turns = np.bincount(drawn.session)
    assert sorted(turns.tolist()) == [1, 1, 2, 2, 3, 3]
    assert (turns[drawn.session] == drawn.text + 1).all()


def test_how_many_requests_conversations_make_is_known_before(build):
    drawn = build(arrivals="poisson 2 req/s", duration="100 s", api="chat", turns=4)
    assert drawn.workload.expected_requests == 800
    assert len(drawn.requests) == pytest.approx(800, abs=200)
