"""From a base's name to what is loaded for it: which files, at which precision, by which engine, how large."""

from dataclasses import replace
from pathlib import Path

from app.models import catalog, memory, sources
from app.models.batching import can_batch
from app.models.catalog import Chosen, ModelCard
from app.models.direct import DirectEngine
from app.models.engine import Engine, EngineOptions
from app.models.loading import load
from app.models.placement import Placement
from app.models.residence import Progress, Recipe, Resident

LEAST_CACHE_TOKENS = 4096
MOST_CACHE_TOKENS = 32768
CONVERSATIONS = 8  # full-length ones that the cache is sized for, where the budget allows


class LoadedEngine:
    """An engine as a resident of the memory account."""

    def __init__(self, engine: Engine | DirectEngine, device: str, cache_mib: int) -> None:
        self.engine = engine
        self.device = device
        self.mib = engine.loaded.mib
        self.cache_mib = cache_mib

    def close(self) -> None:
        self.engine.close()
        del self.engine
        memory.release()

    def park(self) -> bool:
        if self.device == "cpu" or isinstance(self.engine, DirectEngine):
            return False
        self.engine.park()
        memory.release()
        return True

    def unpark(self) -> None:
        if isinstance(self.engine, Engine):
            self.engine.unpark(self.device)


class Recipes:
    """How each base is had on this machine. Thread-safe."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self._fetched: dict[str, tuple[ModelCard, Path]] = {}

    def chosen(self, name: str) -> Chosen:
        """Raises UnknownModel or NotAModel."""
        return catalog.chosen(name, self.placement.quantise)

    def recipe(self, name: str) -> Recipe:
        chosen = self.chosen(name)
        return Recipe(
            name=chosen.name,
            kind="vision" if self.known(chosen.card).modality == "vision" else "chat",
            needed_mib=lambda: self._needed_mib(chosen),
            load=lambda report: self._load(chosen, report),
            fetch=lambda report: self._fetch(chosen.card, report),
        )

    def known(self, card: ModelCard) -> ModelCard:
        """With what its files told, once they are here."""
        return self._fetched[card.name][0] if card.name in self._fetched else card

    def folder(self, name: str) -> Path:
        """The folder with a base's files, fetched first if they are not there yet."""
        card = self.chosen(name).card
        if card.name not in self._fetched:
            self._fetch(card, lambda _progress, _detail: None)
        return self._fetched[card.name][1]

    def full_mib(self, name: str) -> int:
        """What a quantised base's weights would hold at full precision; 0 for one that is not quantised."""
        chosen = self.chosen(name)
        return self.known(chosen.card).mib(self.placement.dtype, None) if chosen.quantise else 0

    def _needed_mib(self, chosen: Chosen) -> int:
        weights = self.known(chosen.card).mib(self.placement.dtype, chosen.quantise)
        return weights + min(catalog.WORKING_MIB, self.placement.budget_mib // 4)

    def _fetch(self, card: ModelCard, report: Progress) -> None:
        folder = sources.fetch(card, self.placement.data / "models", report)
        self._fetched[card.name] = catalog.measured(card, folder), folder

    def _load(self, chosen: Chosen, report: Progress) -> Resident:
        where = self.placement
        card, folder = self._fetched[chosen.card.name]
        loaded = load(folder, replace(card, name=chosen.name), where.device, where.dtype, chosen.quantise, report)
        if where.lent is not None:
            return LoadedEngine(where.lent.engine(chosen.name, loaded), "ZeroGPU", 0)
        if loaded.processor is not None or not can_batch(loaded.model):
            return LoadedEngine(DirectEngine(chosen.name, loaded), where.device, 0)
        room = min(catalog.WORKING_MIB, where.budget_mib // 4) * 2**20
        affordable = room // memory.cache_bytes_per_token(loaded.model)
        wanted = min(loaded.context_tokens * CONVERSATIONS, MOST_CACHE_TOKENS)
        options = EngineOptions(cache_tokens=max(LEAST_CACHE_TOKENS, min(wanted, affordable)))
        cache_mib = round(options.cache_tokens * memory.cache_bytes_per_token(loaded.model) / 2**20)
        return LoadedEngine(Engine(chosen.name, loaded, options), where.device, cache_mib)
