"""Memory accounting for anything that is no chat model: embedders, rerankers, a trainer's room."""

from collections.abc import Callable
from dataclasses import dataclass

from app.models.interface import ReportProgress
from app.models.registry import device_memory
from app.models.registry.resident import Kind, ModelSpec


@dataclass
class HeldResource:
    """A resident that is never parked. Sizes in MiB."""

    content: object
    mib: int
    device: str
    cache_mib: int = 0
    spare_mib: int = 0

    def close(self) -> None:
        self.content = None
        device_memory.release()

    def trim(self) -> None:
        """All of it is in use while it is held."""

    def park(self) -> bool:
        return False

    def unpark(self, room_mib: int) -> None:  # noqa: ARG002
        raise RuntimeError("it was never parked")

    def shrink(self, mib: int, patience_s: float = 0.0) -> None:
        """It has no cache."""


def held_spec(kind: Kind, name: str, mib: int, load_it: Callable[[ReportProgress], object], device: str) -> ModelSpec:
    """How to get it; what has a `mib` of its own is booked with that once it is loaded."""

    def load(report: ReportProgress) -> HeldResource:
        content = load_it(report)
        return HeldResource(content, int(getattr(content, "mib", mib)), device)

    return ModelSpec(name, kind, lambda: mib, load, on_host=device == "cpu")
