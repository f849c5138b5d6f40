"""Embedders held once, without a registry's account."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from app.knowledge.retrieve.embedders import Embedder, LeaseEmbedder, load_embedder


def lease_of(loader: Callable[[str], Embedder] = load_embedder) -> LeaseEmbedder:
    """A lease over what `loader` makes, made once for each name."""
    held: dict[str, Embedder] = {}
    lock = Lock()

    @contextmanager
    def lease(name: str) -> Iterator[Embedder]:
        with lock:
            if name not in held:
                held[name] = loader(name)
        yield held[name]

    return lease
