"""An engine of this process as a resident of the memory account, with its LoRA adapters."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelError, ModelInUse
from app.models.backends.hf_generate import GenerateEngine
from app.models.engine.engine import Engine
from app.models.interface import ChatModel
from app.models.registry import device_memory
from app.models.registry.engine_size import EngineSize

Room = Callable[[int], AbstractContextManager[None]]
LOOK_S = 0.02  # between two looks whether no answer is written: an end takes no lock and wakes nobody


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

    def __init__(self, engine: Engine | GenerateEngine, device: str, size: EngineSize | None) -> None:
        self.engine = engine
        self.engine_name = "generate" if isinstance(engine, GenerateEngine) else "torch"
        self.sampling_defaults = engine.sampling_defaults
        self.device = device
        self.one_at_a_time = isinstance(engine, GenerateEngine) and not engine.is_multimodal
        self._size = size
        self._wanted_tokens = engine.options.cache_tokens if isinstance(engine, Engine) else engine.context_tokens
        self.cache_mib = size.mib(self._wanted_tokens) if size else 0
        self._weights_mib = engine.loaded.mib
        self._read: dict[str, Adapter] = {}
        self._lock = threading.RLock()

    @property
    def mib(self) -> int:
        return self._weights_mib + sum(adapter.mib for adapter in list(self._read.values()))

    @property
    def spare_mib(self) -> int:
        if not self._size or not self._size.gives_back or (engine := self._batching()) is None:
            return 0
        return self.cache_mib - self._size.mib(engine.least_cache_tokens)

    def shrink(self, mib: int, patience_s: float = 0.0) -> None:
        if (engine := self._batching()) is None or not self._size or not self.spare_mib:
            return
        fewer = engine.options.cache_tokens - -(-mib * 2**20 // self._size.per_token)
        last_look = time.monotonic() + patience_s
        while not engine.resize_cache(max(engine.least_cache_tokens, fewer)):
            if time.monotonic() >= last_look:
                return
            time.sleep(LOOK_S)
        self._book_cache(engine)
        device_memory.release()

    def _batching(self) -> Engine | None:
        """The engine where it runs a batch, and has not been closed."""
        engine = getattr(self, "engine", None)
        return engine if isinstance(engine, Engine) else None

    def _book_cache(self, engine: Engine) -> None:
        if self._size:
            self.cache_mib = self._size.mib(engine.options.cache_tokens)

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
        self.shrink(self.spare_mib)
        device_memory.release()
        return True

    def unpark(self, room_mib: int) -> None:
        engine = self.engine
        if isinstance(engine, Engine):
            if self._size:
                tokens = engine.options.cache_tokens + room_mib * 2**20 // self._size.per_token
                engine.resize_cache(min(tokens, self._wanted_tokens))
                self._book_cache(engine)
            engine.unpark(self.device)
