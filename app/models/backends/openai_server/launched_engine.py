"""A model served by vLLM, LMDeploy or SGLang as a child of this server: memory booked, restarted after a fall."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import ModelInUse, StudioError
from app.models.backends.openai_server.address import ADAPTER_ROUTES
from app.models.backends.openai_server.engine import Call, RemoteEngine
from app.models.backends.openai_server.errors import EngineAway
from app.models.backends.openai_server.launched_server import LocalServer
from app.models.backends.openai_server.replica import Replica

log = logging.getLogger(__name__)
MOST_PAUSE_S = 60.0  # between two tries to start one that falls again and again
RESTART_S = 600.0  # how long a request waits for the server that takes the place of a fallen one
LOOK_S = 0.2
ADAPTER_S = 120.0  # to read one and to put it where the weights are


class LocalServerEngine(RemoteEngine):
    """Thread-safe. `server` is one that has not been started; `device_used` tells the MiB in use of a GPU, if any."""

    noticed_s = 20.0  # at most until a fall is known: the workers' end, then the supervisor's

    def __init__(
        self, server: LocalServer, usual_context: int, device: str, device_used: Callable[[], int] | None
    ) -> None:
        before = device_used() if device_used else 0
        server.start()
        self.server = server
        self.engine_name = server.launch.kind
        self._on_device = device
        self._pause_s = 1.0
        self._restarting = False
        self._adapters: dict[str, Path] = {}  # ours, by the names that the server has for them
        self._adapter_leases: list[str] = []
        self._adapters_change = threading.Lock()
        self._booked_mib = max(0, device_used() - before) if device_used else server.mib
        super().__init__(server.address(), usual_context)

    @property
    def mib(self) -> int:  # type: ignore[override]
        return self._booked_mib

    @property
    def device(self) -> str:
        return self._on_device

    @contextmanager
    def adapted(self, name: str, folder: Path) -> Iterator[None]:
        """The server has the adapter in `folder` under this name, and keeps it while the block runs. Raises what the
        server refuses."""
        with self._adapters_change:
            if self._adapters.get(name) != folder:
                self.run(self._give(self._replicas[0], name, folder), ADAPTER_S)
                self._adapters[name] = folder
            self._adapter_leases.append(name)
        try:
            yield
        finally:
            self._adapter_leases.remove(name)

    def withdraw(self, name: str) -> None:
        """Take an adapter of ours back. Raises ModelInUse while it is leased."""
        with self._adapters_change:
            if name in self._adapter_leases:
                raise ModelInUse(name=f"{self.address.name}+{name}", leases=self._adapter_leases.count(name))
            if self._adapters.pop(name, None) is not None:
                with suppress(StudioError):  # a server that is gone has none any more
                    self.run(self._take_back(name), ADAPTER_S)

    def close(self) -> None:
        self._closing = True
        self.server.end()
        super().close()

    async def _probe(self) -> None:
        if self.server.has_ended and not self._closing:
            await self._restart()
        await super()._probe()

    async def _answer(self, call: Call) -> None:
        """A request that meets a fallen server waits for the next one."""
        asked = self._replicas
        try:
            await super()._answer(call)
        except EngineAway:
            if not await self._is_replaced(asked):
                raise
            await super()._answer(call)

    async def _is_replaced(self, before: list[Replica]) -> bool:
        """Whether the server behind these replicas had fallen and another one answers; it is not waited for in vain."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self._closing and loop.time() - began < RESTART_S:
            if self._replicas is not before:
                return True
            fallen = self.server.has_ended or self._restarting
            if not fallen and (loop.time() - began > self.noticed_s or await before[0].is_well()):
                return False
            await asyncio.sleep(LOOK_S)
        return False

    async def _restart(self) -> None:
        self._restarting = True
        try:
            await self._start_again()
        finally:
            self._restarting = False

    async def _start_again(self) -> None:
        log.error(
            "%s of %s has ended and starts again: %s", self.engine_name, self.address.name, self.server.log_tail()
        )
        try:
            await asyncio.to_thread(self.server.start)
        except StudioError as error:
            log.error("%s", error)
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)
            return
        self._pause_s = 1.0
        self.address = self.server.address()
        opened = await self._open()
        for name, folder in list(self._adapters.items()):
            try:
                await self._give(opened[0], name, folder)
            except StudioError as error:
                log.error("the adapter %s is lost to %s: %s", name, self.address.name, error)
                self._adapters.pop(name, None)  # the next lease tries again, and is told why
        before, self._replicas = self._replicas, opened  # who waits asks from now on, for adapters too
        for replica in before:
            await replica.close()

    async def _give(self, replica: Replica, name: str, folder: Path) -> None:
        route = ADAPTER_ROUTES[self.engine_name][0]
        await replica.change_adapters(route, {"lora_name": name, "lora_path": str(folder.absolute())})

    async def _take_back(self, name: str) -> None:
        await self._replicas[0].change_adapters(ADAPTER_ROUTES[self.engine_name][1], {"lora_name": name})
