"""Fair scheduling between visitors: weighted fair queueing by tokens, and nobody takes every place."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TypeVar

ANSWER_COST = 4  # a token that is written takes a step of its own, those that are read share one
Request = TypeVar("Request")


class FairQueue:
    """Gives each request its turn: the point at which it would end if the engine's work were shared out evenly among
    visitors. Served in the order of turns a short request passes long ones, and a long one waits for no more than its
    share of others (self-clocked fair queueing, Golestani 1994). Thread-safe."""

    def __init__(self) -> None:
        self._clock = 0.0
        self._last: dict[str, float] = {}
        self._lock = Lock()

    def turn(self, visitor: str, prompt_tokens: int, answer_tokens: int) -> float:
        """When a request that comes now is due; requests of one visitor follow each other."""
        with self._lock:
            self._last = {name: turn for name, turn in self._last.items() if turn > self._clock}
            begin = self._last.get(visitor, self._clock)
            self._last[visitor] = begin + prompt_tokens + ANSWER_COST * answer_tokens
            return self._last[visitor]

    def served(self, turn: float, unread_tokens: int = 0) -> None:
        """A request was begun, or read but for so many tokens of its prompt: later ones are due after it."""
        with self._lock:
            self._clock = max(self._clock, turn - unread_tokens)


def admitted(
    waiting: Iterable[Request], running: Iterable[Request], visitor_of: Callable[[Request], str], limit: int
) -> Iterator[Request]:
    """Waiting requests that may start, in the order given; whoever has `limit` of them running or yielded must wait:
    places stay free for newcomers."""
    counts = Counter(visitor_of(request) for request in running)
    for request in waiting:
        if counts[visitor_of(request)] < limit:
            yield request
            counts[visitor_of(request)] += 1
