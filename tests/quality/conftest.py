"""Evaluations for real: lm-eval in its child process, against servers that do what a test needs."""

import contextlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_inferforge.quality.evaluating import evaluate, installed
from pytest_inferforge.quality.evaluation import Job, Target, Task

MISSING = "lm-eval is not installed: pip install 'pytest-inferforge[quality]'"


@pytest.fixture(autouse=True)
def _lm_eval_is_here():
    if not installed():
        pytest.skip(MISSING)


class Fake:
    """An OpenAI server of one completions route; `reply` says what to answer: (status, JSON or bytes).

    None in place of an answer: the connection is closed without one.
    """

    def __init__(self):
        self.asked = []
        self.reply = lambda _body: (200, written(""))
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake.lock:
                    fake.asked.append((self.path, body, dict(self.headers)))
                answer = fake.reply(body)
                if answer is None:
                    self.close_connection = True
                    return
                status, content = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def fake():
    server = Fake()
    with contextlib.closing(server):
        yield server


def written(text, finish="stop", tokens=3):
    return {
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens},
    }


def scored(body, logprob_of):
    """An echoed prompt in the shape of legacy completions; words with the space before them are tokens."""
    tokens = re.findall(r"\s?\w+|\s|[^\w\s]", body["prompt"])
    offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens) + 1)]
    logprobs = [None, *(logprob_of(body["prompt"], offsets[k]) for k in range(1, len(tokens)))]
    tops = [None, *({tokens[k]: logprobs[k], " never": -9.0} for k in range(1, len(tokens)))]
    answer = written(body["prompt"] + " x", "length", 1)
    answer["choices"][0]["logprobs"] = {
        "tokens": [*tokens, " x"],
        "token_logprobs": [*logprobs, -0.5],
        "top_logprobs": [*tops, {" x": -0.5}],
        "text_offset": offsets,
    }
    answer["usage"]["prompt_tokens"] = len(tokens)
    return answer


class Knowing:
    """A model that knows the answers: `answers` are (prompt, answer) pairs."""

    def __init__(self, answers):
        self.answers = dict(answers)

    def __call__(self, body):
        if not body.get("echo"):
            return 200, written(f" {self.answers[body['prompt']]}")
        return 200, scored(body, self.logprob)

    def logprob(self, text, offset):
        """What continues a known prompt with its answer is likely."""
        for prompt, answer in self.answers.items():
            if text == f"{prompt} {answer}" and offset >= len(prompt):
                return -0.1
        return -3.0


@pytest.fixture
def job(fake):
    """A function: a job against the fake server."""

    def make(*tasks, **settings):
        asked = {"limit": 20, "chat": False, "concurrency": 4, "seed": 4, "timeout_s": 10.0, "retries": 2}
        given = {"target": Target(url=fake.url, model="m", dialect="generic"), **asked, **settings}
        return Job(tasks=tuple(Task(name=t) if isinstance(t, str) else t for t in tasks), **given)

    return make


@pytest.fixture
def run(tmp_path):
    """A function: evaluate in a folder of the test's own."""

    def go(job, **arguments):
        return evaluate(job, folder=tmp_path / "evaluation", **arguments)

    return go


@pytest.fixture
def jsonl(tmp_path):
    """A function: the path of a file with these rows."""

    def write(name, rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


@pytest.fixture
def knowing():
    return Knowing


@pytest.fixture
def replies():
    """What the fake server can say: a written reply."""
    return written
