"""Fair admission to the slots of llama.cpp's server, which itself serves first come, first served."""

import asyncio
import bisect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.models.fair_share import FREE_PART, FairQueue, Turn, admitted


@dataclass(eq=False)
class Admitted:
    """A request that waits or runs; `tokens` are those of its prompt and of the longest answer it may get."""

    visitor: str
    tokens: int
    turn: Turn
    request: object = None
    started: asyncio.Event = field(default_factory=asyncio.Event)


class Admission:
    """Lives on one event loop. In the order of `FairQueue`; one slot and a part of the cache stay free of whoever fills
    all others.

    A request starts when its tokens surely fit the cache beside those that run: llama.cpp would end somebody's
    answer when the cache is full.
    """

    def __init__(self, slots: int, cache_tokens: int) -> None:
        self._slots = slots
        self._cache_tokens = cache_tokens
        self._queue = FairQueue()
        self._waiting: list[Admitted] = []
        self._running: list[Admitted] = []

    @asynccontextmanager
    async def slot(
        self, visitor: str, prompt: int, answer: int, request: object = None, written: Callable[[], int] = int
    ) -> AsyncIterator[None]:
        """A slot while the block runs, for so many tokens. `request` is by which `ahead_of` knows it, `written` tells
        at the end how many tokens its answer got."""
        turn = self._queue.turn(visitor, prompt, answer)
        entry = Admitted(visitor, min(prompt + answer, self._cache_tokens), turn, request)
        bisect.insort(self._waiting, entry, key=lambda one: one.turn)
        self._start_waiting()
        try:
            await entry.started.wait()
            yield
        finally:
            self._queue.ended(turn, written())
            (self._running if entry in self._running else self._waiting).remove(entry)
            self._start_waiting()

    def ahead_of(self, request: object) -> int:
        """How many begin or end before this one; 0 once it runs. May be asked from any thread."""
        return next((at for at, entry in enumerate(list(self._waiting), 1) if entry.request is request), 0)

    def _start_waiting(self) -> None:
        free_tokens = self._cache_tokens - sum(entry.tokens for entry in self._running)
        for entry in admitted(list(self._waiting), self._running, lambda entry: entry.visitor, self._slots - 1):
            if self._would_fill_the_cache(entry):
                continue
            if len(self._running) >= self._slots or entry.tokens > free_tokens:
                return
            free_tokens -= entry.tokens
            self._queue.served(entry.turn)
            self._waiting.remove(entry)
            self._running.append(entry)
            entry.started.set()

    def _would_fill_the_cache(self, entry: Admitted) -> bool:
        own = sum(other.tokens for other in self._running if other.visitor == entry.visitor)
        return own > 0 and own + entry.tokens > self._cache_tokens - self._cache_tokens // FREE_PART
