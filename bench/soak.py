"""Soak test of a public server: what it holds while visitors chat, upload, leave streams alone and send bad input.

make bench NAME=soak ARGS="--visitors 50 --minutes 30"     starts a server of its own; the last line is the verdict
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.errors import Unexpected
from app.models.backends.llama_cpp.launch import SLOTS
from bench.measure import line, machine, percentile

LOOK_S = 30.0
AFTER_S = 60.0
NAME = "smollm2-135m"
METRICS_KEY = "soak"
TOKEN = "x-studio-visitor"
INTERNAL = Unexpected().text("en")
BEAT_S = 2.0  # how long a page stays open
ALONE = 3  # times that each request is tried before anybody else comes, each time with its prompt to be read anew
SLOWER = 2.0  # times its fair share: what it takes alone, for each visitor who waited meanwhile
UNNOTICED_S = 1.0  # an answer that comes so soon is not late
SECOND_HALF = 0.05  # growth of memory, descriptors and threads over the second half
AFTERWARDS = 0.1  # memory that may still be held a minute after the last visitor, over the start


@dataclass(frozen=True)
class Request:
    """What a visitor asked for and waited for, with the clock at both ends."""

    visitor: str
    kind: str
    status: int | str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Told:
    """What the visitors saw."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def ask(self, kind: Callable[[httpx.Client], int], client: httpx.Client) -> None:
        began = time.monotonic()
        try:
            status: int | str = kind(client)
        except httpx.HTTPError as error:
            status = type(error).__name__
        visitor = client.headers[TOKEN]
        self.requests.append(Request(visitor, kind.__name__, status, began, time.monotonic()))

    def statuses(self) -> Counter[str]:
        return Counter(f"{one.kind} {one.status}" for one in self.requests)

    def answered(self) -> dict[str, list[Request]]:
        """By kind, what had a right answer."""
        return {kind: [one for one in self.requests if (one.kind, one.status) == (kind, 200)] for kind in ANSWERED}

    def waiting_during(self, request: Request) -> float:
        """How many visitors waited for an answer meanwhile, at the mean."""
        others = (one for one in self.requests if one.kind != page.__name__)
        shared = sum(max(0.0, min(one.ended, request.ended) - max(one.began, request.began)) for one in others)
        return max(1.0, shared / request.seconds)

    def share_s(self, request: Request, alone_s: float) -> float:
        """Seconds of its fair share: what it takes alone, for each visitor who waited meanwhile."""
        return max(UNNOTICED_S / SLOWER, alone_s * self.waiting_during(request))


def endpoint(client: httpx.Client, name: str, data: list[Any], *, read: bool = True) -> int:
    """The status that a route would have answered: an endpoint tells a refusal as an event."""
    sent = client.post(f"/gradio_api/call/{name}", json={"data": data})
    if sent.status_code == 200 and read:
        told = client.get(f"/gradio_api/call/{name}/{sent.json()['event_id']}").text
        return 200 if "event: complete" in told else 500 if INTERNAL in told else 422
    return sent.status_code


def completion(client: httpx.Client) -> int:
    asked = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    return client.post("/v1/chat/completions", json=asked).status_code


STORY = {"model": NAME, "messages": [{"role": "user", "content": "A story"}], "max_tokens": 200, "stream": True}


def long_answer(client: httpx.Client) -> int:
    """A long stream, read to its end."""
    with client.stream("POST", "/v1/chat/completions", json=STORY) as answer:
        return answer.status_code if "data: [DONE]" in list(answer.iter_lines()) else 500


def left_alone(client: httpx.Client) -> int:
    """A long stream that is left after its first word."""
    with client.stream("POST", "/v1/chat/completions", json=STORY) as answer:
        next((row for row in answer.iter_lines() if row.startswith("data")), "")  # no comment that keeps it open
        return answer.status_code


def chat(client: httpx.Client) -> int:
    return endpoint(client, "chat", ["What is the sea?", None, NAME, None, 0.7, None, 16, None])


def not_fetched(client: httpx.Client) -> int:
    """An answer that nobody fetches."""
    return endpoint(client, "chat", ["What is the moon?", None, NAME, None, 0.7, None, 16, None], read=False)


def agent(client: httpx.Client) -> int:
    return endpoint(client, "agent", ["What is 2 to the power of 10?", NAME, 1, "", False])


def documents(client: httpx.Client) -> int:
    text = f"# Note {random.random()}\n\nThe moon pulls the sea.\n".encode()
    paths = client.post("/gradio_api/upload", files={"files": ("note.md", text)}).json()
    file = {"path": paths[0], "orig_name": "note.md", "meta": {"_type": "gradio.FileData"}}
    return max(endpoint(client, "index", ["mine", [file]]), endpoint(client, "search", ["mine", "moon", 3]))


