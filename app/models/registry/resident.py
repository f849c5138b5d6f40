"""Types of the memory manager: residents, how to load one, and the slot of each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from app.errors import StudioError, Unexpected
from app.models.interface import LedgerEntry, ReportProgress

Kind = Literal["chat", "vision", "embedder", "reranker", "trainer", "remote"]
State = Literal["absent", "downloading", "loading", "ready", "parked", "failed"]


class Resident(Protocol):
    """Something that holds memory. Sizes in MiB."""

    @property
    def mib(self) -> int: ...
    @property
    def cache_mib(self) -> int: ...
    @property
    def spare_mib(self) -> int:
        """What of the cache could be given back: all beyond its least."""
        ...

    @property
    def device(self) -> str: ...

    def close(self) -> None:
        """Give all memory back."""
        ...

    def park(self) -> bool:
        """Move to main memory; False where that would free nothing, so that closing is better."""
        ...

    def unpark(self, room_mib: int) -> None:
        """Back to its device, where its cache may take so much beside its least."""
        ...

    def shrink(self, mib: int, patience_s: float = 0.0) -> None:
        """Give so much of its cache back, down to its least, at a moment when no answer is written: for that it waits
        so many seconds at most."""
        ...

    def trim(self) -> None:
        """Give back what nobody uses now, such as idle adapters; the rest stays usable."""
        ...


@dataclass(frozen=True)
class ModelSpec:
    """How to get a resident: `fetch` may take long and needs no memory, `load` does.

    With `on_host` it runs in main memory, whatever the device of the models.
    """

    name: str
    kind: Kind
    needed_mib: Callable[[], int]
    load: Callable[[ReportProgress], Resident]
    fetch: Callable[[ReportProgress], None] = field(default=lambda _: None)
    on_host: bool = False


@dataclass
class Slot:
    """A resident's place in the account. `reserved_mib` is room that was made and is not yet filled."""

    spec: ModelSpec
    state: State = "absent"
    resident: Resident | None = None
    reserved_mib: int = 0
    leases: int = 0
    last_used: float = 0.0
    progress: float | None = None
    detail: str = ""
    error: Exception | None = None
    log: str = ""  # of the load that failed
    moving: bool = False
    unwanted: bool = False  # while it downloads

    @property
    def held_mib(self) -> int:
        if self.resident is None or self.state not in ("ready", "parked"):
            return self.reserved_mib
        cache = self.resident.cache_mib if self.state == "ready" else 0
        return self.resident.mib + cache + self.reserved_mib

    @property
    def on_host(self) -> bool:
        return self.spec.on_host or self.state == "parked"

    def evictable(self) -> bool:
        """Whether evicting it would make room."""
        return self.state in ("ready", "parked") and self.leases == 0 and not self.moving and self.held_mib > 0

    def forgettable(self) -> bool:
        return self.state in ("absent", "failed") and self.leases == 0 and not self.moving

    def entry(self, adapters: Callable[[Resident], tuple[str, ...]]) -> LedgerEntry:
        resident = self.resident
        ready = self.state == "ready" and resident is not None
        there = resident is not None and self.state in ("ready", "parked")
        detail, detail_zh = self.detail, ""
        if self.error is not None:
            known = self.error if isinstance(self.error, StudioError) else Unexpected()
            detail, detail_zh = known.text("en"), known.text("zh")
        return LedgerEntry(
            name=self.spec.name,
            kind=self.spec.kind,
            state=self.state,
            device=("cpu" if self.state == "parked" else resident.device) if resident else "",
            mib=resident.mib if there and resident else self.reserved_mib,
            cache_mib=resident.cache_mib if ready and resident else 0,
            adapters=adapters(resident) if ready and resident else (),
            leases=self.leases,
            progress=self.progress,
            detail=detail,
            detail_zh=detail_zh,
            sampling=getattr(resident, "sampling_defaults", None) if ready else None,
            log=self.log if self.state == "failed" else "",
            one_at_a_time=bool(getattr(resident, "one_at_a_time", False)),
            engine=str(getattr(resident, "engine_name", "")) if ready else "",
        )
