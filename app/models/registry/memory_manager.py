"""Model memory manager: single-flight loading, memory budget, LRU eviction and parking.

The account is kept by what residents say they hold. One load runs at a time; downloads do not wait for it.
"""

import gc
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

from app.errors import DoesNotFit, ModelError, ModelInUse
from app.models.interface import Fit, Ledger
from app.models.registry.device_memory import working_mib
from app.models.registry.memory_account import MemoryAccount
from app.models.registry.resident import Kind, ModelSpec, Resident, Slot, State

log = logging.getLogger(__name__)
FAILED_SHOWN_S = 600.0
PATIENCE_S = 20.0  # for a moment at which a model writes no answer and its cache can be made smaller
LOG_KEPT = 8000  # characters
FAILED_SHOWN = 3  # at most so many failed loads stand in the ledger


class DownloadStopped(ModelError):
    zh = "模型 {name} 的下载已停止；再次加载会从断点继续。"
    en = "The download of {name} was stopped. Loading it again resumes where it stopped."


class LargerThanBudget(DoesNotFit):
    zh = "模型 {name} 需要 {needed_mib} MiB，而所有模型总共只能用 {budget_mib} MiB，卸载其他模型也不够。请换小一些的。"
    en = (
        "The model {name} needs {needed_mib} MiB, and all models together may use {budget_mib}; unloading others"
        " would not be enough. Choose a smaller one."
    )


