"""Evaluations of a server that is right, wrong, or broken: each is counted and explained."""

import json
import os
import signal
import threading
import time

import psutil
import pytest

from pytest_inferforge.errors import MeasuringError, UsageError
from pytest_inferforge.quality.evaluation import Target, Task
from pytest_inferforge.quality.packs import items

PACK = "forge_recall"


def pack_answers(pack=PACK, seed=4, n=20):
    return [(item.prompt, item.answer) for item in items(pack, seed=seed, n=n, split="test")]


def test_a_server_that_knows_is_right_and_items_keep_their_keys(fake, job, run, knowing):
    fake.reply = knowing(pack_answers())
    progress = []
    asked = job(PACK, f"{PACK}_choice", repeat=4)
    first = run(asked, on_progress=lambda done, total: progress.append((done, total)))
    written, chosen = first.tasks
    assert (written.task, written.metric, written.value, len(set(written.keys))) == (PACK, "acc", 1.0, 20)
    assert (chosen.task, chosen.value, chosen.tied, chosen.truncated) == (f"{PACK}_choice", 1.0, 0, 0)
    assert first.route == "echo"
    assert chosen.chance is not None
    assert 0 < chosen.chance < 1
    assert chosen.perplexity == pytest.approx(1.105, abs=0.001)  # exp(0.1)
    assert max(chosen.likelihoods[0]) > sorted(chosen.likelihoods[0])[-2]
    assert written.said[0].strip() == pack_answers()[0][1]
    assert len(written.clusters) == len(written.replies) == 20
    assert (written.repeat.n, written.repeat.flipped, written.repeat.changed) == (4, 0, 0)
    assert (chosen.repeat.n, chosen.repeat.changed) == (4, None)
    assert progress[0] == (0, 48)
    assert progress[-1] == (48, 48)
    assert first.observed[f"{PACK}_choice"] == {"tied,none": 0.0}
    assert (first.requests.failed, first.requests.retried, first.notes) == ({}, 0, ())
    assert set(first.requests.latency_s) == {"p50", "p90", "p99"}
    again = run(asked)
    assert [task.keys for task in again.tasks] == [task.keys for task in first.tasks]
    assert [task.identity for task in again.tasks] == [task.identity for task in first.tasks]


def test_a_chat_is_asked_with_messages_and_scores_no_given_text(fake, job, run):
    answers = dict(pack_answers())

    def reply(body):
        said = answers[body["messages"][-1]["content"]]
        message = {"role": "assistant", "content": f"{said}\nmore", "reasoning_content": "hm"}
        return 200, {"choices": [{"message": message, "finish_reason": "stop"}]}

    fake.reply = reply
    result = run(job(PACK, chat=True))
    assert result.tasks[0].value == 1.0
    assert result.tasks[0].identity["api"] == "chat"
    assert {path for path, _body, _headers in fake.asked} == {"/v1/chat/completions"}
    assert result.requests.prompt_tokens is None
    with pytest.raises(UsageError, match="has no log-likelihood"):
        run(job(f"{PACK}_choice", chat=True))


def test_only_reasoning_is_an_empty_reply(fake, job, run):
    message = {"role": "assistant", "content": None, "reasoning_content": "I think"}
    fake.reply = lambda _body: (200, {"choices": [{"message": message, "finish_reason": "length"}]})
    (result,) = run(job(PACK, chat=True)).tasks
    assert (result.value, result.truncated, result.unanswered) == (0.0, 20, 0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b"<html>"), "bad_json"),
        ((200, {"object": "nothing"}), "bad_json"),
        ((500, {"error": "broken"}), "http_500"),
        ((400, {"error": "too long"}), "http_400"),
    ],
)
def test_what_is_no_reply_is_never_scored(fake, job, run, answer, reason):
    fake.reply = lambda _body: answer
    result = run(job(PACK, limit=4, retries=0))
    (task,) = result.tasks
    assert (task.keys, task.scores, task.value, task.unanswered) == ((), (), None, 4)
    assert f"4 of 4 items unanswered ({reason}" in result.notes[0]
    assert sum(result.requests.failed.values()) == (
        4 if reason != "bad_json" or answer[1] == b"<html>" else 0
    )


def test_lost_connections_are_retried_and_without_retries_left_out(fake, job, run, knowing):
    right = knowing(pack_answers(n=60))
    count = iter(range(10_000))
    fake.reply = lambda body: None if next(count) % 20 == 7 else right(body)
    retried = run(job(PACK, limit=60))
    assert (retried.tasks[0].value, retried.tasks[0].unanswered) == (1.0, 0)
    assert retried.requests.retried == 3
    count = iter(range(10_000))
    lost = run(job(PACK, limit=60, retries=0))
    (task,) = lost.tasks
    assert (task.value, task.unanswered, len(task.keys)) == (1.0, 3, 57)
    assert lost.requests.failed == {"cut": 3}
    assert set(task.keys) < set(retried.tasks[0].keys)
    assert "3 of 60 items unanswered (cut" in lost.notes[0]