def page(client: httpx.Client) -> int:
    """A page that is opened, used by number, and closed without a word."""
    status = client.get("/").status_code
    session = f"{random.getrandbits(40):010x}"
    with client.stream("GET", f"/gradio_api/heartbeat/{session}") as beat:
        until = time.monotonic() + BEAT_S
        body = {"fn_index": 0, "data": [None] * 20, "session_hash": session}
        client.post("/gradio_api/queue/join", json=body)
        for _ in beat.iter_bytes():
            if time.monotonic() > until:
                break
            time.sleep(0.1)
    return status


def nonsense(client: httpx.Client) -> int:
    body = random.choice([{"data": [], "fn_index": 99_999, "session_hash": "x"}, [], {"data": "x"}, "half"])
    return client.post("/gradio_api/queue/join", json=body).status_code


KINDS: list[Callable[[httpx.Client], int]] = [
    *(completion, long_answer, left_alone, chat, not_fetched, agent, documents, page, nonsense),
]


ANSWERED = [kind.__name__ for kind in KINDS if kind not in (page, nonsense)]  # what has a right answer
# What has no end to wait for: it is told how long they took to begin, and no share is due
BEGUN = [left_alone.__name__, not_fetched.__name__]


def visitor_headers() -> dict[str, str]:
    """A token and an address of its own, as behind a proxy."""
    address = ".".join(str(random.randint(1, 250)) for _ in range(3))
    return {TOKEN: f"{random.getrandbits(160):040x}", "x-forwarded-for": f"8.{address}"}


def visit(address: str, until: float, told: Told) -> None:
    """One visitor after another until the time is over."""
    while time.monotonic() < until:
        with httpx.Client(base_url=address, headers=visitor_headers(), timeout=300) as client:
            for kind in random.sample(KINDS, len(KINDS)):
                if time.monotonic() > until:
                    break
                told.ask(kind, client)


def held(server: psutil.Process, address: str) -> dict[str, Any]:
    """Memory in MiB of the server and of its children, its descriptors, threads and sessions."""
    children = server.children(recursive=True)
    asked = {"authorization": f"Bearer {METRICS_KEY}"}
    metrics = httpx.get(f"{address}/metrics", headers=asked, timeout=60).text
    sessions = re.search(r"^studio_sessions (\d+)", metrics, re.MULTILINE)
    return {
        "mib": server.memory_info().rss >> 20,
        "children": len(children),
        "children_mib": sum(_own_memory(one) for one in children) >> 20,
        "descriptors": server.num_fds(),
        "open": open_kinds(server.pid),
        "threads": server.num_threads(),
        "sessions": int(sessions[1]) if sessions else None,
    }


def open_kinds(pid: int) -> dict[str, int]:
    """Descriptors by what they are open on: sockets, pipes, files by the end of their name."""
    targets = []
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(FileNotFoundError):
            targets.append(str(descriptor.readlink()))
    return dict(Counter(re.sub(r":.*|.*/", "", target)[-20:] for target in targets).most_common(8))


