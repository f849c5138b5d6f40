"""Whose request takes the next free slot of llama.cpp's server, which itself takes them as they come."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Wish:
    """A request that waits or runs; `tokens` are those of its prompt and of the longest answer it may get."""

    visitor: str
    tokens: int
    number: int
    request: object = None
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class Admission:
    """Lives on one event loop.

    The next slot goes to the visitor with the fewest running requests, and one slot always stays free of whoever
    fills all others. A request starts when its tokens surely fit the cache beside those that run: llama.cpp would
    end somebody's answer when the cache is full.
    """

    def __init__(self, slots: int, room_tokens: int) -> None:
        self._slots = slots
        self._room = room_tokens
        self._numbers = itertools.count()
        self._waiting: list[Wish] = []
        self._running: list[Wish] = []

    @asynccontextmanager
    async def place(self, visitor: str, tokens: int, request: object = None) -> AsyncIterator[None]:
        """A slot while the block runs. `request` is by which `waiting_before` knows it."""
        wish = Wish(visitor, min(tokens, self._room), next(self._numbers), request)
        self._waiting.append(wish)
        self._grant()
        try:
            await wish.granted.wait()
            yield
        finally:
            (self._running if wish in self._running else self._waiting).remove(wish)
            self._grant()

    def waiting_before(self, request: object) -> int:
        """How many wait that came before this one; 0 once it runs. May be asked from any thread."""
        waiting = list(self._waiting)
        own = next((wish for wish in waiting if wish.request is request), None)
        return 0 if own is None else sum(wish.number < own.number for wish in waiting)

    def _grant(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            busy = Counter(wish.visitor for wish in self._running)
            ahead = min(self._waiting, key=lambda wish: (busy[wish.visitor], wish.number))
            if busy[ahead.visitor] >= max(1, self._slots - 1):
                return
            if sum(wish.tokens for wish in self._running) + ahead.tokens > self._room:
                return
            self._waiting.remove(ahead)
            self._running.append(ahead)
            ahead.granted.set()
