"""Model registry: lease, load and unload models by name, `base` or `base+adapter`. See `interface.Registry`."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from app.access.identity import belongs
from app.errors import ModelError, UnknownModel
from app.models.backends.hf_generate import GenerateEngine
from app.models.backends.llama_cpp.engine import LlamaEngine
from app.models.backends.llama_cpp.model import LlamaModel
from app.models.backends.openai_server.address import EngineAddress
from app.models.backends.openai_server.engine import RemoteEngine
from app.models.backends.openai_server.errors import NoWeightsHere
from app.models.backends.openai_server.model import RemoteModel
from app.models.catalog import known_models
from app.models.engine.engine import Engine
from app.models.engine.lora_files import AdapterGone
from app.models.interface import ChatModel, Drift, DriftStep, Fit, Ledger, LedgerEntry, Registry, ReportProgress
from app.models.registry.drift import prompts
from app.models.registry.drift_check import against_full
from app.models.registry.held_resource import HeldResource
from app.models.registry.memory_manager import Kind, MemoryManager, ModelSpec, Resident
from app.models.registry.metering import Meter
from app.models.registry.model_spec import LoadedEngine, ModelSpecs, RunsByLlama
from app.models.registry.placement import Placement
from app.models.registry.visitor_view import VisitorView

Held = TypeVar("Held")
HIDDEN = "(private)"  # stands in the ledger for the name of another visitor's model


class NoAdapters(ModelError):
    zh = "模型 {name} 的结构不能使用适配器。请换一个基座模型。"
    en = "The architecture of {name} takes no adapters. Choose another base model."


class UnknownModelHere(UnknownModel):
    zh = "没有名为 {name} 的模型。这台服务器可用的模型：{known}。"
    en = "There is no model named {name}. Models on this server: {known}."


class ModelRegistry:
    """The one owner of weights. Thread-safe.

    On a `private` server a tuned model is there only for who made it: ask what `for_visitor` gives; the registry itself
    answers as to a visitor whom nobody knows.
    With `listed_only` nothing but the default, the catalog and `engines` can be named: strangers on an open address
    must not look for folders of this machine, nor make it fetch repositories of their choice. `engines` run elsewhere.
    Drift is measured in answers to `drift_prompts`, without them to the twenty that ship.
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
        drift_prompts: Sequence[str] = (),
    ) -> None:
        self._engines = dict(engines or {})
        self._engine_context = engine_context
        self.meter = meter or Meter()
        self._listed_only = listed_only
        self.private = private
        self.placement = placement
        self.default_name = default_name
        self.memory_manager = MemoryManager(placement.budget_mib)
        self._adapters: dict[str, Path] = {}
        self._owners: dict[str, str] = {}
        self.specs = ModelSpecs(placement)
        self._drifts: dict[str, Drift] = {}
        self._drift_prompts = tuple(drift_prompts)
        self._one_check = threading.Lock()
        self._lock = threading.Lock()

    def for_visitor(self, visitor: str) -> Registry:
        return VisitorView(self, visitor)

    def may_use(self, name: str, visitor: str) -> bool:
        """Whether a model of this name, if there is one, is there for the visitor."""
        return not self.private or name == self.default_name or self._belongs(name, visitor)

    def names(self, visitor: str = "") -> list[str]:
        """The loaded ones with their adapters first, then the rest of the catalog."""
        ready = [e for e in self.ledger().models if e.state in ("ready", "parked")]
        loaded = [e.name for e in ready if e.kind in ("chat", "vision", "remote")]
        rest = [self.default_name, *self._engines, *self.specs.own_names(), *known_models.names()]
        bases = dict.fromkeys([*loaded, *rest])
        known = (name for base in bases for name in (base, *self._adapters_of(base)))
        return [name for name in known if self.may_use(name, visitor)]

    @contextmanager
    def lease(self, name: str, visitor: str = "") -> Iterator[ChatModel]:
        base, adapter = self._split(name, visitor)
        with self.memory_manager.lease(self._spec(base)) as resident:
            if isinstance(resident, LlamaEngine):
                if adapter:
                    raise RunsByLlama(name=name)
                yield self.meter.model(LlamaModel(resident))
            elif isinstance(resident, RemoteEngine):
                yield self.meter.model(self._remote_model(resident, name))
            else:
                with self._local_model(resident, name, adapter) as model:
                    yield self.meter.model(model)

    @contextmanager
    def hold(
        self,
        kind: Kind,
        name: str,
        mib: int,
        load_it: Callable[[ReportProgress], Held],
        device: str = "cpu",
        *,
        keep: bool = True,
    ) -> Iterator[Held]:
        """Lease anything else that needs memory: loaded once, `mib` on the account, evicted when idle and in the way.

        A trainer holds its room this way, without `keep`: what is idle is evicted first and comes back with its
        next lease, and the room is free again as soon as the trainer lets go. Content with a `mib` of its own is
        booked with that once it is loaded.
        """

        def boxed(report: ReportProgress) -> HeldResource:
            content = load_it(report)
            return HeldResource(content, int(getattr(content, "mib", mib)), device)

        spec = ModelSpec(name, kind, lambda: mib, boxed)
        try:
            with self.memory_manager.lease(spec) as resident:
                yield cast(Held, cast(HeldResource, resident).content)
        finally:
            if not keep:
                self.memory_manager.unload(name)

    def folder(self, name: str) -> Path:
        """The folder with a base's files, fetched first if they are not there yet. Raises NoWeightsHere."""
        base = self._split(name)[0]
        if base in self._engines:
            raise NoWeightsHere(name=base)
        return self.specs.folder(base)

    def load(self, name: str, visitor: str = "") -> None:
        self.memory_manager.bring_in_background(self._spec(self._split(name, visitor)[0]))

    def unload(self, name: str, visitor: str = "") -> None:
        self.memory_manager.unload(self._split(name, visitor)[0])

    def fit(self, name: str, visitor: str = "") -> Fit:
        base, _ = self._split(name, visitor)
        if base not in self._engines:
            self.specs.learn_size(base)
        fit = self.memory_manager.fit(self._spec(base))
        evicts = tuple(name if self._named_to(name, visitor) else HIDDEN for name in fit.evicts)
        return replace(fit, evicts=evicts, unpacks=base not in self._engines and self.specs.unpacks(base))

    def is_multimodal(self, name: str, visitor: str = "") -> bool | None:
        base, _ = self._split(name, visitor)
        if base in self._engines:
            return self._engines[base].is_multimodal
        card = self.specs.known(self.specs.chosen(base).card)
        return card.modality == "vision" if card.parameters else None

    def ledger(self, visitor: str | None = None) -> Ledger:
        """With what quantised models would hold at full precision, and how far they drift where that was checked.

        For a visitor without the names that others gave their models, adapters and trainings.
        """
        account = self.memory_manager.ledger(_adapters_in)
        entries = (self._quantised(entry) for entry in account.models)
        return replace(account, models=tuple(self._shown(e, visitor) if visitor is not None else e for e in entries))

    def check_drift(self, name: str, visitor: str = "") -> Generator[DriftStep | Drift, None, None]:
        """Raises NotQuantised, CannotScore; DoesNotFit where the full model does not fit beside what is in use."""
        base, _ = self._split(name, visitor)
        if base in self._engines:
            raise NoWeightsHere(name=base)
        with self._one_check:
            if base not in self._drifts:
                for step in against_full(self, self.specs, base, self._drift_prompts or prompts()):
                    if isinstance(step, Drift):
                        self._drifts[base] = step
                    else:
                        yield step
            yield self._drifts[base]

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
        """Forget an adapter. Raises ModelInUse while it is leased or a request runs with it."""
        base, _, adapter = name.rpartition("+")
        with self._lock:
            resident = self.memory_manager.resident(base)
            if isinstance(resident, LoadedEngine) and isinstance(resident.engine, Engine):
                resident.engine.remove_adapter(adapter)
            self._adapters.pop(name, None)
            self._owners.pop(name, None)

    def add_model(self, name: str, folder: Path, owner: str = "") -> None:
        """Make a folder of this machine a base of that name, its owner's or the server's. Raises NotAModel."""
        with self._lock:
            self.specs.add(name, folder)
            self._owners[name] = owner

    def remove_model(self, name: str) -> None:
        """Forget such a base and give its memory back. Raises ModelInUse."""
        for entry in self.memory_manager.ledger(_adapters_in).models:
            if known_models.split_precision(entry.name)[0] == name:
                self.memory_manager.unload(entry.name)
                self._drifts.pop(entry.name, None)
        with self._lock:
            self.specs.forget(name)
            self._owners.pop(name, None)

    def close(self) -> None:
        self.memory_manager.close()

    def _belongs(self, name: str, visitor: str) -> bool:
        return belongs(self._owners.get(known_models.split_precision(name)[0], ""), visitor)

    def _named_to(self, name: str, visitor: str) -> bool:
        """Whether a name in the memory account tells the visitor nothing that is another's."""
        kind = self.memory_manager.kind(name)
        return not (self.private and kind == "trainer") and self.may_use(name, visitor)

    def _shown(self, entry: LedgerEntry, visitor: str) -> LedgerEntry:
        if not self._named_to(entry.name, visitor):
            hidden = "trainer" if entry.kind == "trainer" else HIDDEN
            return replace(entry, name=hidden, adapters=(), detail="")
        seen = (name for name in entry.adapters if self.may_use(f"{entry.name}+{name}", visitor))
        return replace(entry, adapters=tuple(seen))

    def _quantised(self, entry: LedgerEntry) -> LedgerEntry:
        if entry.kind not in ("chat", "vision"):
            return entry
        full = self.specs.full_mib(entry.name)
        return replace(entry, full_mib=full, drift=self._drifts.get(entry.name)) if full else entry

    def _adapters_of(self, base: str) -> list[str]:
        """Checkpoints (`base+run@step`) can be leased, but would only crowd the lists."""
        if base in self._engines:
            engine = self.memory_manager.resident(base)
            return [f"{base}+{adapter}" for adapter in _adapters_in(engine)] if engine else []
        if self.specs.runs_by_llama(base):
            return []
        return [name for name in self._adapters if name.rpartition("+")[0] == base and "@" not in name]

    def _split(self, name: str, visitor: str = "") -> tuple[str, str | None]:
        """(base, adapter). Raises UnknownModel, for another's adapter just as for one that nobody has."""
        if name in self._adapters and self.may_use(name, visitor):
            base, _, adapter = name.rpartition("+")
            return base, adapter
        if self.specs.is_own(name) and self.may_use(name, visitor):
            return self.specs.chosen(name).name, None
        engine, _, remote_adapter = name.partition("+")
        if engine in self._engines:
            return engine, remote_adapter or None
        listed = dict.fromkeys((self.default_name, *self._engines, *known_models.names()))
        if self._listed_only and not {name, known_models.split_precision(name)[0]} & listed.keys():
            raise UnknownModelHere(name=name[:200], known=", ".join(listed))
        base, plus, adapter = name.rpartition("+")
        if plus and not Path(name).is_dir() and base in known_models.names():
            mine = [known for known in self._adapters if self.may_use(known, visitor)]
            raise UnknownModel(name=name, known=", ".join(mine or known_models.names()))
        if self.specs.is_own(name):  # another's
            raise UnknownModel(name=name[:200], known=", ".join(known_models.names()))
        return self.specs.chosen(name).name, None

    @contextmanager
    def _local_model(self, resident: Resident, name: str, adapter: str | None) -> Iterator[ChatModel]:
        engine = cast(LoadedEngine, resident).engine
        if adapter is None:
            yield engine
            return
        if isinstance(engine, GenerateEngine):
            raise NoAdapters(name=engine.name)
        with ExitStack() as held:
            with self._lock:  # nobody removes it between its coming and its lease
                if name not in self._adapters:
                    raise AdapterGone(name=name)
                if adapter not in engine.adapters.names():
                    engine.adapters.add(adapter, self._adapters[name])
                model = held.enter_context(engine.lease_adapter(adapter))
            yield model

    def _remote_model(self, engine: RemoteEngine, name: str) -> ChatModel:
        """The remote model, or an adapter that is served beside it."""
        adapter = name.partition("+")[2]
        if adapter and adapter not in engine.adapters():
            known = ", ".join(self._adapters_of(engine.address.name)) or engine.address.name
            raise UnknownModelHere(name=name[:200], known=known)
        return RemoteModel(engine, name, adapter)

    def _spec(self, base: str) -> ModelSpec:
        if base in self._engines:
            address = self._engines[base]
            return ModelSpec(
                name=base,
                kind="remote",
                needed_mib=lambda: 0,
                load=lambda _: RemoteEngine(address, self._engine_context).connect(),
            )
        return self.specs.spec(base)


def _adapters_in(resident: Resident) -> tuple[str, ...]:
    if isinstance(resident, RemoteEngine):
        return resident.adapters()
    return resident.engine.adapters.names() if isinstance(resident, LoadedEngine) else ()
