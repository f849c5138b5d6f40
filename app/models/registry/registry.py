"""Model registry: lease, load and unload models by name, `base` or `base+adapter`. See `interface.Registry`."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from app.errors import ModelInUse
from app.models.backends.llama_cpp.engine import LlamaEngine
from app.models.backends.llama_cpp.model import LlamaModel
from app.models.backends.openai_server.address import EngineAddress
from app.models.backends.openai_server.engine import RemoteEngine
from app.models.backends.openai_server.errors import NoWeightsHere
from app.models.backends.openai_server.launched_engine import LocalServerEngine
from app.models.backends.openai_server.model import RemoteModel
from app.models.catalog import known_models
from app.models.interface import (
    ChatModel,
    Drift,
    DriftStep,
    Fit,
    Ledger,
    LedgerEntry,
    Registry,
    ReportProgress,
    SamplingDefaults,
    Thinking,
)
from app.models.registry.drift_check import DriftChecks
from app.models.registry.fitting import Fitting
from app.models.registry.held_resource import HeldResource, held_spec
from app.models.registry.launched_spec import bases_served, engine_spec
from app.models.registry.loaded_engine import Adapter, LoadedEngine
from app.models.registry.memory_manager import MemoryManager
from app.models.registry.metering import Meter
from app.models.registry.model_names import HIDDEN, ModelNames, UnknownModelHere
from app.models.registry.model_spec import ModelSpecs, RunsByLlama
from app.models.registry.placement import Placement, remember_default
from app.models.registry.resident import Kind, ModelSpec, Resident
from app.models.registry.visitor_view import VisitorView
from app.openmp_threads import compute_alone

Held = TypeVar("Held")


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
        compute_alone()
        self._engines = dict(engines or {})
        self._engine_context = engine_context
        self.meter = meter or Meter()
        self.private = private
        self.placement = placement
        self.memory_manager = MemoryManager(placement.budget_mib, placement.host_mib)
        self.specs = ModelSpecs(placement, taken=self._engines, reserve_rest=self.memory_manager.reserve_rest)
        self.default_name = default_name if default_name in self._engines else self.specs.named(default_name)
        self._served = bases_served(self.specs, self._engines)
        self._names = ModelNames(
            self.specs,
            self._engines,
            self.default_name,
            listed_only=listed_only,
            private=private,
            served=self._served,
        )
        self._fitting = Fitting(self.memory_manager, self.specs, self._engines)
        self._drifts = DriftChecks(self, self.specs, tuple(drift_prompts))
        self._lock = threading.Lock()

    def for_visitor(self, visitor: str) -> Registry:
        return VisitorView(self, visitor)

    def may_use(self, name: str, visitor: str) -> bool:
        """Whether a model of this name, if there is one, is there for the visitor."""
        return self._names.may_use(name, visitor)

    def names(self, visitor: str = "") -> list[str]:
        """The loaded ones with their adapters first, then the rest of the catalog."""
        ready = [e for e in self.ledger().models if e.state in ("ready", "parked")]
        loaded = [e.name for e in ready if e.kind in ("chat", "vision", "remote")]
        known = (name for base in self._names.bases(loaded) for name in (base, *self._adapters_of(base)))
        return [name for name in known if self.may_use(name, visitor)]

    @contextmanager
    def lease(self, name: str, visitor: str = "", *, full_weights: bool = False) -> Iterator[ChatModel]:
        base, adapter = self._names.split(name, visitor)
        if full_weights and base not in self._engines:
            base = self.specs.with_full_weights(base, name)
        with self._fitting.lease(self._spec(base)) as resident:
            if isinstance(resident, LlamaEngine):
                if adapter:
                    raise RunsByLlama(name=name)
                yield self.meter.model(LlamaModel(resident))
            elif isinstance(resident, RemoteEngine):
                with self._remote_model(resident, name) as remote:
                    yield self.meter.model(remote)
            elif adapter is None:
                yield self.meter.model(cast(LoadedEngine, resident).engine)
            else:
                room = partial(self.memory_manager.room_for_more, base)
                with cast(LoadedEngine, resident).adapted(self._names.adapter(name), room) as model:
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
        try:
            with self.memory_manager.lease(held_spec(kind, name, mib, load_it, device)) as resident:
                yield cast(Held, cast(HeldResource, resident).content)
        finally:
            if not keep:
                self.memory_manager.unload(name)

    def folder(self, name: str) -> Path:
        """The folder with a base's files, fetched first if they are not there yet. Raises NoWeightsHere."""
        base = self._names.split(name)[0]
        if base in self._engines:
            raise NoWeightsHere(name=base)
        return self.specs.folder(base)

    def public_name(self, name: str) -> str:
        return self.specs.public(name)

    def named(self, base: str) -> str:
        """The public name of a base that the server itself works with: a path that has none yet gets one."""
        return self.specs.named(base)

    def takes_adapters(self, name: str) -> bool:
        """Whether a base is here with its full weights: neither a GGUF file alone nor an engine elsewhere."""
        return name not in self._engines and self.specs.takes_adapters(name)

    def load(self, name: str, visitor: str = "") -> None:
        """Raises DownloadFailed at once where the model is not here and its repository cannot be had."""
        base = self._names.split(name, visitor)[0]
        if base not in self._engines and self.memory_manager.state(base) in ("absent", "failed"):
            self.specs.require_source(base)
        self.memory_manager.bring_in_background(self._spec(base))

    def unload(self, name: str, visitor: str = "") -> None:
        base = self._names.split(name, visitor)[0]
        self.memory_manager.unload(base)
        if base not in self._engines and (full := self.specs.with_full_weights(base, name)) != base:
            with suppress(ModelInUse):
                self.memory_manager.unload(full)

    def fit(self, name: str, visitor: str = "") -> Fit:
        base, _ = self._names.split(name, visitor)
        if base not in self._engines:
            self.specs.learn_size(base)
        fit = self._fitting.fit(self._spec(base))
        kinds = {name: self.memory_manager.kind(name) for name in fit.evicts}
        evicts = tuple(name if self._names.may_read(name, kind, visitor) else HIDDEN for name, kind in kinds.items())
        unpacks = base not in self._engines and self.specs.unpacks(base)
        return replace(fit, evicts=evicts, unpacks=unpacks)

    def is_multimodal(self, name: str, visitor: str = "") -> bool | None:
        base, _ = self._names.split(name, visitor)
        if base in self._engines:
            return self._engines[base].is_multimodal
        card = self.specs.known(self.specs.chosen(base).card)
        return card.modality == "vision" if card.parameters else None

    def sampling_defaults(self, name: str, visitor: str = "") -> SamplingDefaults:
        base, _ = self._names.split(name, visitor)
        resident = self.memory_manager.resident(base)
        if isinstance(resident, LlamaEngine):
            return resident.sampling_defaults
        return SamplingDefaults() if base in self._engines else self.specs.sampling_defaults(base)

    def thinking(self, name: str, visitor: str = "") -> Thinking | None:
        base, _ = self._names.split(name, visitor)
        return "optional" if base in self._engines else self.specs.thinking(base)

    def ledger(self, visitor: str | None = None) -> Ledger:
        """With what quantised models would hold at full precision, and how far they drift where that was checked.

        For a visitor without the names that others gave their models, adapters and trainings.
        """
        account = self.memory_manager.ledger(_adapters_in)
        entries = [self._quantised(entry) for entry in account.models]
        if visitor is not None:
            entries = [self._names.shown(entry, visitor) for entry in entries]
        return replace(account, models=tuple(entries))

    def check_drift(self, name: str, visitor: str = "") -> Generator[DriftStep | Drift, None, None]:
        """Raises NotQuantised, CannotScore; DoesNotFit where the full model does not fit beside what is in use."""
        base, _ = self._names.split(name, visitor)
        if base in self._engines:
            raise NoWeightsHere(name=base)
        yield from self._drifts.check(base)

    def use(self, name: str) -> None:
        """Make a model the one that is used where none is named, after a restart too."""
        self.default_name = self._names.default_name = self._names.split(name)[0]
        remember_default(self.placement.data, self.default_name)

    def add_adapter(self, name: str, folder: Path, owner: str = "") -> None:
        """Make `base+adapter` a model; its files are read at the first lease. Without an owner it is the server's.

        Raises UnknownModel, NoWeightsHere; ModelInUse where it takes the place of one that is leased.
        """
        base, _ = self._names.split(name.rpartition("+")[0])
        if base in self._engines:
            raise NoWeightsHere(name=base)
        with self._lock:
            self._forget_adapter(name)
            self._names.add(name, Adapter(name.rpartition("+")[2], folder), owner)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter. Raises ModelInUse while it is leased or a request runs with it."""
        with self._lock:
            self._forget_adapter(name)

    def _forget_adapter(self, name: str) -> None:
        adapter, plain = self._names.find_adapter(name), self.specs.public(name).rpartition("+")[0]
        if adapter is None:
            return
        adapter.refuse_if_leased(plain)
        resident = self.memory_manager.resident(self.specs.adapter_base(plain))
        if isinstance(resident, LoadedEngine):
            resident.forget(adapter)
        for engine, base in self._served.items():
            served = self.memory_manager.resident(engine)
            if base == known_models.split_precision(plain)[0] and isinstance(served, LocalServerEngine):
                served.withdraw(adapter.name)
        self._names.forget(name)

    def add_model(self, name: str, path: Path, owner: str = "") -> None:
        """Make a folder or a GGUF file of this machine a base of that name, its owner's or the server's.

        Raises NotAModel.
        """
        with self._lock:
            self.specs.add(name, path)
            self._names.add(name, None, owner)

    def remove_model(self, name: str) -> None:
        """Forget such a base and give its memory back. Raises ModelInUse."""
        for entry in self.memory_manager.ledger(_adapters_in).models:
            if known_models.split_precision(entry.name)[0] == name:
                self.memory_manager.unload(entry.name)
                self._drifts.forget(entry.name)
        with self._lock:
            self.specs.forget(name)
            self._names.forget(name)

    def close(self) -> None:
        self.memory_manager.close()

    def _quantised(self, entry: LedgerEntry) -> LedgerEntry:
        if entry.kind not in ("chat", "vision") or entry.name in self._engines:
            return entry
        full = self.specs.full_mib(entry.name)
        return replace(entry, full_mib=full, drift=self._drifts.known(entry.name)) if full else entry

    def _adapters_of(self, base: str) -> list[str]:
        """`base+adapter` of each."""
        if base in self._engines:
            engine = self.memory_manager.resident(base)
            listed = [f"{base}+{adapter}" for adapter in _adapters_in(engine)] if engine else []
            return list(dict.fromkeys((*listed, *self._names.adapters_of(base))))
        return self._names.adapters_of(base)

    @contextmanager
    def _remote_model(self, engine: RemoteEngine, name: str) -> Iterator[ChatModel]:
        """The remote model, or an adapter served beside it: the server's own, or one of ours that it is given."""
        adapter = name.partition("+")[2]
        ours = self._names.find_adapter(name) if isinstance(engine, LocalServerEngine) else None
        if ours is not None:
            with cast(LocalServerEngine, engine).adapted(ours.name, ours.folder):
                yield RemoteModel(engine, name, ours.name)
            return
        if adapter and adapter not in engine.adapters():
            known = ", ".join(self._adapters_of(engine.address.name)) or engine.address.name
            raise UnknownModelHere(name=name[:200], known=known)
        yield RemoteModel(engine, name, adapter)

    def _spec(self, base: str) -> ModelSpec:
        if base in self._engines:
            return engine_spec(self._engines[base], self.placement, self._engine_context)
        return self.specs.spec(base)


def _adapters_in(resident: Resident) -> tuple[str, ...]:
    """Without checkpoints of a training (`run@step`), which would crowd the lists."""
    if not isinstance(resident, RemoteEngine | LoadedEngine):
        return ()
    return tuple(name for name in resident.adapters() if "@" not in name)
