"""The registry as one visitor sees it: the bases, what belongs to the server, and the visitor's own tuned models.

Another's tuned model is to them as if it were not there: it is in no list, and its name gets the error of a name that
nobody has.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from app.models.interface import ChatModel, Drift, DriftStep, Fit, Ledger, LedgerEntry, Registry
from app.models.registry.metering import OWN

if TYPE_CHECKING:
    from app.models.registry.registry import ModelRegistry


def belongs(owner: str, visitor: str) -> bool:
    """Whether what `owner` made is there for `visitor`; nobody's and the server's things are there for everyone."""
    return not owner or owner == visitor or owner.startswith(OWN) or visitor.startswith(OWN)


class VisitorView:
    """See `interface.Registry`. It keeps nothing, and can be made anew for each request."""

    def __init__(self, registry: "ModelRegistry", visitor: str) -> None:
        self._registry = registry
        self._visitor = visitor
        self.default_name = registry.default_name

    def for_visitor(self, visitor: str) -> Registry:
        return self._registry.for_visitor(visitor)

    def names(self) -> list[str]:
        return self._registry.names(self._visitor)

    def lease(self, name: str) -> AbstractContextManager[ChatModel]:
        return self._registry.lease(name, self._visitor)

    def load(self, name: str) -> None:
        self._registry.load(name, self._visitor)

    def unload(self, name: str) -> None:
        self._registry.unload(name, self._visitor)

    def is_multimodal(self, name: str) -> bool | None:
        return self._registry.is_multimodal(name, self._visitor)

    def fit(self, name: str) -> Fit:
        return self._registry.fit(name, self._visitor)

    def check_drift(self, name: str) -> Generator[DriftStep | Drift, None, None]:
        return self._registry.check_drift(name, self._visitor)

    def ledger(self) -> Ledger:
        """Without the names that others gave their adapters and trainings."""
        account = self._registry.ledger()
        return replace(account, models=tuple(self._shown(entry) for entry in account.models))

    def _shown(self, entry: LedgerEntry) -> LedgerEntry:
        if entry.kind == "trainer":
            return replace(entry, name="trainer") if self._registry.private else entry
        seen = (name for name in entry.adapters if self._registry.may_use(f"{entry.name}+{name}", self._visitor))
        return replace(entry, adapters=tuple(seen))
