"""A small OpenAI-compatible server that plays a model by a script, as a process of its own.

The script is JSON: `models` as /v1/models lists them; `answers`, pairs of a pattern and what is said to a last
message in which it is found, endless if it is "…"; `key`, `busy`, `refuses` (fields), `tokenizes`; `deltas` that
come before each answer; `reasons` ("switched" or "always") without an end before it answers. /seen tells what happened.
"""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from app.paths import ROOT
from tests.waiting import wait_for

ENDLESS = "…"


class FarServer:
    """A running one, seen from a test."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}/v1"

    def seen(self) -> dict[str, Any]:
        """`bodies` of the chat requests, `open` streams, `broken` ones that the other side closed."""
        return httpx.get(self.url.removesuffix("/v1") + "/seen").json()

    def until(self, **wanted: int) -> None:
        """Wait until it has seen that."""
        wait_for(lambda: self.seen().items() >= wanted.items())


@contextmanager
def far_server(**script: object) -> Iterator[FarServer]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.far_server", json.dumps(script)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield FarServer(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: dict[str, Any] = {}  # noqa: RUF012
    seen: dict[str, Any] = {"bodies": [], "open": 0, "broken": 0}  # noqa: RUF012
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self.path == "/seen":
            return self.send(200, self.seen)
        if not self.allowed():
            return None
        return self.send(200, {"object": "list", "data": self.script.get("models", [{"id": "far-model"}])})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return None
        if self.path == "/tokenize":
            words = sum(len(turn["content"].split()) for turn in body["messages"])
            return self.send(200, {"count": words}) if self.script.get("tokenizes") else self.send(404, {})
        if self.path != "/v1/chat/completions":
            return self.send(404, {})
        return self.chat(body)

    def allowed(self) -> bool:
        key = self.script.get("key")
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.send(401, {"error": {"message": "Incorrect API key provided"}})
            return False
        return True

    def chat(self, body: dict[str, Any]) -> None:
        with self.lock:
            self.seen["bodies"].append(body)
        if self.script.get("busy"):
            return self.send(503, {"error": {"message": "overloaded"}})
        refused = [field for field in self.script.get("refuses", ()) if field in body]
        if refused:
            return self.send(400, {"error": {"message": f"Unexpected fields: {refused}"}})
        if body["model"] not in [m["id"] for m in self.script.get("models", [{"id": "far-model"}])]:
            return self.send(404, {"error": {"message": "no such model"}})
        said = words(body["messages"][-1]["content"])
        pairs = [*self.script.get("answers", ()), ["", f"You said: {said}"]]
        answer = next(text for pattern, text in pairs if re.search(pattern, said))
        return self.stream(answer, body)

    def stream(self, answer: str, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with self.lock:
            self.seen["open"] += 1
        try:
            self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
            switch = (body.get("chat_template_kwargs") or {}).get("enable_thinking")
            while self.script.get("reasons", "no") == "always" or ("reasons" in self.script and switch is not False):
                self.event({"choices": [{"delta": {"reasoning_content": "so "}}]})
                time.sleep(0.002)
            for delta in self.script.get("deltas", ()):
                self.event({"choices": [{"delta": delta}]})
            for piece in re.findall(r".{1,5}", answer, re.DOTALL):
                while answer == ENDLESS:
                    self.event({"choices": [{"delta": {"content": "more "}}]})
                    time.sleep(0.02)
                self.event({"choices": [{"delta": {"content": piece}}]})
            if body["messages"][-1]["content"] != "break off":
                self.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
                if (body.get("stream_options") or {}).get("include_usage"):
                    self.event({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}})
                self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            with self.lock:
                self.seen["broken"] += 1
        finally:
            self.close_connection = True
            with self.lock:
                self.seen["open"] -= 1

    def event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def words(content: Any) -> str:
    """What a message says, beside what it shows."""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


def main() -> None:
    Handler.script = json.loads(sys.argv[1])
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
