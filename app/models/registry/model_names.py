"""Resolve model names to bases and adapters, and decide which visitor may use which."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from app.access.identity import belongs
from app.errors import UnknownModel
from app.models.catalog import known_models
from app.models.ledger import LedgerEntry
from app.models.registry.loaded_engine import Adapter
from app.models.registry.model_spec import ModelSpecs
from app.models.registry.resident import Kind

HIDDEN = "(private)"  # stands in the ledger for the name of another visitor's model


class UnknownModelHere(UnknownModel):
    zh = "没有名为 {name} 的模型。这台服务器可用的模型：{known}。"
    en = "There is no model named {name}. Models on this server: {known}."


class ModelNames:
    """The names of one registry: catalog, `engines` elsewhere, own bases, adapters, and whose each is.

    `served` tells of which base an engine is given the adapters: `engine+adapter` is `base+adapter`, by that engine.
    On a `private` server a tuned model is there only for its owner. With `listed_only` nothing but the default, the
    catalog and `engines` can be named.
    """

    def __init__(
        self,
        specs: ModelSpecs,
        engines: Collection[str],
        default_name: str,
        *,
        listed_only: bool,
        private: bool,
        served: Mapping[str, str],
    ) -> None:
        self._specs = specs
        self._engines = engines
        self._served = served
        self.default_name = default_name
        self._listed_only = listed_only
        self._private = private
        self._adapters: dict[str, Adapter] = {}
        self._owners: dict[str, str] = {}

    def may_use(self, name: str, visitor: str) -> bool:
        """Whether a model of this name, if there is one, is there for the visitor."""
        name = self._specs.public(name)
        if not self._private or name == self.default_name:
            return True
        name = self._origin(name)
        return belongs(self._owners.get(known_models.split_precision(name)[0], ""), visitor)

    def may_read(self, entry_name: str, kind: Kind | None, visitor: str) -> bool:
        """Whether a name in the memory account tells the visitor nothing that is another's."""
        return not (self._private and kind == "trainer") and self.may_use(entry_name, visitor)

    def shown(self, entry: LedgerEntry, visitor: str) -> LedgerEntry:
        """An entry of the memory account as the visitor may see it."""
        if not self.may_read(entry.name, entry.kind, visitor):
            hidden = "trainer" if entry.kind == "trainer" else HIDDEN
            return replace(entry, name=hidden, adapters=(), detail="")
        plain = self._specs.listed_name(entry.name)
        if self._private:
            entry = replace(entry, log="", name=known_models.without_path(entry.name))
        seen = (name for name in entry.adapters if self.may_use(f"{plain}+{name}", visitor))
        return replace(entry, adapters=tuple(seen))

    def add(self, name: str, adapter: Adapter | None, owner: str) -> None:
        """Note whose a base is, or with `adapter` that the base has it."""
        name = self._specs.public(name)
        self._owners[name] = owner
        if adapter is not None:
            self._adapters[name] = adapter

    def forget(self, name: str) -> None:
        name = self._specs.public(name)
        self._adapters.pop(name, None)
        self._owners.pop(name, None)

    def find_adapter(self, name: str) -> Adapter | None:
        return self._adapters.get(self._origin(self._specs.public(name)))

    def _origin(self, name: str) -> str:
        """The name over its base of an adapter of ours that an engine is given; any other name as it is."""
        engine, _, adapter = name.partition("+")
        return f"{self._served[engine]}+{adapter}" if adapter and engine in self._served else name

    def adapter(self, name: str) -> Adapter:
        """Raises UnknownModel, as for one that was removed meanwhile."""
        adapter = self.find_adapter(name)
        if adapter is None:
            raise self._unknown(name)
        return adapter

    def adapters_of(self, base: str) -> list[str]:
        """Checkpoints (`base+run@step`) can be leased, but would only crowd the lists."""
        if base in self._served:
            ours = [name for name in self._adapters if "@" not in name and _base_of(name) == self._served[base]]
            return [f"{base}+{name.rpartition('+')[2]}" for name in ours]
        if not self._specs.takes_adapters(base):
            return []
        return [name for name in self._adapters if "@" not in name and _base_of(name) == base]

    def bases(self, loaded: Iterable[str]) -> list[str]:
        """Every base, the loaded ones first."""
        folders = [] if self._listed_only else self._specs.folders.names()
        rest = [self.default_name, *self._engines, *self._specs.own_names(), *folders, *known_models.names()]
        shown = [name for name in loaded if known_models.split_precision(name)[1] != "int4"]  # there for adapters alone
        return list(dict.fromkeys(self._specs.listed_name(name) for name in [*shown, *rest]))

    def split(self, name: str, visitor: str = "") -> tuple[str, str | None]:
        """(base, adapter). Raises UnknownModel, for another's adapter just as for one that nobody has."""
        asked, name = name, self._specs.public(name)
        if name in self._adapters and self.may_use(name, visitor):
            base, _, adapter = name.rpartition("+")
            return self._specs.adapter_base(base), adapter
        if self._specs.is_own(name) and self.may_use(name, visitor):
            return self._specs.chosen(name).name, None
        engine, _, remote_adapter = name.partition("+")
        if engine in self._engines:
            if not self.may_use(name, visitor):
                raise self._unknown(asked)
            return engine, remote_adapter or None
        self._refuse_unlisted(name, visitor, asked)
        return self._specs.chosen(name).name, None

    def _listed(self) -> tuple[str, ...]:
        """What everybody can name, each once."""
        return tuple(dict.fromkeys((self.default_name, *self._engines, *known_models.names())))

    def _unknown(self, name: str) -> UnknownModel:
        """To strangers it says nothing of repositories and folders, which are not theirs to name."""
        if self._listed_only:
            return UnknownModelHere(name=name[:200], known=known_models.suggestions(name, self._listed()))
        return UnknownModel(name=name[:200], known=known_models.suggestions(name))

    def _refuse_unlisted(self, name: str, visitor: str, asked: str) -> None:
        if self._listed_only and not {name, known_models.split_precision(name)[0]} & {*self._listed()}:
            raise self._unknown(asked)
        base, plus, _ = name.rpartition("+")
        if plus and not Path(name).is_dir() and base in known_models.names():
            mine = [known for known in self._adapters if self.may_use(known, visitor)]
            raise UnknownModel(name=name[:200], known=", ".join((mine or known_models.names())[:3]))
        if self._specs.is_own(name):  # another's
            raise self._unknown(name)


def _base_of(adapted: str) -> str:
    """The base of `base+adapter`, whatever its precision."""
    return known_models.split_precision(adapted.rpartition("+")[0])[0]