class MemoryManager:
    """The slots of one process, within `budget_mib` of the models' device.

    `host_mib` is the account of main memory beside a GPU, for what is parked and for what runs there; None where
    models run in main memory themselves: then there is one account, and nothing is parked.
    """

    def __init__(
        self, budget_mib: int, host_mib: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget_mib = budget_mib
        self.host_mib = host_mib
        self._clock = clock
        self._slots: dict[str, Slot] = {}
        self._account = MemoryAccount(self._slots, budget_mib, host_mib)
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
                slot.last_used = self._clock()
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

    @contextmanager
    def room_for_more(self, name: str, mib: int) -> Iterator[None]:
        """Reserve `mib` beside what a leased resident holds, until the block has filled it. Raises DoesNotFit."""
        slot = self._slots[name]
        self._make_room(slot, mib)
        try:
            yield
        finally:
            with self._changed:
                slot.reserved_mib -= mib

    def reserve_rest(self, name: str) -> int:
        """What is free beside the room that adapters, embedders and the like need, in MiB: reserved for one that is
        being brought in, until it is there."""
        with self._changed:
            slot = self._slots[name]
            rest = max(0, self._account.free_mib(slot.on_host) - working_mib(self._account.budget(slot.on_host)))
            slot.reserved_mib += rest
        return rest

    def fit(self, spec: ModelSpec) -> Fit:
        """Whether it would fit, and which idle residents would make room."""
        needed = spec.needed_mib()
        with self._changed:
            if (slot := self._slots.get(spec.name)) and slot.state == "ready":
                return Fit(slot.held_mib, self._account.free_mib(slot.on_host), fits=True)
            spare = sum(slot.resident.spare_mib for slot in self._account.with_spare(spec.on_host) if slot.resident)
            free, evicted = self._account.free_mib(spec.on_host) + spare, []
            for slot in self._account.idle_oldest_first(spec.on_host):
                if free >= needed:
                    break
                free += slot.held_mib - (slot.resident.spare_mib if slot.resident else 0)
                evicted.append(slot.spec.name)
        return Fit(needed, free, fits=free >= needed, evicts=tuple(evicted) if free >= needed else ())

    def ledger(self, adapters: Callable[[Resident], tuple[str, ...]]) -> Ledger:
        with self._changed:
            self._forget_old()
            entries = tuple(slot.entry(adapters) for slot in self._slots.values() if slot.state != "absent")
            used = self.budget_mib - self._account.free_mib(host=False)
        return Ledger(self.budget_mib, used, entries)

    def resident(self, name: str) -> Resident | None:
        """The resident if it is ready now, without holding it."""
        slot = self._slots.get(name)
        return slot.resident if slot and slot.state == "ready" else None

    def state(self, name: str) -> State:
        slot = self._slots.get(name)
        return slot.state if slot else "absent"

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
            self._forget_old()
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
                raise _copied(slot.error)
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
                parked = slot.resident if was_parked else None
                self._make_room(slot, max(slot.spec.needed_mib(), parked.mib + parked.cache_mib if parked else 0))
                if parked is not None:
                    parked.unpark(self.reserve_rest(slot.spec.name))
                slot.resident = resident = parked or slot.spec.load(report)
        except Exception as error:
            self._fail(slot, error)
            raise
        self._settle(slot, "ready", None)
        return resident

    def _fail(self, slot: Slot, error: Exception) -> None:
        if slot.resident is not None:  # it was parked
            with suppress(Exception):
                slot.resident.close()
        slot.log = "".join(traceback.format_exception(error))[-LOG_KEPT:]
        _release_frames(error)
        self._settle(slot, "absent" if isinstance(error, DownloadStopped) else "failed", _copied(error))

    def _settle(self, slot: Slot, state: State, error: Exception | None) -> None:
        with self._changed:
            slot.state, slot.error, slot.progress, slot.reserved_mib = state, error, None, 0
            slot.detail = ""
            if state != "ready":
                slot.resident, slot.last_used = None, self._clock()
            self._changed.notify_all()

    def _make_room(self, slot: Slot, needed: int) -> None:
        """Reserve `needed` MiB: caches give back what they can spare, then what is idle goes, then caches and adapters
        of what is in use. Raises DoesNotFit."""
        host = slot.spec.on_host
        patient = partial(self._shrink_caches, host, needed, PATIENCE_S)
        last_resorts: Iterator[Callable[[], None]] = iter((patient, self._trim))
        self._shrink_caches(host, needed, 0.0)
        while True:
            with self._changed:
                free = self._account.free_mib(host)
                if free >= needed:
                    slot.reserved_mib += needed
                    return
                idle = next(iter(self._account.idle_oldest_first(host)), None)
                last_resort = None if idle else next(last_resorts, None)
                if idle is not None:
                    idle.moving = True
                elif last_resort is None:
                    budget = self._account.budget(host)
                    refusal = LargerThanBudget if needed > budget else DoesNotFit
                    raise refusal(name=slot.spec.name, needed_mib=needed, free_mib=free, budget_mib=budget)
            if idle is not None:
                self._let_go(idle, allow_parking=True)
            elif last_resort is not None:
                last_resort()

    def _trim(self) -> None:
        for resident in [other.resident for other in list(self._slots.values()) if other.state == "ready"]:
            if resident is not None:
                resident.trim()

    def _shrink_caches(self, host: bool, needed: int, patience_s: float) -> None:
        for slot in self._account.with_spare(host):
            missing, resident = needed - self._account.free_mib(host), slot.resident
            if missing <= 0:
                return
            if resident is not None:
                resident.shrink(missing, patience_s)

    def _let_go(self, slot: Slot, allow_parking: bool) -> None:
        state: State = "absent"
        try:
            if slot.resident is not None:
                may_park = allow_parking and not slot.on_host and self._has_host_room(slot.resident.mib)
                if may_park and slot.resident.park():
                    state = "parked"
                else:
                    slot.resident.close()
        finally:
            with self._changed:
                if state == "absent":
                    slot.resident = None
                slot.state, slot.moving, slot.error = state, False, None
                self._changed.notify_all()

    def _has_host_room(self, mib: int) -> bool:
        """Whether `mib` fits into main memory, dropping what has been parked there longest."""
        while self.host_mib is not None:
            with self._changed:
                if self._account.free_mib(host=True) >= mib:
                    return True
                parked = [slot for slot in self._account.idle_oldest_first(host=True) if slot.state == "parked"]
                if not parked:
                    return False
                parked[0].moving = True
            self._let_go(parked[0], allow_parking=False)
        return False

    def _forget_old(self) -> None:
        """Drop what is absent, and failures that are old or many. The lock is held."""
        failed = [slot for slot in self._slots.values() if slot.state == "failed"]
        newest = sorted(failed, key=lambda slot: -slot.last_used)[:FAILED_SHOWN]
        since = self._clock() - FAILED_SHOWN_S
        for name, slot in list(self._slots.items()):
            recent = slot.last_used >= since and any(slot is other for other in newest)
            if slot.forgettable() and not (slot.state == "failed" and recent):
                del self._slots[name]


def _release_frames(error: BaseException) -> None:
    """Free what the frames of an error hold: weights that were half loaded."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()


def _copied(error: Exception) -> Exception:
    """The same error without its traceback: each who waits raises one of his own."""
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    return copied
