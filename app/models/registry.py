"""Every model of the process by name: `base` or `base+adapter`. See `interface.Registry`."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from app.errors import ModelError, UnknownModel
from app.models import catalog, memory, sources
from app.models.batching import can_batch
from app.models.catalog import ModelCard
from app.models.direct import DirectEngine
from app.models.engine import Engine, EngineOptions
from app.models.interface import ChatModel, Fit, Ledger, Registry
from app.models.loading import load
from app.models.metering import Meter
from app.models.placement import Placement
from app.models.remote.address import EngineAddress
from app.models.remote.engine import RemoteEngine
from app.models.remote.errors import NoWeightsHere
from app.models.remote.model import RemoteModel
from app.models.residence import Kind, Progress, Recipe, Residence, Resident
from app.models.visibility import SeenRegistry, belongs

Held = TypeVar("Held")
LEAST_CACHE_TOKENS = 4096
MOST_CACHE_TOKENS = 32768
CONVERSATIONS = 8  # full-length ones that the cache is sized for, where the budget allows


class NoAdapters(ModelError):
    zh = "模型 {name} 的结构不能使用适配器。请换一个基座模型。"
    en = "The architecture of {name} takes no adapters. Choose another base model."


class UnknownModelHere(UnknownModel):
    zh = "没有名为 {name} 的模型。这台服务器可用的模型：{known}。"
    en = "There is no model named {name}. Models on this server: {known}."


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


@dataclass
class Box:
    """Any other thing that takes its memory from the same account, such as an embedder."""

    content: object
    mib: int
    device: str
    cache_mib: int = 0

    def close(self) -> None:
        self.content = None
        memory.release()

    def park(self) -> bool:
        return False

    def unpark(self) -> None:
        raise RuntimeError("it was never parked")


class ModelRegistry:
    """The one owner of weights. Thread-safe.

    On a `private` server a tuned model is there only for who made it: ask what `seen_by` gives; the registry itself
    answers as to a visitor whom nobody knows.
    With `listed_only` nothing but the default, the catalog and `engines` can be named: strangers on an open address
    must not look for folders of this machine, nor make it fetch repositories of their choice. `engines` run elsewhere.
    """

    def __init__(
        self,
        placement: Placement,
        default_name: str,
        *,
        listed_only: bool = False,
        private: bool = False,
        meter: Meter | None = None,
        engines: Mapping[str, EngineAddress] | None = None,
        engine_context: int = 8192,
    ) -> None:
        self._engines = dict(engines or {})
        self._engine_context = engine_context
        self.meter = meter or Meter()
        self._listed_only = listed_only
        self.private = private
        self.placement = placement
        self.default_name = default_name
        self.residence = Residence(placement.budget_mib)
        self._adapters: dict[str, Path] = {}
        self._owners: dict[str, str] = {}
        self._fetched: dict[str, tuple[ModelCard, Path]] = {}
        self._lock = threading.Lock()

    def seen_by(self, visitor: str) -> Registry:
        return SeenRegistry(self, visitor)

    def may_use(self, name: str, visitor: str) -> bool:
        """Whether a model of this name, if there is one, is there for the visitor."""
        return not self.private or name == self.default_name or belongs(self._owners.get(name, ""), visitor)

    def names(self, visitor: str = "") -> list[str]:
        """The loaded ones with their adapters first, then the rest of the catalog."""
        ready = [e for e in self.ledger().models if e.state in ("ready", "parked")]
        loaded = [e.name for e in ready if e.kind in ("chat", "vision", "remote")]
        bases = dict.fromkeys([*loaded, self.default_name, *self._engines, *catalog.names()])
        known = (name for base in bases for name in (base, *self._adapters_of(base)))
        return [name for name in known if self.may_use(name, visitor)]

    @contextmanager
    def lease(self, name: str, visitor: str = "") -> Iterator[ChatModel]:
        base, adapter = self._split(name, visitor)
        with self.residence.lease(self._recipe(base)) as resident:
            if isinstance(resident, RemoteEngine):
                yield self.meter.model(self._far(resident, name))
            else:
                yield self.meter.model(self._near(resident, name, adapter))

    @contextmanager
    def hold(
        self,
        kind: Kind,
        name: str,
        mib: int,
        load_it: Callable[[Progress], Held],
        device: str = "cpu",
        *,
        keep: bool = True,
    ) -> Iterator[Held]:
        """Lease anything else that needs memory: loaded once, `mib` on the account, evicted when idle and in the way.

        A trainer holds its room this way, without `keep`: what is idle is evicted first and comes back with its
        next lease, and the room is free again as soon as the trainer lets go. Content with a `mib` of its own is
        booked with that once it is loaded.
        """

        def boxed(report: Progress) -> Box:
            content = load_it(report)
            return Box(content, int(getattr(content, "mib", mib)), device)

        recipe = Recipe(name, kind, lambda: mib, boxed)
        try:
            with self.residence.lease(recipe) as resident:
                yield cast(Held, cast(Box, resident).content)
        finally:
            if not keep:
                self.residence.unload(name)

    def folder(self, name: str) -> Path:
        """The folder with a base's files, fetched first if they are not there yet. Raises NoWeightsHere."""
        base = self._split(name)[0]
        if base in self._engines:
            raise NoWeightsHere(name=base)
        card = catalog.find(base)
        if card.name not in self._fetched:
            self._fetch(card, lambda _progress, _detail: None)
        return self._fetched[card.name][1]

    def load(self, name: str, visitor: str = "") -> None:
        self.residence.bring_in_background(self._recipe(self._split(name, visitor)[0]))

    def unload(self, name: str, visitor: str = "") -> None:
        self.residence.unload(self._split(name, visitor)[0])

    def fit(self, name: str, visitor: str = "") -> Fit:
        return self.residence.fit(self._recipe(self._split(name, visitor)[0]))

    def sees(self, name: str, visitor: str = "") -> bool | None:
        base, _ = self._split(name, visitor)
        if base in self._engines:
            return self._engines[base].sees
        card = self._known(catalog.find(base))
        return card.modality == "vision" if card.parameters else None

    def ledger(self) -> Ledger:
        return self.residence.ledger(_adapters_in)

    def add_adapter(self, name: str, folder: Path, owner: str = "") -> None:
        """Make `base+adapter` a model; its files are read at the first lease. Without an owner it is the server's.

        Raises UnknownModel, NoWeightsHere.
        """
        base, _ = self._split(name.rpartition("+")[0])
        if base in self._engines:
            raise NoWeightsHere(name=base)
        with self._lock:
            self._adapters[name], self._owners[name] = folder, owner

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter. Raises ModelInUse while a request runs with it."""
        base, _, adapter = name.rpartition("+")
        with self._lock:
            resident = self.residence.resident(base)
            if isinstance(resident, LoadedEngine) and isinstance(resident.engine, Engine):
                resident.engine.remove_adapter(adapter)
            self._adapters.pop(name, None)
            self._owners.pop(name, None)

    def close(self) -> None:
        self.residence.close()

    def _adapters_of(self, base: str) -> list[str]:
        """Checkpoints (`base+run@step`) can be leased, but would only crowd the lists."""
        if base in self._engines:
            engine = self.residence.resident(base)
            return [f"{base}+{adapter}" for adapter in _adapters_in(engine)] if engine else []
        return [name for name in self._adapters if name.rpartition("+")[0] == base and "@" not in name]

    def _split(self, name: str, visitor: str = "") -> tuple[str, str | None]:
        """(base, adapter). Raises UnknownModel, for another's adapter just as for one that nobody has."""
        if name in self._adapters and self.may_use(name, visitor):
            base, _, adapter = name.rpartition("+")
            return base, adapter
        far, _, there = name.partition("+")
        if far in self._engines:
            return far, there or None
        listed = dict.fromkeys((self.default_name, *self._engines, *catalog.names()))
        if self._listed_only and name not in listed:
            raise UnknownModelHere(name=name[:200], known=", ".join(listed))
        base, plus, adapter = name.rpartition("+")
        if plus and not Path(name).is_dir() and base in catalog.names():
            mine = [known for known in self._adapters if self.may_use(known, visitor)]
            raise UnknownModel(name=name, known=", ".join(mine or catalog.names()))
        return catalog.find(name).name, None

    def _near(self, resident: Resident, name: str, adapter: str | None) -> ChatModel:
        engine = cast(LoadedEngine, resident).engine
        if adapter is None:
            return engine
        if isinstance(engine, DirectEngine):
            raise NoAdapters(name=engine.name)
        with self._lock:
            if adapter not in engine.adapters.names():
                engine.adapters.add(adapter, self._adapters[name])
        return engine.with_adapter(adapter)

    def _far(self, engine: RemoteEngine, name: str) -> ChatModel:
        """The far model, or an adapter that is served beside it."""
        adapter = name.partition("+")[2]
        if adapter and adapter not in engine.adapters():
            known = ", ".join(self._adapters_of(engine.address.name)) or engine.address.name
            raise UnknownModelHere(name=name[:200], known=known)
        return RemoteModel(engine, name, adapter)

    def _recipe(self, base: str) -> Recipe:
        if base in self._engines:
            address = self._engines[base]
            return Recipe(
                name=base,
                kind="remote",
                needed_mib=lambda: 0,
                load=lambda _: RemoteEngine(address, self._engine_context).connect(),
            )
        card = catalog.find(base)
        return Recipe(
            name=card.name,
            kind="vision" if self._known(card).modality == "vision" else "chat",
            needed_mib=lambda: self._needed_mib(card),
            load=lambda report: self._load(card, report),
            fetch=lambda report: self._fetch(card, report),
        )

    def _known(self, card: ModelCard) -> ModelCard:
        """With what its files told, once they are here."""
        return self._fetched[card.name][0] if card.name in self._fetched else card

    def _needed_mib(self, card: ModelCard) -> int:
        weights = self._known(card).mib(self.placement.dtype, self.placement.quantise)
        return weights + min(catalog.WORKING_MIB, self.placement.budget_mib // 4)

    def _fetch(self, card: ModelCard, report: Progress) -> None:
        folder = sources.fetch(card, self.placement.data / "models", report)
        self._fetched[card.name] = catalog.measured(card, folder), folder

    def _load(self, card: ModelCard, report: Progress) -> Resident:
        where = self.placement
        card, folder = self._fetched[card.name]
        loaded = load(folder, card, where.device, where.dtype, where.quantise, report)
        if where.lent is not None:
            return LoadedEngine(where.lent.engine(card.name, loaded), "ZeroGPU", 0)
        if loaded.processor is not None or not can_batch(loaded.model):
            return LoadedEngine(DirectEngine(card.name, loaded), where.device, 0)
        room = min(catalog.WORKING_MIB, where.budget_mib // 4) * 2**20
        affordable = room // memory.cache_bytes_per_token(loaded.model)
        wanted = min(loaded.context_tokens * CONVERSATIONS, MOST_CACHE_TOKENS)
        options = EngineOptions(cache_tokens=max(LEAST_CACHE_TOKENS, min(wanted, affordable)))
        cache_mib = round(options.cache_tokens * memory.cache_bytes_per_token(loaded.model) / 2**20)
        return LoadedEngine(Engine(card.name, loaded, options), where.device, cache_mib)


def _adapters_in(resident: Resident) -> tuple[str, ...]:
    if isinstance(resident, RemoteEngine):
        return resident.adapters()
    return resident.engine.adapters.names() if isinstance(resident, LoadedEngine) else ()
