"""Fair scheduling between visitors: weighted fair queueing by tokens, and nobody takes every place."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

ANSWER_COST = 4  # a token that is written takes a step of its own, those that are read share one
# Tokens of an answer that are charged beforehand: few are as long as they may be, and an agent's, which may write
# hundreds and writes a line, would wait for the work of hundreds, as would the first word of a long answer.
FORESEEN = 16
FREE_PART = 8  # one part of so many of the places that stays free of whoever fills all others
Request = TypeVar("Request")


@dataclass(order=True)
class Turn:
    """When a request is due; the earliest is served first. `charged` are the tokens of its answer that are paid for."""

    due: float
    visitor: str = field(compare=False)
    charged: int = field(compare=False)


class FairQueue:
    """Gives each request its turn: the point at which it would end if the engine's work were shared out evenly among
    visitors. Served in the order of turns a short request passes long ones, and a long one waits for no more than its
    share of others (self-clocked fair queueing, Golestani 1994). How long an answer gets nobody knows beforehand: what
    was written beyond the foreseen is charged to the visitor's next request (as by a token counter, Sheng et al. 2024).
    Thread-safe."""

    def __init__(self) -> None:
        self._clock = 0.0
        self._last: dict[str, float] = {}
        self._lock = Lock()

    def turn(self, visitor: str, prompt_tokens: int, answer_tokens: int) -> Turn:
        """When a request that comes now is due, whose answer may get so long; a visitor's follow each other."""
        charged = min(answer_tokens, FORESEEN)
        with self._lock:
            self._last = {name: due for name, due in self._last.items() if due > self._clock}
            begin = self._last.get(visitor, self._clock)
            self._last[visitor] = begin + prompt_tokens + ANSWER_COST * charged
            return Turn(self._last[visitor], visitor, charged)

    def served(self, turn: Turn, unread_tokens: int = 0) -> None:
        """A request was begun, or read but for so many tokens of its prompt: later ones are due after it."""
        with self._lock:
            self._clock = max(self._clock, turn.due - unread_tokens)

    def ended(self, turn: Turn, answer_tokens: int) -> None:
        """Charge what was written beyond the foreseen. More than once for a request that was put back and goes on."""
        more = max(0, answer_tokens - turn.charged)
        with self._lock:
            turn.charged += more
            self._last[turn.visitor] = max(turn.due, self._last.get(turn.visitor, 0.0)) + ANSWER_COST * more


def places_of_one(places: int, waiting_visitors: int) -> int:
    """How many places one visitor may fill: half of them while others wait, and else all but some for who comes."""
    return max(1, places // 2 if waiting_visitors > 1 else places - max(1, places // FREE_PART))


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
