"""Sliding-window rate counter: amounts spent by each visitor in the last seconds."""

import time
from collections import defaultdict, deque
from collections.abc import Callable


class RateWindow:
    """Amounts of the last `window_s` seconds by visitor. Whoever shares it between threads holds a lock."""

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._spent: dict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def add(self, visitor: str, amount: int) -> None:
        self._spent[visitor].append((self._clock(), amount))

    def of(self, visitor: str) -> tuple[int, float]:
        """The amount, and the seconds until the oldest part of it is forgotten."""
        now = self._clock()
        self._forget_before(now - self._window_s)
        spent = self._spent.get(visitor, ())
        oldest = spent[0][0] if spent else now
        return sum(amount for _, amount in spent), oldest + self._window_s - now

    def _forget_before(self, then: float) -> None:
        for visitor, spent in list(self._spent.items()):
            while spent and spent[0][0] < then:
                spent.popleft()
            if not spent:
                del self._spent[visitor]
