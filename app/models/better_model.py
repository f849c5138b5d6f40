"""Recommend better models for this machine (memory, disk, device, expected speed), fetch one, make it the default."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from huggingface_hub import constants

from app.errors import StudioError
from app.models.catalog import known_models, sources
from app.models.catalog.atomic_folder import free_bytes
from app.models.interface import LedgerEntry
from app.models.registry.placement import hub_answers
from app.models.registry.registry import ModelRegistry
from app.openmp_threads import all_cores

# Best first; all speak Chinese and English. On processors GGUF files, of those that are fast enough to read along.
ON_GPU = ("internlm3-8b", "internlm3-8b:4bit", "qwen3-8b", "qwen3-4b-2507", "internlm2.5-1.8b", "qwen3-1.7b")
ON_PROCESSOR = (
    "qwen3-30b-a3b-2507-gguf",
    "internlm3-8b-gguf",
    "qwen3-8b-gguf",
    "qwen3-4b-2507-gguf",
    "internlm2.5-1.8b-gguf",
    "qwen3-1.7b-gguf",
    "qwen3-0.6b-gguf",
)
MOST_OFFERS = 3
READABLE = 5.0  # tokens a second
SMALL_MIB = 2048  # up to this size a model is offered however slow the machine is
# A step reads every weight once; of the bandwidth of one plain product, models reach about this share.
REACHED = 0.8
PROBE_ROWS = 4096  # of a square matrix: 64 MiB, more than processors cache
HUB_ASKED_S = 60.0  # for how long an answer of the hub, or none, is believed


@dataclass(frozen=True)
class Offer:
    """A model that this machine could run. `mib` is what it holds in memory or on disk, whichever is known;
    `tokens_per_second` is expected for one person, 0 where nothing can be said."""

    name: str
    mib: int
    tokens_per_second: float
    licence: str
    note_zh: str
    note_en: str
    is_here: bool


@dataclass(frozen=True)
class Fetching:
    """How the wanted model comes: `state` is the ledger's, or absent once it was stopped."""

    name: str
    state: str
    progress: float
    reason_zh: str = ""
    reason_en: str = ""


class BetterModel:
    """What could run here in place of the packaged model, and the one that was asked for. Thread-safe."""

    def __init__(
        self,
        registry: ModelRegistry,
        *,
        bandwidth: Callable[[], float] | None = None,
        hub: Callable[[], bool] = hub_answers,
    ) -> None:
        self._registry = registry
        self._bandwidth = bandwidth or (lambda: memory_bandwidth(registry.placement.device))
        self._hub = hub
        self._hub_asked: tuple[float, bool] | None = None
        self._measured = 0.0
        self._wanted = ""
        self._lock = threading.Lock()

    @property
    def needed(self) -> bool:
        """Whether the packaged model is what runs."""
        return known_models.is_packaged(self._registry.default_name)

    @property
    def hub_host(self) -> str:
        """The hub, or the mirror in its place."""
        return constants.ENDPOINT.partition("://")[2]

    def hub_answers(self) -> bool:
        """Whether the hub can be reached; asked again after a minute."""
        with self._lock:
            if self._hub_asked is None or time.monotonic() - self._hub_asked[0] > HUB_ASKED_S:
                self._hub_asked = time.monotonic(), self._hub()
            return self._hub_asked[1]

    def offers(self) -> list[Offer]:
        """The best first: those that fit memory and disk, the larger ones only where they answer fast enough."""
        with self._lock:
            self._measured = self._measured or self._bandwidth()
        ladder = ON_GPU if self._registry.placement.device == "cuda" else ON_PROCESSOR
        fitting = [offer for offer in map(self._offer, ladder) if offer is not None]
        good = [offer for offer in fitting if offer.tokens_per_second >= READABLE or offer.mib <= SMALL_MIB]
        return good[:MOST_OFFERS]

    def _offer(self, name: str) -> Offer | None:
        """None where it does not fit the machine."""
        plain, precision = known_models.split_precision(name)
        card, ledger = known_models.find(plain), self._registry.ledger()
        try:
            needed = self._registry.fit(name).needed_mib
        except StudioError:
            return None
        mib = card.mib("bfloat16", precision or None, self._registry.placement.device)
        here = sources.is_here(card)
        on_disk = card.mib("bfloat16", None) * 2**20
        if needed > ledger.budget_mib or (not here and on_disk > free_bytes(Path(constants.HF_HUB_CACHE))):
            return None
        share = card.active_parameters / card.parameters if card.active_parameters else 1.0
        speed = REACHED * self._measured / (mib * share * 2**20)
        return Offer(name, mib, speed, card.licence, card.note_zh, card.note_en, here)

    def start(self, name: str) -> None:
        """Fetch and load it; once it is ready it is the default. Raises what loading raises at once."""
        self._wanted = name
        self._registry.load(name)

    def stop(self) -> None:
        """End the download; what has come stays on disk, and the next start goes on from there."""
        name, self._wanted = self._wanted, ""
        if name:
            self._registry.unload(name)

    def fetching(self) -> Fetching | None:
        """How the wanted model comes, None where none is wanted; one that is ready becomes the default here."""
        name = self._wanted
        if not name:
            return None
        entry = next((one for one in self._registry.ledger().models if one.name == name), None)
        if entry is not None and entry.state == "ready":
            self._registry.use(name)
            self._wanted = ""
        elif entry is not None and entry.state == "failed":
            self._wanted = ""
        return _fetching(name, entry)


def _fetching(name: str, entry: LedgerEntry | None) -> Fetching:
    if entry is None:
        return Fetching(name, "absent", 0.0)
    found = Fetching(name, entry.state, entry.progress or 0.0)
    return replace(found, reason_zh=entry.detail_zh, reason_en=entry.detail) if entry.state == "failed" else found


def memory_bandwidth(device: str) -> float:
    """Bytes a second that a product of a large matrix and a vector reads, the best of a few."""
    matrix, vector = torch.ones(PROBE_ROWS, PROBE_ROWS, device=device), torch.ones(PROBE_ROWS, device=device)
    best = 0.0
    with all_cores():
        for _ in range(8):
            began = time.perf_counter()
            float((matrix @ vector)[0])  # waits for the device
            best = max(best, matrix.nbytes / (time.perf_counter() - began))
    return best
