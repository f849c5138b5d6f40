"""Model registry: lease, load and unload models by name, `base` or `base+adapter`. See `interface.Registry`."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from app.errors import DoesNotFit, ModelInUse
from app.models.backends.llama_cpp.engine import LlamaEngine
from app.models.backends.llama_cpp.model import LlamaModel
from app.models.backends.openai_server.address import EngineAddress
from app.models.backends.openai_server.engine import RemoteEngine
from app.models.backends.openai_server.errors import NoWeightsHere
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
from app.models.registry.drift import prompts
from app.models.registry.drift_check import against_full
from app.models.registry.held_resource import HeldResource
from app.models.registry.launched_spec import launched_spec
from app.models.registry.loaded_engine import Adapter, LoadedEngine
from app.models.registry.memory_manager import MemoryManager
from app.models.registry.metering import Meter
from app.models.registry.model_names import ModelNames, UnknownModelHere
from app.models.registry.model_spec import ModelSpecs, RunsByLlama
from app.models.registry.placement import Placement, remember_default
from app.models.registry.resident import Kind, ModelSpec, Resident
from app.models.registry.visitor_view import VisitorView

Held = TypeVar("Held")
HIDDEN = "(private)"  # stands in the ledger for the name of another visitor's model


class FitsQuantised(DoesNotFit):
    zh = "模型 {name} 需要 {needed_mib} MiB，可用 {free_mib} MiB。它的量化版本 {alternative} 放得下，请选择它。"
    en = (
        "The model {name} needs {needed_mib} MiB and {free_mib} MiB are free."
        " Quantised, as {alternative}, it fits: choose that."
    )


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
        self.private = private
        self.placement = placement
        self.memory_manager = MemoryManager(placement.budget_mib, placement.host_mib)
        self.specs = ModelSpecs(placement, taken=self._engines)
        self.default_name = default_name if default_name in self._engines else self.specs.named(default_name)
        self._names = ModelNames(self.specs, self._engines, self.default_name, listed_only=listed_only, private=private)
        self._drifts: dict[str, Drift] = {}
        self._drift_prompts = tuple(drift_prompts)
        self._one_check = threading.Lock()
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
        with self._held(base) as resident:
            if isinstance(resident, LlamaEngine):
                if adapter:
                    raise RunsByLlama(name=name)
                yield self.meter.model(LlamaModel(resident))
            elif isinstance(resident, RemoteEngine):
                yield self.meter.model(self._remote_model(resident, name))
            elif adapter is None:
                yield self.meter.model(cast(LoadedEngine, resident).engine)
            else:
                room = partial(self.memory_manager.room_for_more, base)
                with cast(LoadedEngine, resident).adapted(self._names.adapter(name), room) as model:
                    yield self.meter.model(model)

    @contextmanager
    def _held(self, base: str) -> Iterator[Resident]:
        """Raises DoesNotFit, with the name of a quantised variant that would fit."""
        lease = self.memory_manager.lease(self._spec(base))
        try:
            resident = lease.__enter__()
        except DoesNotFit as error:
            if alternative := self._alternative(base):
                raise FitsQuantised(**error.values | {"alternative": alternative}) from None
            raise
        with ExitStack() as ended:
            ended.push(lease)
            yield resident

    def _alternative(self, base: str) -> str:
        """A quantised variant of a base that would fit now; empty where there is none."""
        if base in self._engines:
            return ""
        for name in self.specs.quantised_variants(base):
            if self.memory_manager.fit(self.specs.spec(name)).fits:
                return name
        return ""

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

        spec = ModelSpec(name, kind, lambda: mib, boxed, on_host=device == "cpu")
        try:
            with self.memory_manager.lease(spec) as resident:
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

    def public_name(self, base: str) -> str:
        """What all see a base called: of one that is given by a path the last part."""
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
        fit = self.memory_manager.fit(self._spec(base))
        evicts = tuple(name if self._named_to(name, visitor) else HIDDEN for name in fit.evicts)
        unpacks = base not in self._engines and self.specs.unpacks(base)
        return replace(fit, evicts=evicts, unpacks=unpacks, alternative="" if fit.fits else self._alternative(base))

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
        entries = (self._quantised(entry) for entry in account.models)
        return replace(account, models=tuple(self._shown(e, visitor) if visitor is not None else e for e in entries))

    def check_drift(self, name: str, visitor: str = "") -> Generator[DriftStep | Drift, None, None]:
        """Raises NotQuantised, CannotScore; DoesNotFit where the full model does not fit beside what is in use."""
        base, _ = self._names.split(name, visitor)
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
                self._drifts.pop(entry.name, None)
        with self._lock:
            self.specs.forget(name)
            self._names.forget(name)

    def close(self) -> None:
        self.memory_manager.close()

    def _named_to(self, name: str, visitor: str) -> bool:
        """Whether a name in the memory account tells the visitor nothing that is another's."""
        kind = self.memory_manager.kind(name)
        return not (self.private and kind == "trainer") and self.may_use(name, visitor)

    def _shown(self, entry: LedgerEntry, visitor: str) -> LedgerEntry:
        if not self._named_to(entry.name, visitor):
            hidden = "trainer" if entry.kind == "trainer" else HIDDEN
            return replace(entry, name=hidden, adapters=(), detail="")
        plain = self.specs.listed_name(entry.name)
        if self.private:
            entry = replace(entry, log="", name=known_models.without_path(entry.name))
        seen = (name for name in entry.adapters if self.may_use(f"{plain}+{name}", visitor))
        return replace(entry, adapters=tuple(seen))

    def _quantised(self, entry: LedgerEntry) -> LedgerEntry:
        if entry.kind not in ("chat", "vision") or entry.name in self._engines:
            return entry
        full = self.specs.full_mib(entry.name)
        return replace(entry, full_mib=full, drift=self._drifts.get(entry.name)) if full else entry

    def _adapters_of(self, base: str) -> list[str]:
        """`base+adapter` of each."""
        if base in self._engines:
            engine = self.memory_manager.resident(base)
            return [f"{base}+{adapter}" for adapter in _adapters_in(engine)] if engine else []
        return self._names.adapters_of(base)

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
            if address.launch is not None:
                return launched_spec(address, address.launch, self.placement, self._engine_context)
            return ModelSpec(
                name=base,
                kind="remote",
                needed_mib=lambda: 0,
                load=lambda _: RemoteEngine(address, self._engine_context).connect(),
            )
        return self.specs.spec(base)


def _adapters_in(resident: Resident) -> tuple[str, ...]:
    """Without checkpoints of a training (`run@step`), which would crowd the lists."""
    if not isinstance(resident, RemoteEngine | LoadedEngine):
        return ()
    return tuple(name for name in resident.adapters() if "@" not in name)
