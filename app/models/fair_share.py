"""Fair scheduling between visitors: who runs least goes first, and nobody takes every place."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Request = TypeVar("Request")


def admission_order(
    waiting: Iterable[Request], running: Iterable[Request], visitor_of: Callable[[Request], str], limit: int
) -> Iterator[Request]:
    """Waiting requests, oldest first as given, in the order in which they may start.

    Within a visitor first come, first served; between visitors whoever has the fewest that run or were yielded.
    Ends at the first visitor who already has `limit` of them: places stay free for newcomers.
    """
    queues: dict[str, deque[Request]] = defaultdict(deque)
    for request in waiting:
        queues[visitor_of(request)].append(request)
    counts = Counter(visitor_of(request) for request in running)
    while queues:
        visitor = min(queues, key=lambda name: counts[name])
        if counts[visitor] >= limit:
            return
        yield queues[visitor].popleft()
        counts[visitor] += 1
        if not queues[visitor]:
            del queues[visitor]
