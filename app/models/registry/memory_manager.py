"""Model memory manager: single-flight loading, memory budget, LRU eviction and parking.

The account is kept by what residents say they hold. One load runs at a time; downloads do not wait for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

from app.errors import DoesNotFit, ModelError, ModelInUse
from app.models.interface import Fit, Ledger, LedgerEntry, ReportProgress

log = logging.getLogger(__name__)
Kind = Literal["chat", "vision", "embedder", "reranker", "trainer", "remote"]
State = Literal["absent", "downloading", "loading", "ready", "parked", "failed"]


class DownloadStopped(ModelError):
    zh = "模型 {name} 的下载已停止；再次加载会从断点继续。"
    en = "The download of {name} was stopped. Loading it again resumes where it stopped."


class Resident(Protocol):
    """Something that holds memory. Sizes in MiB."""

    mib: int
    cache_mib: int

    @property
    def device(self) -> str: ...

    def close(self) -> None:
        """Give all memory back."""
        ...

    def park(self) -> bool:
        """Move to main memory; False where that would free nothing, so that closing is better."""
        ...

    def unpark(self) -> None: ...


@dataclass(frozen=True)
class ModelSpec:
    """How to get a resident: `fetch` may take long and needs no memory, `load` does."""

    name: str
    kind: Kind
    needed_mib: Callable[[], int]
    load: Callable[[ReportProgress], Resident]
    fetch: Callable[[ReportProgress], None] = field(default=lambda _: None)


@dataclass
class Slot:
    spec: ModelSpec
    state: State = "absent"
    resident: Resident | None = None
    reserved_mib: int = 0
    leases: int = 0
    last_used: float = 0.0
    progress: float | None = None
    detail: str = ""
    error: Exception | None = None
    moving: bool = False
    unwanted: bool = False  # while it downloads

    @property
    def held_mib(self) -> int:
        if self.state == "ready" and self.resident is not None:
            return self.resident.mib + self.resident.cache_mib
        return self.reserved_mib

    def evictable(self) -> bool:
        """Whether evicting it would make room."""
        return self.state == "ready" and self.leases == 0 and not self.moving and self.held_mib > 0


class MemoryManager:
    """The slots of one process, within `budget_mib`."""

    def __init__(self, budget_mib: int) -> None:
        self.budget_mib = budget_mib
        self._slots: dict[str, Slot] = {}
        self._changed = threading.Condition()
        self._one_load = threading.Lock()

    @contextmanager
    def lease(self, spec: ModelSpec) -> Iterator[Resident]:
        """Hold a resident, bringing it in first if need be. Raises what its spec raises, or DoesNotFit."""
        slot = self._claim(spec)
        try:
            yield self._settled(slot)
        finally:
            with self._changed:
                slot.leases -= 1
                slot.last_used = time.monotonic()
                self._changed.notify_all()

    def bring_in_background(self, spec: ModelSpec) -> None:
        """Start bringing it in; what goes wrong stands in the ledger."""

        def hold_once() -> None:
            try:
                with self.lease(spec):
                    pass
            except Exception as error:
                log.warning("%s could not be loaded: %s", spec.name, error)

        threading.Thread(target=hold_once, name=f"load {spec.name}", daemon=True).start()

    def unload(self, name: str) -> None:
        """Give an idle resident's memory back; of one that downloads, end the download. Raises ModelInUse."""
        with self._changed:
            slot = self._slots.get(name)
            if slot is not None and slot.state == "downloading":
                if slot.leases > 1:  # others than who fetches it
                    raise ModelInUse(name=name, leases=slot.leases - 1)
                slot.unwanted = True
            if slot is None or slot.state not in ("ready", "parked", "failed"):
                return
            if slot.leases:
                raise ModelInUse(name=name, leases=slot.leases)
            slot.moving = True
        self._let_go(slot, allow_parking=False)

    def fit(self, spec: ModelSpec) -> Fit:
        """Whether it would fit, and which idle residents would make room."""
        needed = spec.needed_mib()
        with self._changed:
            if (slot := self._slots.get(spec.name)) and slot.state == "ready":
                return Fit(slot.held_mib, self._free_mib(), fits=True)
            free, evicted = self._free_mib(), []
            for slot in self._idle_oldest_first():
                if free >= needed:
                    break
                free += slot.held_mib
                evicted.append(slot.spec.name)
        return Fit(needed, free, fits=free >= needed, evicts=tuple(evicted) if free >= needed else ())

    def ledger(self, adapters: Callable[[Resident], tuple[str, ...]]) -> Ledger:
        with self._changed:
            entries = tuple(_entry(slot, adapters) for slot in self._slots.values() if slot.state != "absent")
            used = sum(slot.held_mib for slot in self._slots.values())
        return Ledger(self.budget_mib, used, entries)

    def resident(self, name: str) -> Resident | None:
        """The resident if it is ready now, without holding it."""
        slot = self._slots.get(name)
        return slot.resident if slot and slot.state == "ready" else None

    def kind(self, name: str) -> Kind | None:
        """The kind of what is held under this name."""
        slot = self._slots.get(name)
        return slot.spec.kind if slot else None

    def close(self) -> None:
        for slot in list(self._slots.values()):
            if slot.resident is not None:
                slot.resident.close()

    def _claim(self, spec: ModelSpec) -> Slot:
        with self._changed:
            slot = self._slots.setdefault(spec.name, Slot(spec))
            slot.spec = spec
            slot.leases += 1
            return slot

    def _settled(self, slot: Slot) -> Resident:
        """Wait for a load under way, or do it in this thread. The lease is held already."""
        waited = False
        with self._changed:
            while slot.state in ("downloading", "loading") or slot.moving:
                waited = True
                self._changed.wait()
            if slot.state == "ready" and slot.resident is not None:
                return slot.resident
            if waited and slot.state == "failed" and slot.error is not None:
                raise slot.error
            was_parked = slot.state == "parked"
            slot.state, slot.error, slot.progress = "loading" if was_parked else "downloading", None, 0.0
            slot.unwanted = False
        return self._bring_in(slot, was_parked)

    def _bring_in(self, slot: Slot, was_parked: bool) -> Resident:
        def report(progress: float, detail: str) -> None:
            slot.progress, slot.detail = progress, detail
            if slot.unwanted and slot.state == "downloading":
                raise DownloadStopped(name=slot.spec.name)

        try:
            if not was_parked:
                slot.spec.fetch(report)
            with nullcontext() if slot.spec.kind == "remote" else self._one_load:
                slot.state = "loading"
                self._make_room(slot)
                if was_parked and slot.resident is not None:
                    slot.resident.unpark()
                else:
                    slot.resident = slot.spec.load(report)
        except Exception as error:
            self._settle(slot, "absent" if isinstance(error, DownloadStopped) else "failed", error)
            raise
        self._settle(slot, "ready", None)
        return slot.resident

    def _settle(self, slot: Slot, state: State, error: Exception | None) -> None:
        with self._changed:
            slot.state, slot.error, slot.progress, slot.reserved_mib = state, error, None, 0
            slot.detail = ""
            if state != "ready":
                slot.resident = None
            self._changed.notify_all()

    def _make_room(self, slot: Slot) -> None:
        needed = slot.spec.needed_mib()
        while True:
            with self._changed:
                if self._free_mib() >= needed:
                    slot.reserved_mib = needed
                    return
                idle = next(iter(self._idle_oldest_first()), None)
                if idle is None:
                    raise DoesNotFit(name=slot.spec.name, needed_mib=needed, free_mib=self._free_mib())
                idle.moving = True
            self._let_go(idle, allow_parking=True)

    def _let_go(self, slot: Slot, allow_parking: bool) -> None:
        state: State = "absent"
        try:
            if slot.resident is not None:
                if allow_parking and slot.resident.park():
                    state = "parked"
                else:
                    slot.resident.close()
        finally:
            with self._changed:
                if state == "absent":
                    slot.resident = None
                slot.state, slot.moving, slot.error = state, False, None
                self._changed.notify_all()

    def _free_mib(self) -> int:
        return self.budget_mib - sum(slot.held_mib for slot in self._slots.values())

    def _idle_oldest_first(self) -> list[Slot]:
        return sorted((s for s in self._slots.values() if s.evictable()), key=lambda s: s.last_used)


def _entry(slot: Slot, adapters: Callable[[Resident], tuple[str, ...]]) -> LedgerEntry:
    resident = slot.resident
    ready = slot.state == "ready" and resident is not None
    return LedgerEntry(
        name=slot.spec.name,
        kind=slot.spec.kind,
        state=slot.state,
        device=("cpu" if slot.state == "parked" else resident.device) if resident else "",
        mib=resident.mib if ready and resident else slot.reserved_mib,
        cache_mib=resident.cache_mib if ready and resident else 0,
        adapters=adapters(resident) if ready and resident else (),
        leases=slot.leases,
        progress=slot.progress,
        detail=slot.detail if slot.error is None else str(slot.error),
        one_at_a_time=bool(getattr(resident, "one_at_a_time", False)),
    )
