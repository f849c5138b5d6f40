"""The visitors of the soak test: what they ask of a public server, how long it took, and their fair share of it."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from app.errors import Unexpected

NAME = "smollm2-135m"
INTERNAL = Unexpected().text("en")
TOKEN = "x-studio-visitor"
BEAT_S = 2.0  # how long a page stays open
SLOWER = 2.0  # times its fair share: what it takes alone, for each visitor who waited meanwhile
UNNOTICED_S = 1.0  # an answer that comes so soon is not late


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
