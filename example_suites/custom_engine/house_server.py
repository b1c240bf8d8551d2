"""A small server that speaks the OpenAI protocol, with the standard library alone. Yours takes its place.

    python house_server.py --port 8080 --slots 4

It says words of a list in their order, as many as `max_tokens` asks for: the same request gets the same
answer. A word is a token. A request waits for a free slot, then until its prompt was read, then gets a word
every few milliseconds.
"""

import argparse
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "1.0"
MODEL = "house-words"
WORDS = ("the", "old", "house", "by", "the", "river", "has", "one", "red", "door", "and", "two", "windows")
READ_S = 0.0001  # for each word of a prompt
USUAL_TOKENS = 16  # of an answer whose length nobody asks for


class House(ThreadingHTTPServer):
    """A thread for each connection; `slots` of them answer at a time, with a word every `gap_s`."""

    daemon_threads = True
    request_queue_size = 128  # connections that may wait to be taken in

    def __init__(self, port: int, *, slots: int, gap_s: float) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.slots = threading.Semaphore(slots)
        self.gap_s = gap_s


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection, one after the other."""

    server: House
    protocol_version = "HTTP/1.1"  # the connection stays for the next request
    disable_nagle_algorithm = True  # each word leaves at once

    def do_GET(self) -> None:
        answers: dict[str, object] = {
            "/health": {"status": "ok"},
            "/version": {"version": VERSION},
            "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "house"}]},
        }
        known = self.path in answers
        self.reply(200 if known else 404, answers[self.path] if known else {"error": "no such page"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path not in ("/v1/completions", "/v1/chat/completions"):
            self.reply(404, {"error": "no such page"})
            return
        chat = self.path == "/v1/chat/completions"
        prompt = " ".join(said["content"] for said in asked["messages"]) if chat else asked["prompt"]
        prompt_tokens = len(prompt.split())
        tokens = asked.get("max_tokens") or asked.get("max_completion_tokens") or USUAL_TOKENS
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        }
        with self.server.slots, contextlib.suppress(ConnectionError):  # the client may have gone
            time.sleep(prompt_tokens * READ_S)
            if asked.get("stream"):
                self.stream(chat, tokens, usage if asked.get("stream_options") else None)
            else:
                said = " ".join(self.words(tokens))
                choice = {"message": {"role": "assistant", "content": said}} if chat else {"text": said}
                self.reply(200, {"model": MODEL, "choices": [last(choice)], "usage": usage})

    def words(self, tokens: int) -> Iterator[str]:
        """That many words, each when it is due."""
        for word in itertools.islice(itertools.cycle(WORDS), tokens):
            yield word
            time.sleep(self.server.gap_s)

    def stream(self, chat: bool, tokens: int, usage: dict[str, int] | None) -> None:
        """Server-sent events: one for each word, one with the usage where it was asked for, and the end."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, word in enumerate(self.words(tokens), start=1):
            said = f"{word} "
            choice = {"delta": {"content": said}} if chat else {"text": said}
            event = {"model": MODEL, "choices": [last(choice) if number == tokens else choice]}
            self.write_event(json.dumps(event))
        if usage is not None:
            self.write_event(json.dumps({"model": MODEL, "choices": [], "usage": usage}))
        self.write_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def write_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def reply(self, status: int, content: object) -> None:
        """A whole answer of JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not a line for each request."""


def last(choice: dict[str, object]) -> dict[str, object]:
    """The choice, as it says that the answer has the length asked for."""
    return {**choice, "index": 0, "finish_reason": "length"}


def main() -> None:
    parser = argparse.ArgumentParser(description="A small OpenAI-style server.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=4, help="answers at a time")
    parser.add_argument("--gap-ms", type=float, default=2.0, help="from word to word")
    option = parser.parse_args()
    with House(option.port, slots=option.slots, gap_s=option.gap_ms / 1000) as house:
        house.serve_forever()


if __name__ == "__main__":
    main()
