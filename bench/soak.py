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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.models.backends.llama_cpp.launch import SLOTS
from bench.measure import line, machine, percentile
from bench.soak_visitors import (
    ANSWERED,
    BEGUN,
    KINDS,
    NAME,
    SLOWER,
    Request,
    Told,
    agent,
    chat,
    completion,
    left_alone,
    long_answer,
    visit,
    visitor_headers,
)

LOOK_S = 30.0
AFTER_S = 60.0
METRICS_KEY = "soak"
ALONE = 3  # times that each request is tried before anybody else comes, each time with its prompt to be read anew
SECOND_HALF = 0.05  # growth of memory, descriptors and threads over the second half
AFTERWARDS = 0.1  # memory that may still be held a minute after the last visitor, over the start


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
