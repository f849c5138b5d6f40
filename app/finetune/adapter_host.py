"""Protocol of the registry as the trainer needs it: memory for a training, adapters and models by name."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

from app.models.interface import Registry


class AdapterHost(Registry, Protocol):
    """The registry as the trainer needs it: memory for a training, and adapters by name."""

    private: bool  # what one visitor has tuned is not there for another

    def hold(
        self,
        kind: Literal["trainer"],
        name: str,
        mib: int,
        load_it: Callable[..., None],
        device: str = "cpu",
        *,
        keep: bool = True,
    ) -> AbstractContextManager[None]: ...

    def folder(self, name: str) -> Path: ...

    def named(self, base: str) -> str: ...

    def takes_adapters(self, name: str) -> bool: ...

    def add_adapter(self, name: str, folder: Path, owner: str = "") -> None: ...

    def remove_adapter(self, name: str) -> None: ...

    def add_model(self, name: str, path: Path, owner: str = "") -> None: ...

    def remove_model(self, name: str) -> None: ...
