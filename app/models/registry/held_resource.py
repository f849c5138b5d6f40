"""Memory accounting for anything that is no chat model: embedders, rerankers, a trainer's room."""

from dataclasses import dataclass

from app.models.registry import device_memory


@dataclass
class HeldResource:
    """A resident that is never parked. Sizes in MiB."""

    content: object
    mib: int
    device: str
    cache_mib: int = 0

    def close(self) -> None:
        self.content = None
        device_memory.release()

    def trim(self) -> None:
        """All of it is in use while it is held."""

    def park(self) -> bool:
        return False

    def unpark(self) -> None:
        raise RuntimeError("it was never parked")
