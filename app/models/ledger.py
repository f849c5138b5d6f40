"""Memory account of all models as data: what each one holds, whether another fits, how far a quantised one drifts."""

from dataclasses import dataclass
from typing import Literal

from app.models.sampling import SamplingDefaults


@dataclass(frozen=True)
class Drift:
    """How far a model's answers are from another's: the mean Kullback-Leibler divergence of the next token in nats
    (0: none), and the share of places where both find the same token most likely."""

    mean_kl: float
    same_choice: float
    places: int


@dataclass(frozen=True)
class DriftStep:
    """How far a drift check is: the full model answers first, then the quantised one is compared with it."""

    model: Literal["full", "quantised"]
    done: int
    total: int


@dataclass(frozen=True)
class LedgerEntry:
    """What one model holds now. Memory in MiB; `progress` is 0 to 1 while downloading or loading, else None.

    `full_mib` is what a quantised model's weights would hold at full precision, 0 for others. `one_at_a_time`: its
    requests wait for one another, as a batch would not answer like the model itself.
    """

    name: str
    kind: Literal["chat", "vision", "embedder", "reranker", "trainer", "remote"]
    state: Literal["absent", "downloading", "loading", "ready", "parked", "failed"]
    device: str
    mib: int
    cache_mib: int
    adapters: tuple[str, ...]
    leases: int
    progress: float | None = None
    detail: str = ""
    detail_zh: str = ""  # where `detail` is why it failed
    engine: str = ""  # what runs it: torch, generate, llama.cpp
    full_mib: int = 0
    drift: Drift | None = None
    one_at_a_time: bool = False
    sampling: SamplingDefaults | None = None  # of a model that is ready
    log: str = ""  # of a failed load, for whoever runs the server


@dataclass(frozen=True)
class Ledger:
    """The memory account over all tabs, in MiB."""

    budget_mib: int
    used_mib: int
    models: tuple[LedgerEntry, ...]


@dataclass(frozen=True)
class Fit:
    """Whether a model would fit, before loading it; `evicts` names the idle models that would make room. One that
    `unpacks` is smaller in its files than in memory. Where it does not fit, `alternative` names one that would."""

    needed_mib: int
    free_mib: int
    fits: bool
    evicts: tuple[str, ...] = ()
    unpacks: bool = False
    alternative: str = ""
