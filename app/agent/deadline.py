"""Deadline of an agent's task: counts the time it works, not the time it waits for the model."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

MOST_WAITING = 20  # times its own seconds: a task that hardly ever gets its turn ends all the same


class Deadline:
    """Over after `seconds` of work. It stands still from a request to the model until its first token: how many others
    stand in the queue is no fault of the task."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._gives_up = self._ends + MOST_WAITING * seconds
        self._waits_since: float | None = None

    def over(self) -> bool:
        now = time.monotonic()
        return now > self._gives_up or (self._waits_since is None and now > self._ends)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Stand still within, or until `goes_on` is called there."""
        self._waits_since = time.monotonic()
        try:
            yield
        finally:
            self.goes_on()

    def goes_on(self) -> None:
        if self._waits_since is not None:
            self._ends += time.monotonic() - self._waits_since
            self._waits_since = None