def test_cut_replies_are_counted_and_stop_sequences_cut_by_us(fake, job, run, knowing, replies):
    right = knowing(pack_answers())

    def reply(body):
        text = right.answers[body["prompt"]]
        return 200, replies(
            f" {text}\nand more" if body["prompt"].endswith("say :") else f" {text}", "length"
        )

    fake.reply = reply
    result = run(job(PACK))
    (task,) = result.tasks
    assert task.value == 1.0
    assert 0 < task.truncated <= 20
    assert any("cut at the most tokens allowed" in note for note in result.notes)
    assert not any("more" in said for said in task.said)


def test_a_server_without_prompt_logprobs_is_found_out(fake, job, run, replies):
    def ignores_echo(body):
        answer = replies(" x", "length", 1)
        if "logprobs" in body:
            answer["choices"][0]["logprobs"] = {
                "content": [
                    {"token": " x", "logprob": -1.0, "top_logprobs": [{"token": " x", "logprob": -1}]}
                ]
            }
        return 200, answer

    fake.reply = ignores_echo
    with pytest.raises(UsageError) as caught:
        run(job(f"{PACK}_choice"))
    assert "cannot score given texts" in caught.value.what
    assert "echo or logprobs is ignored" in caught.value.seen
    assert "forge_arithmetic instead of forge_arithmetic_choice" in caught.value.do
    fake.reply = lambda body: (
        (400, {"error": "no logprobs here"}) if "logprobs" in body else (200, replies(""))
    )
    with pytest.raises(UsageError, match="cannot score given texts"):
        run(job(f"{PACK}_choice"))


def test_ties_and_chance_are_told(fake, job, run, knowing):
    fake.reply = knowing([])  # every token is as likely as any other
    result = run(job("forge_grounded_choice"))
    (task,) = result.tasks
    assert task.tied > 0
    assert any("have no best choice" in note for note in result.notes)


def test_the_key_is_sent_and_stands_nowhere(fake, job, run, knowing, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_KEY", "sk-very-secret")
    fake.reply = knowing(pack_answers())
    target = Target(url=fake.url, model="m", dialect="generic", api_key_env="SECRET_KEY")
    result = run(job(PACK, limit=3, target=target))
    assert {headers["Authorization"] for _p, _b, headers in fake.asked} == {"Bearer sk-very-secret"}
    assert "sk-very-secret" not in str(result)
    for file in (tmp_path / "evaluation").iterdir():
        assert "sk-very-secret" not in file.read_text()


def test_a_refused_key_ends_it(fake, job, run):
    fake.reply = lambda _body: (401, {"error": "who are you"})
    with pytest.raises(MeasuringError, match="another key"):
        run(job(PACK))


def test_a_server_that_is_gone_ends_it(job, run):
    target = Target(url="http://127.0.0.1:9", model="m", dialect="generic")
    with pytest.raises(MeasuringError) as caught:
        run(job(PACK, target=target, limit=40, retries=0))
    assert "refused" in caught.value.seen


def test_unknown_names_are_answered_with_near_ones(fake, job, run):
    with pytest.raises(UsageError) as caught:
        run(job("forge_recal"))
    assert "forge_recall" in caught.value.do
    with pytest.raises(UsageError, match="no such form"):
        run(job("forge_instructions_choice"))
    with pytest.raises(UsageError) as caught:
        run(job(Task(name=PACK, metric="bleu"), limit=2))
    assert (caught.value.seen, caught.value.do) == ("bleu", "it has: acc")
    with pytest.raises(UsageError, match="no such filter"):
        run(job(Task(name=PACK, filter="loose"), limit=2))
    assert fake.asked == []


def test_a_child_that_dies_is_an_error_and_nothing_is_left(fake, job, run):
    stuck = threading.Event()
    fake.reply = lambda _body: stuck.wait(20) and None

    def kill():
        for _ in range(200):
            time.sleep(0.1)
            if fake.asked:
                break
        for child in psutil.Process().children(recursive=True):
            if "pytest_inferforge.quality.lm_eval_child" in child.cmdline():
                os.kill(child.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(MeasuringError, match="ended with code -9 without a result"):
        run(job(PACK))
    thread.join()
    stuck.set()
    assert not [c for c in psutil.Process().children(recursive=True) if "lm_eval_child" in str(c.cmdline())]


def test_an_interrupt_leaves_nothing(fake, job, run, knowing):
    fake.reply = knowing(pack_answers())

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job(PACK), on_progress=interrupt)
    assert not [c for c in psutil.Process().children(recursive=True) if "lm_eval_child" in str(c.cmdline())]


def test_the_log_of_an_evaluation_is_quiet(fake, job, run, knowing, tmp_path):
    fake.reply = knowing(pack_answers())
    run(job(PACK, limit=2))
    assert (tmp_path / "evaluation" / "lm-eval.log").read_text() == ""
    assert json.loads((tmp_path / "evaluation" / "job.json").read_bytes())["seed"] == 4


def test_every_request_is_kept_with_its_item(fake, job, run, knowing, tmp_path):
    fake.reply = knowing(pack_answers())
    found = run(job(PACK, f"{PACK}_choice", limit=5))
    (path,) = tmp_path.rglob("requests.jsonl")
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(kept) == found.requests.asked
    assert {asked["item"] for asked in kept} == {
        f"{leaf}/{place}" for leaf in (f"{PACK}_generate", f"{PACK}_choice") for place in range(5)
    }
    assert all(asked["latency_s"] > 0 and asked["attempts"] == 1 for asked in kept)
    assert not any("key" in asked or "prompt" in asked for asked in kept)
