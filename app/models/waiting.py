"""Waiting without going deaf: a generator hears that it is closed only when it yields, so it yields while it waits."""

import queue
import threading
import time
from collections.abc import Generator, Iterator

from app.models.interface import Generation, LedgerEntry, Registry

WAIT_S = 0.2  # how often a waiting reader looks around


def while_loading(registry: Registry, name: str) -> Iterator[float | None]:
    """Start loading a model and give its progress, 0 to 1 or None if unknown, until it has ended.

    A failure is left to the lease, which raises its reason.
    """
    registry.load(name)
    while (entry := _entry(registry, name)) and entry.state in ("downloading", "loading"):
        yield entry.progress
        time.sleep(WAIT_S)


def polled(generation: Generation) -> Generator[list[str], None, None]:
    """The pieces as they come, all that are there at once; an empty list whenever none came for WAIT_S.

    Closing the iterator cancels the generation and returns once nothing of it runs any more.
    """
    pieces: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for piece in generation:
                pieces.put(piece)
            pieces.put(None)
        except Exception as error:
            pieces.put(error)

    reader = threading.Thread(target=read, name="reader", daemon=True)
    reader.start()
    try:
        ended = False
        while not ended:
            news, ended = _news(pieces)
            yield news
    finally:
        generation.cancel()
        reader.join(timeout=10)


def _news(pieces: "queue.SimpleQueue[str | Exception | None]") -> tuple[list[str], bool]:
    """What has come, and whether that was the end. Raises what the generation raised."""
    news: list[str] = []
    try:
        piece = pieces.get(timeout=WAIT_S)
        while True:
            if isinstance(piece, Exception):
                if not news:
                    raise piece
                pieces.put(piece)  # after what came before it
                return news, False
            if piece is None:
                return news, True
            news.append(piece)
            piece = pieces.get_nowait()
    except queue.Empty:
        return news, False


def _entry(registry: Registry, name: str) -> LedgerEntry | None:
    base = name.split("+")[0]
    return next((entry for entry in registry.ledger().models if entry.name in (name, base)), None)
