"""Remote engine: health checks, least-busy load balancing and failover over its replicas.

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
from app.models.backends.openai_server.replica import PROBE_SECONDS, Chunk, Replica

log = logging.getLogger(__name__)
Result = TypeVar("Result")
PROBE_INTERVAL_S = 10.0  # between two probes of the replicas
UNHEALTHY_PROBE_INTERVAL_S = 2.0  # the same while one of them is unhealthy
CLOSE_SECONDS = 5.0


@dataclass(eq=False)
class Call:
    """One request under way: what is asked, and what comes back until None, the very last."""

    body: dict[str, Any]
    events: "queue.SimpleQueue[Chunk | Exception | None]" = field(default_factory=queue.SimpleQueue)
    abandoned: bool = False  # nobody waits any more


class RemoteEngine:
    """A resident of the memory account that holds none. Thread-safe."""

    mib = 0
    cache_mib = 0
    spare_mib = 0

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
        """Probe all replicas. Raises the reason where none is healthy; the engine is closed then."""
        self.run(self._probe())
        if not any(replica.healthy for replica in self._replicas):
            error = self._error()
            self.close()
            raise error
        self._loop.call_soon_threadsafe(self._watch)
        return self

    @property
    def device(self) -> str:
        """`remote`, and how many replicas are healthy where there are several."""
        healthy = sum(replica.healthy for replica in self._replicas)
        return "remote" if len(self._replicas) == 1 else f"remote {healthy}/{len(self._replicas)}"

    @property
    def context_tokens(self) -> int:
        """What the replicas tell, else what the settings say."""
        return self.reported_context or self._usual_context

    @property
    def reported_context(self) -> int:
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
        """Close the connection of this answer, so that the server stops; nothing to one that has ended."""
        call.abandoned = True
        with suppress(RuntimeError):  # the engine is closed
            self._loop.call_soon_threadsafe(self._end, call)

    def ahead_of(self, _call: Call) -> int:
        """How many wait before this one; a server does not tell."""
        return 0

    def run(self, work: Coroutine[Any, Any, Result], seconds: float = 2 * PROBE_SECONDS) -> Result:
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

    def trim(self) -> None:
        """The memory is the server's."""

    def park(self) -> bool:
        return False

    def shrink(self, mib: int, patience_s: float = 0.0) -> None:
        """Its cache is the server's."""

    def unpark(self, room_mib: int) -> None:  # noqa: ARG002
        raise RuntimeError("it was never parked")

    async def _open(self) -> list[Replica]:
        return [Replica(self.address, url) for url in self.address.urls]

    async def _probe(self) -> None:
        await asyncio.gather(*(replica.probe() for replica in self._replicas))

    def _watch(self) -> None:
        self._tasks[self] = self._loop.create_task(self._keep_probing())

    async def _keep_probing(self) -> None:
        while True:
            all_healthy = all(replica.healthy for replica in self._replicas)
            await asyncio.sleep(PROBE_INTERVAL_S if all_healthy else UNHEALTHY_PROBE_INTERVAL_S)
            await self._probe()

    def _begin(self, call: Call) -> None:
        if self._closing:
            self._end_call(call)
        elif not call.abandoned:
            self._tasks[call] = self._loop.create_task(self._serve(call))

    def _end(self, call: Call) -> None:
        task = self._tasks.pop(call, None)
        if task is not None:
            task.cancel()

    def _end_call(self, call: Call) -> None:
        """Tell whoever still waits that the engine was closed."""
        if not call.abandoned:
            call.events.put(EngineAway(name=self.address.name, reason=""))
        call.events.put(None)

    async def _serve(self, call: Call) -> None:
        try:
            await self._answer(call)
        except asyncio.CancelledError:
            self._end_call(call)
        except StudioError as error:
            call.events.put(error)
        except Exception:
            log.exception("an answer of engine %s failed", self.address.name)
            call.events.put(EngineFailed())
        finally:
            self._tasks.pop(call, None)
            call.events.put(None)

    async def _answer(self, call: Call) -> None:
        """From the least busy replica; from the others, one after the other, while no text has come."""
        tried: list[Replica] = []
        failure: StudioError | None = None
        while (replica := self._pick(tried)) is not None:
            tried.append(replica)
            replica.live += 1
            try:
                async for chunk in replica.answer(call.body):
                    call.events.put(chunk)
                return
            except EngineAway as error:
                replica.mark_unhealthy(error, "it did not answer")
                failure = failure or error  # that another one is busy tells more
            except EngineBusy as error:
                failure = error
            finally:
                replica.live -= 1
        raise failure or EngineAway(name=self.address.name, reason="")

    def _pick(self, tried: "list[Replica] | tuple[()]") -> Replica | None:
        """Healthy ones first, then the least busy, round robin between equals."""
        candidates = [replica for replica in self._replicas if replica not in tried]
        if not candidates:
            return None
        chosen = min(candidates, key=lambda r: (not r.healthy, r.live, self._last_turn.get(r.url, -1)))
        self._last_turn[chosen.url] = next(self._turns)
        return chosen

    def _error(self) -> StudioError:
        """The most telling one: a refused key before a connection that failed."""
        found = [replica.error for replica in self._replicas if replica.error is not None]
        telling = [error for error in found if not isinstance(error, EngineAway)]
        return (telling or found or [RemoteError(name=self.address.name, reason="?")])[0]

    async def _close(self) -> None:
        self._closing = True
        calls, tasks = [call for call in self._tasks if isinstance(call, Call)], list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in calls:  # a task that had not begun has told nobody
            self._end_call(call)
        await asyncio.gather(*(replica.close() for replica in self._replicas))
