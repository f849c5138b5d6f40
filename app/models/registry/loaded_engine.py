"""An engine of this process as a resident of the memory account, with its LoRA adapters."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelError, ModelInUse
from app.models.backends.hf_generate import GenerateEngine
from app.models.engine.engine import Engine
from app.models.interface import ChatModel
from app.models.registry import device_memory

Room = Callable[[int], AbstractContextManager[None]]


class NoAdapters(ModelError):
    zh = "模型 {name} 的结构不能使用适配器。请换一个基座模型。"
    en = "The architecture of {name} takes no adapters. Choose another base model."


@dataclass(eq=False)
class Adapter:
    """A LoRA adapter that can be leased; its files are read at the first lease. One of the same name is another."""

    name: str
    folder: Path
    leases: int = 0

    def refuse_if_leased(self, base: str) -> None:
        if self.leases:
            raise ModelInUse(name=f"{base}+{self.name}", leases=self.leases)

    @property
    def mib(self) -> int:
        """Size of its files, rounded up."""
        files = [*self.folder.glob("adapter_model.*")] if self.folder.is_dir() else []
        return -(-sum(file.stat().st_size for file in files) // 2**20)


class LoadedEngine:
    """An engine with the adapters that are read; idle ones go when memory is short. Thread-safe."""

    def __init__(self, engine: Engine | GenerateEngine, device: str, cache_mib: int) -> None:
        self.engine = engine
        self.engine_name = "generate" if isinstance(engine, GenerateEngine) else "torch"
        self.sampling_defaults = engine.sampling_defaults
        self.device = device
        self.one_at_a_time = isinstance(engine, GenerateEngine) and not engine.is_multimodal
        self.cache_mib = cache_mib
        self._weights_mib = engine.loaded.mib
        self._read: dict[str, Adapter] = {}
        self._lock = threading.RLock()

    @property
    def mib(self) -> int:
        return self._weights_mib + sum(adapter.mib for adapter in list(self._read.values()))

    def adapters(self) -> tuple[str, ...]:
        return tuple(self._read)

    @contextmanager
    def adapted(self, adapter: Adapter, room: Room) -> Iterator[ChatModel]:
        """The model with an adapter that stays as it is while the block runs; `room` reserves its memory."""
        engine = self.engine
        if isinstance(engine, GenerateEngine):
            raise NoAdapters(name=engine.name)
        with self._lock:
            before = self._read.get(adapter.name)
            if before is not adapter:
                if before is not None:
                    before.refuse_if_leased(engine.name)
                    self.forget(before)
                with room(adapter.mib):
                    engine.adapters.add(adapter.name, adapter.folder)
                    self._read[adapter.name] = adapter
            adapter.leases += 1
        try:
            with engine.lease_adapter(adapter.name) as model:
                yield model
        finally:
            with self._lock:
                adapter.leases -= 1

    def forget(self, adapter: Adapter) -> None:
        """Give its memory back. Raises ModelInUse while a request runs with it."""
        with self._lock:
            if self._read.get(adapter.name) is adapter and isinstance(self.engine, Engine):
                self.engine.remove_adapter(adapter.name)
                del self._read[adapter.name]

    def trim(self) -> None:
        # Whoever holds the lock may be waiting for another engine's adapters to go.
        if not self._lock.acquire(blocking=False):
            return
        try:
            for adapter in [adapter for adapter in self._read.values() if not adapter.leases]:
                with suppress(ModelInUse):
                    self.forget(adapter)
        finally:
            self._lock.release()
        device_memory.release()

    def close(self) -> None:
        self.engine.close()
        self._read.clear()
        del self.engine
        device_memory.release()

    def park(self) -> bool:
        if self.device == "cpu" or isinstance(self.engine, GenerateEngine):
            return False
        self.trim()  # adapters are no part of the module that moves
        self.engine.park()
        device_memory.release()
        return True

    def unpark(self) -> None:
        if isinstance(self.engine, Engine):
            self.engine.unpark(self.device)
