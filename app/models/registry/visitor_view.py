"""Per-visitor view of the model registry: other visitors' tuned models are hidden from lists and refused by name."""

from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Protocol

from app.models.interface import ChatModel, Drift, DriftStep, Fit, Ledger, Registry, SamplingDefaults, Thinking


class VisitorRegistry(Protocol):
    """A registry that is told with each call who asks."""

    @property
    def default_name(self) -> str: ...
    def for_visitor(self, visitor: str) -> Registry: ...
    def names(self, visitor: str = "") -> list[str]: ...
    def public_name(self, name: str) -> str: ...
    def lease(
        self, name: str, visitor: str = "", *, full_weights: bool = False
    ) -> AbstractContextManager[ChatModel]: ...
    def load(self, name: str, visitor: str = "") -> None: ...
    def unload(self, name: str, visitor: str = "") -> None: ...
    def is_multimodal(self, name: str, visitor: str = "") -> bool | None: ...
    def sampling_defaults(self, name: str, visitor: str = "") -> SamplingDefaults: ...
    def thinking(self, name: str, visitor: str = "") -> Thinking | None: ...
    def fit(self, name: str, visitor: str = "") -> Fit: ...
    def check_drift(self, name: str, visitor: str = "") -> Generator[DriftStep | Drift, None, None]: ...
    def ledger(self, visitor: str | None = None) -> Ledger: ...


class VisitorView:
    """See `interface.Registry`. It keeps nothing, and can be made anew for each request."""

    def __init__(self, registry: VisitorRegistry, visitor: str) -> None:
        self._registry = registry
        self._visitor = visitor

    @property
    def default_name(self) -> str:
        return self._registry.default_name

    def for_visitor(self, visitor: str) -> Registry:
        return self._registry.for_visitor(visitor)

    def names(self) -> list[str]:
        return self._registry.names(self._visitor)

    def public_name(self, name: str) -> str:
        return self._registry.public_name(name)

    def lease(self, name: str, *, full_weights: bool = False) -> AbstractContextManager[ChatModel]:
        return self._registry.lease(name, self._visitor, full_weights=full_weights)

    def load(self, name: str) -> None:
        self._registry.load(name, self._visitor)

    def unload(self, name: str) -> None:
        self._registry.unload(name, self._visitor)

    def is_multimodal(self, name: str) -> bool | None:
        return self._registry.is_multimodal(name, self._visitor)

    def sampling_defaults(self, name: str) -> SamplingDefaults:
        return self._registry.sampling_defaults(name, self._visitor)

    def thinking(self, name: str) -> Thinking | None:
        return self._registry.thinking(name, self._visitor)

    def fit(self, name: str) -> Fit:
        return self._registry.fit(name, self._visitor)

    def check_drift(self, name: str) -> Generator[DriftStep | Drift, None, None]:
        return self._registry.check_drift(name, self._visitor)

    def ledger(self) -> Ledger:
        return self._registry.ledger(self._visitor)
