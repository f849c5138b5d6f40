"""Adaptive number of OpenMP threads: all cores where they are free, one where other programs take them.

Every product of a step ends at a barrier. On a busy machine a thread waits there until the other one gets a core again,
two hundred times a step, and a single thread, which waits for nobody, is several times as fast.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from app.openmp_threads import cores, give_back, set_threads

TRIED_AFTER, TRIED_EVERY = 3, 24  # steps before the number that was slower is tried again: twice as many each time
REMEMBERED = 3  # of these the fastest counts: a step may have waited for a kernel to be built


class Timings:
    """The newest seconds of a step for each number of threads, over steps of about equal size."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._seconds: dict[int, deque[float]] = {number: deque(maxlen=REMEMBERED) for number in numbers}
        self._steps = 0
        self._fastest = 0
        self._pause = self._waited = 0

    def choose(self) -> int:
        """The number for the next step: what was fastest, at times another."""
        self._steps += 1
        fastest, other, *_ = sorted(self._seconds, key=lambda number: min(self._seconds[number], default=0.0))
        if fastest != self._fastest:  # something has changed, and may soon change back
            self._fastest, self._pause, self._waited = fastest, TRIED_AFTER, 0
        self._waited += 1
        if self._waited < self._pause:
            return fastest
        self._pause, self._waited = min(2 * self._pause, TRIED_EVERY), 0
        return other

    def add(self, number: int, seconds: float) -> None:
        if self._steps > 1:  # kernels are built in the first
            self._seconds[number].append(seconds)


class ThreadCount:
    """Chooses for each step of the thread that calls it; other threads keep their number."""

    def __init__(self, most: int | None = None) -> None:
        numbers = tuple(dict.fromkeys((most or cores(), 1)))
        self._is_fixed = len(numbers) == 1
        self._timings: dict[int, Timings] = defaultdict(lambda: Timings(numbers))

    @contextmanager
    def step(self, tokens: int) -> Iterator[None]:
        """One forward pass of so many tokens."""
        if self._is_fixed:
            yield
            return
        timings = self._timings[tokens.bit_length()]
        number = timings.choose()
        torch.get_num_threads()  # torch sets a thread's number when it is first asked
        set_threads(number)
        began = time.perf_counter()
        yield
        timings.add(number, time.perf_counter() - began)

    def rest(self) -> None:
        """Nothing is asked for: others may compute in parallel, and what was fast says little of what will be."""
        if self._timings:
            self._timings.clear()
            give_back()
