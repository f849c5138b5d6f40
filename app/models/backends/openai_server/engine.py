"""The replicas of one far engine under one name: kept in view, the least busy one asked, another one if it fails.

All of it runs on one event loop in a thread of its own. What comes from other threads is handed over by
`call_soon_threadsafe`, which takes no lock, so that an answer may be cancelled from anywhere, a finalizer too.
"""

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.errors import EngineFailed, StudioError
from app.models.backends.openai_server.address import EngineAddress
from app.models.backends.openai_server.errors import EngineAway, EngineBusy, RemoteError
from app.models.backends.openai_server.replica import LOOK_SECONDS, Chunk, Replica

log = logging.getLogger(__name__)
Result = TypeVar("Result")
WELL_SECONDS = 10.0  # between two looks at the replicas
ILL_SECONDS = 2.0  # the same while one of them is ill
CLOSE_SECONDS = 5.0


@dataclass(eq=False)
class Call:
    """One request under way: what is asked, and what comes back until None, the very last."""

    body: dict[str, Any]
    news: "queue.SimpleQueue[Chunk | Exception | None]" = field(default_factory=queue.SimpleQueue)
    abandoned: bool = False  # nobody waits any more


class RemoteEngine:
    """A resident of the memory account that holds none. Thread-safe."""

    mib = 0
    cache_mib = 0

    def __init__(self, address: EngineAddress, usual_context: int) -> None:
        self.address = address
        self._usual_context = usual_context
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._closing = False
        self._turns = itertools.count()
        self._last_turn: dict[str, int] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"engine {address.name}", daemon=True)
        self._thread.start()
        self._replicas = self.run(self._open())

    def connect(self) -> "RemoteEngine":
        """Look at all replicas. Raises what is wrong where none is well; the engine is closed then."""
        self.run(self._look())
        if not any(replica.well for replica in self._replicas):
            trouble = self._trouble()
            self.close()
            raise trouble
        self._loop.call_soon_threadsafe(self._watch)
        return self

    @property
    def device(self) -> str:
        """`remote`, and how many replicas are well where there are several."""
        well = sum(replica.well for replica in self._replicas)
        return "remote" if len(self._replicas) == 1 else f"remote {well}/{len(self._replicas)}"

    @property
    def context_tokens(self) -> int:
        """What the replicas tell, else what the settings say."""
        return self.told_context or self._usual_context

    @property
    def told_context(self) -> int:
        """The least that a replica tells; 0 where none does."""
        return min((replica.context_tokens for replica in self._replicas if replica.context_tokens), default=0)

    def adapters(self) -> tuple[str, ...]:
        """LoRA adapters that the replicas list beside the model; each is a model `name+adapter`."""
        return tuple(dict.fromkeys(name for replica in self._replicas for name in replica.adapters()))

    def count_tokens(self, model: str, messages: list[dict[str, Any]]) -> int | None:
        """By a replica's own tokenizer; None where there is none to ask."""
        replica = self._pick(())
        return None if replica is None else self.run(replica.tokenize(model, messages))

    def begin(self, call: Call) -> None:
        """Ask for an answer; it is delivered to `call`. Raises EngineFailed once the engine is closed."""
        try:
            self._loop.call_soon_threadsafe(self._begin, call)
        except RuntimeError:
            raise EngineFailed from None

    def end(self, call: Call) -> None:
        """Close the connection of this answer, so that the far engine stops; nothing to one that has ended."""
        call.abandoned = True
        with suppress(RuntimeError):  # the engine is closed
            self._loop.call_soon_threadsafe(self._end, call)

    def ahead_of(self, _call: Call) -> int:
        """How many wait before this one; a far engine does not tell."""
        return 0

    def run(self, work: Coroutine[Any, Any, Result], seconds: float = 2 * LOOK_SECONDS) -> Result:
        """Wait for `work` on the loop's thread."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise EngineAway(name=self.address.name, reason="") from None
        try:
            return future.result(timeout=seconds)
        except TimeoutError:
            future.cancel()
            raise EngineAway(name=self.address.name, reason="") from None

    def close(self) -> None:
        """End all answers; those who wait for them are told."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=CLOSE_SECONDS)
        self._loop.close()

    def park(self) -> bool:
        return False

    def unpark(self) -> None:
        raise RuntimeError("it was never parked")

    async def _open(self) -> list[Replica]:
        return [Replica(self.address, url) for url in self.address.urls]

    async def _look(self) -> None:
        await asyncio.gather(*(replica.look() for replica in self._replicas))

    def _watch(self) -> None:
        self._tasks[self] = self._loop.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        while True:
            all_well = all(replica.well for replica in self._replicas)
            await asyncio.sleep(WELL_SECONDS if all_well else ILL_SECONDS)
            await self._look()

    def _begin(self, call: Call) -> None:
        if self._closing:
            self._hang_up(call)
        elif not call.abandoned:
            self._tasks[call] = self._loop.create_task(self._serve(call))

    def _end(self, call: Call) -> None:
        task = self._tasks.pop(call, None)
        if task is not None:
            task.cancel()

    def _hang_up(self, call: Call) -> None:
        """Tell whoever still waits that the engine was closed."""
        if not call.abandoned:
            call.news.put(EngineAway(name=self.address.name, reason=""))
        call.news.put(None)

    async def _serve(self, call: Call) -> None:
        try:
            await self._answer(call)
        except asyncio.CancelledError:
            self._hang_up(call)
        except StudioError as error:
            call.news.put(error)
        except Exception:
            log.exception("an answer of engine %s failed", self.address.name)
            call.news.put(EngineFailed())
        finally:
            self._tasks.pop(call, None)
            call.news.put(None)

    async def _answer(self, call: Call) -> None:
        """From the least busy replica; from the others, one after the other, while no text has come."""
        tried: list[Replica] = []
        trouble: StudioError | None = None
        while (replica := self._pick(tried)) is not None:
            tried.append(replica)
            replica.live += 1
            try:
                async for chunk in replica.answer(call.body):
                    call.news.put(chunk)
                return
            except EngineAway as error:
                replica.falls_ill(error, "it did not answer")
                trouble = trouble or error  # that another one is busy tells more
            except EngineBusy as error:
                trouble = error
            finally:
                replica.live -= 1
        raise trouble or EngineAway(name=self.address.name, reason="")

    def _pick(self, tried: "list[Replica] | tuple[()]") -> Replica | None:
        """A well one before an ill one, the least busy first, taking turns between equals."""
        open_to_us = [replica for replica in self._replicas if replica not in tried]
        if not open_to_us:
            return None
        chosen = min(open_to_us, key=lambda r: (not r.well, r.live, self._last_turn.get(r.url, -1)))
        self._last_turn[chosen.url] = next(self._turns)
        return chosen

    def _trouble(self) -> StudioError:
        """The most telling one: a refused key before a connection that failed."""
        troubles = [replica.trouble for replica in self._replicas if replica.trouble is not None]
        told = [trouble for trouble in troubles if not isinstance(trouble, EngineAway)]
        return (told or troubles or [RemoteError(name=self.address.name, reason="?")])[0]

    async def _close(self) -> None:
        self._closing = True
        calls, tasks = [call for call in self._tasks if isinstance(call, Call)], list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in calls:  # a task that had not begun has told nobody
            self._hang_up(call)
        await asyncio.gather(*(replica.close() for replica in self._replicas))