def _own_memory(child: psutil.Process) -> int:
    """Forked children share most of what they hold: each page counts once."""
    try:
        return int(child.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


def soak(visitors: int, minutes: float, data: Path) -> bool:
    """Start a server, let them come, tell what it holds every 30 s, at the end and a minute later; whether all held."""
    flags = ["--public", "--port", "0", "--data", str(data), "--metrics-key", METRICS_KEY]
    process = psutil.Popen([sys.executable, "run_gradio.py", *flags], stdout=subprocess.PIPE, text=True)
    try:
        ready = next((found for row in process.stdout if (found := re.match(r"\S+ (http://\S+)", row))), None)
        assert ready is not None, "the server did not start"
        address = ready[1]
        threading.Thread(target=process.stdout.read, daemon=True).start()
        alone_s, told, start = _alone(address), Told(), held(process, address)
        line(**machine(), visitors=visitors, minutes=minutes, **start)
        seen = _watched(process, address, visitors, minutes, told)
        time.sleep(AFTER_S)
        reached = _reached(start, seen, held(process, address)) | _in_time(told, alone_s)
    finally:
        process.terminate()
        process.wait()
    statuses = told.statuses()
    line(**dict(sorted(statuses.items())))
    reached["no_500"] = not any(status.endswith(" 500") for status in statuses)
    line(bench="soak", reached=reached, ratio=sum(reached.values()) / len(reached), of="goals reached")
    return all(reached.values())


def _reached(start: dict[str, Any], seen: list[dict[str, Any]], after: dict[str, Any]) -> dict[str, bool]:
    """What was held, and whether it stayed flat: by the highest of each half, since what is bounded rises and falls."""
    reached, half = {}, len(seen) // 2
    for name in ("memory", "descriptors", "threads"):
        first, left = _amount(start, name), _amount(after, name)
        highest = [max(_amount(at, name) for at in part) for part in (seen[:half], seen[half:])]
        growth = highest[1] / highest[0] - 1
        line(what=name, start=first, highest_of_each_half=highest, a_minute_later=left, growth=growth)
        reached[f"{name}_flat"] = growth <= SECOND_HALF
    reached["memory_given_back"] = _amount(after, "memory") <= _amount(start, "memory") * (1 + AFTERWARDS)
    line(open_at_the_end=seen[-1]["open"], a_minute_later=after["open"])
    return reached


def _in_time(told: Told, alone_s: dict[str, float]) -> dict[str, bool]:
    """How long each kind of request took, and whether every visitor's answers, taken together, came within their share.

    Together, because an answer that got longer than foreseen comes early, and the visitor's next ones pay for it.
    """
    answered, took, due = told.answered(), Counter[str](), Counter[str]()
    for kind in ANSWERED:
        requests = answered[kind]
        shares = [told.share_s(one, alone_s[kind]) for one in requests]
        late = [one.seconds / share for one, share in zip(requests, shares, strict=True)]
        if kind not in BEGUN:
            for one, share in zip(requests, shares, strict=True):
                took[one.visitor] += one.seconds
                due[one.visitor] += share
        _line_of(kind, told, alone_s[kind], requests, late)
    late = [took[visitor] / due[visitor] for visitor in due]
    unanswered = sum(_unanswered(told, kind) for kind in ANSWERED)
    within = sum(one <= SLOWER for one in late)
    line(
        what="answers of a visitor", visitors=len(late), most_of_their_share=max(late), within_twice_their_share=within
    )
    return {"everybody_in_time": within == len(late), "all_answered": unanswered == 0}


def _line_of(kind: str, told: Told, alone_s: float, requests: list[Request], late: list[float]) -> None:
    seconds = [one.seconds for one in requests]
    lost = _unanswered(told, kind)
    line(
        kind=kind,
        answers=len(requests),
        never_answered=lost,
        alone_s=alone_s,
        median_s=percentile(seconds, 0.5) if seconds else None,
        slowest_s=max(seconds, default=None),
        median_of_its_share=percentile(late, 0.5) if late else None,
        most_of_its_share=max(late, default=None),
        within_twice_its_share=sum(one <= SLOWER for one in late) / max(1, len(late) + lost),
    )


def _unanswered(told: Told, kind: str) -> int:
    """How many of the kind ended with their connection."""
    return sum(one.kind == kind and isinstance(one.status, str) for one in told.requests)


def _alone(address: str) -> dict[str, float]:
    """Seconds of each kind of request while nobody else is there, at the median; the first time warms up."""
    with httpx.Client(base_url=address, headers=visitor_headers(), timeout=300) as first:
        for kind in KINDS:
            kind(first)
        told = Told()
        for kind in KINDS * ALONE:
            if kind in (completion, long_answer, left_alone, chat, agent):
                _other_prompts(address)
            told.ask(kind, first)
    refused = [kind for kind, asked in told.answered().items() if len(asked) < ALONE]
    assert not refused, (refused, told.statuses())
    return {kind: percentile([one.seconds for one in asked], 0.5) for kind, asked in told.answered().items()}


def _other_prompts(address: str) -> None:
    """Fill what the engine remembers of prompts with others, as a crowd does."""

    def ask(_: int) -> None:
        note = " ".join(f"{random.getrandbits(32):x}" for _ in range(6))
        asked = {"model": NAME, "messages": [{"role": "system", "content": note}], "max_tokens": 1}
        httpx.post(f"{address}/v1/chat/completions", json=asked, headers=visitor_headers(), timeout=300)

    with ThreadPoolExecutor(SLOTS) as others:
        list(others.map(ask, range(SLOTS)))


def _watched(process: psutil.Popen, address: str, visitors: int, minutes: float, told: Told) -> list[dict[str, Any]]:
    until, seen = time.monotonic() + 60 * minutes, []
    running = [threading.Thread(target=visit, args=(address, until, told)) for _ in range(visitors)]
    for one in running:
        one.start()
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(LOOK_S, left))
        seen.append(held(process, address))
        line(left_s=until - time.monotonic(), **seen[-1])
    for one in running:
        one.join()
    return seen


def _amount(seen: dict[str, Any], name: str) -> int:
    return int(seen["mib"] + seen["children_mib"] if name == "memory" else seen[name])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--visitors", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--data", type=Path, help="data folder (default: an empty one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        raise SystemExit(not soak(options.visitors, options.minutes, options.data or Path(empty)))


if __name__ == "__main__":
    main()
