"""Soak test of a server: visitors, uploads, streams left alone and bad input, while memory and descriptors are watched.

make bench NAME=soak ARGS="--visitors 50 --minutes 30"     starts a server of its own
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.measure import line, machine, percentile

LOOK_S = 30.0
AFTER_S = 60.0
NAME = "smollm2-135m"


@dataclass
class Told:
    """What the visitors saw: statuses by kind of request, and seconds."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: int | str, seconds: float) -> None:
        with self.lock:
            self.statuses[f"{kind} {status}"] += 1
            self.seconds.append(seconds)


def endpoint(client: httpx.Client, name: str, data: list[Any], *, read: bool = True) -> int:
    sent = client.post(f"/gradio_api/call/{name}", json={"data": data})
    if sent.status_code == 200 and read:
        client.get(f"/gradio_api/call/{name}/{sent.json()['event_id']}")
    return sent.status_code


def completion(client: httpx.Client) -> int:
    asked = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    return client.post("/v1/chat/completions", json=asked).status_code


def left_alone(client: httpx.Client) -> int:
    """A stream that is closed without a word."""
    asked = {"model": NAME, "messages": [{"role": "user", "content": "A story"}], "max_tokens": 200, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        next(answer.iter_bytes(), b"")
        return answer.status_code


def documents(client: httpx.Client) -> int:
    text = f"# Note {random.random()}\n\nThe moon pulls the sea.\n".encode()
    paths = client.post("/gradio_api/upload", files={"files": ("note.md", text)}).json()
    file = {"path": paths[0], "orig_name": "note.md", "meta": {"_type": "gradio.FileData"}}
    endpoint(client, "index", ["mine", [file]])
    return endpoint(client, "search", ["mine", "moon", 3])


def page(client: httpx.Client) -> int:
    return client.get("/").status_code


def nonsense(client: httpx.Client) -> int:
    body = random.choice([{"data": [], "fn_index": 99_999, "session_hash": "x"}, [], {"data": "x"}, "half"])
    return client.post("/gradio_api/queue/join", json=body).status_code


KINDS: list[Callable[[httpx.Client], int]] = [completion, left_alone, documents, page, nonsense]


def visit(address: str, until: float, told: Told) -> None:
    """One visitor after another, each with a token of its own, until the time is over."""
    while time.monotonic() < until:
        token = {"x-studio-visitor": f"{random.getrandbits(160):040x}"}
        with httpx.Client(base_url=address, headers=token, timeout=300) as client:
            for kind in random.sample(KINDS, len(KINDS)):
                began = time.monotonic()
                try:
                    status: int | str = kind(client)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                told.note(kind.__name__, status, time.monotonic() - began)


def held(server: psutil.Process) -> dict[str, int]:
    """Memory in MiB, descriptors and threads of the server with its children."""
    family = [server, *server.children(recursive=True)]
    memory = sum(one.memory_info().rss for one in family if one.is_running())
    return {"mib": memory >> 20, "descriptors": server.num_fds(), "threads": server.num_threads()}


def soak(visitors: int, minutes: float, data: Path) -> None:
    """Start a server, let them come, and tell what it holds every 30 s, at the end and a minute later."""
    flags = ["--port", "0", "--data", str(data), "--requests-at-once", "100"]
    process = psutil.Popen([sys.executable, "run_gradio.py", *flags], stdout=subprocess.PIPE, text=True)
    try:
        ready = next((found for row in process.stdout if (found := re.match(r"\S+ (http://\S+)", row))), None)
        assert ready is not None, "the server did not start"
        threading.Thread(target=process.stdout.read, daemon=True).start()
        with httpx.Client(base_url=ready[1], timeout=300) as first:
            for kind in KINDS:
                kind(first)
        told, start = Told(), held(process)
        line(**machine(), visitors=visitors, minutes=minutes, **start)
        until = time.monotonic() + 60 * minutes
        running = [threading.Thread(target=visit, args=(ready[1], until, told)) for _ in range(visitors)]
        for one in running:
            one.start()
        seen = []
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_S, left))
            seen.append(held(process))
            line(left_s=until - time.monotonic(), **seen[-1])
        for one in running:
            one.join()
        time.sleep(AFTER_S)
        middle, last, after = seen[len(seen) // 2], seen[-1], held(process)
        line(
            second_half_growth=last["mib"] / middle["mib"] - 1, after_to_start=after["mib"] / start["mib"] - 1, **after
        )
        line(requests=len(told.seconds), median_s=percentile(told.seconds, 0.5), p95_s=percentile(told.seconds, 0.95))
        line(**dict(sorted(told.statuses.items())))
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--visitors", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--data", type=Path, help="data folder (default: an empty one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        soak(options.visitors, options.minutes, options.data or Path(empty))


if __name__ == "__main__":
    main()
