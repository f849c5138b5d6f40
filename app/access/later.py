"""Delayed calls on one background thread, in place of a timer thread for each."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Planned:
    """One call to come; `join` waits until it has been made."""

    def __init__(self) -> None:
        self._made = threading.Event()

    def join(self, timeout: float | None = None) -> bool:
        return self._made.wait(timeout)

    def done(self) -> None:
        """Called once, by Later."""
        self._made.set()


class Later:
    """Thread-safe. The thread ends when nothing is left to do."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Callable[[], object], Planned]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._running = False

    def call(self, seconds: float, function: Callable[[], object]) -> Planned:
        """Call the function once, so many seconds from now; what it raises goes to the log."""
        planned = Planned()
        with self._changed:
            heapq.heappush(self._calls, (time.monotonic() + seconds, next(self._numbers), function, planned))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="later", daemon=True).start()
            self._changed.notify()
        return planned

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._running = False
                    return
                wait = self._calls[0][0] - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, function, planned = heapq.heappop(self._calls)
            try:
                function()
            except Exception:
                log.exception("a delayed call failed")
            planned.done()


later = Later()
