"""Generators that stay cancellable while they wait: they yield at short intervals, since only a yield hears a close."""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TypeVar

from app.models.interface import Generation, LedgerEntry, Registry

WAIT_S = 0.2  # how often a waiting reader looks around
Step = TypeVar("Step")


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
        yield from _all_news(pieces)
    finally:
        generation.cancel()
        reader.join(timeout=10)


def stepping(work: Generator[Step, None, None]) -> Generator[list[Step], None, None]:
    """The steps of `work`, done in a thread of its own; an empty list whenever none came for WAIT_S.

    Closing the iterator returns at once; the work then ends after its present step. A step is never None.
    """
    steps: queue.SimpleQueue[Step | Exception | None] = queue.SimpleQueue()
    unwanted = threading.Event()

    def run() -> None:
        try:
            with closing(work):
                for step in work:
                    steps.put(step)
                    if unwanted.is_set():
                        return
            steps.put(None)
        except Exception as error:
            steps.put(error)

    threading.Thread(target=run, name="steps", daemon=True).start()
    try:
        yield from _all_news(steps)
    finally:
        unwanted.set()


def _all_news(steps: "queue.SimpleQueue[Step | Exception | None]") -> Generator[list[Step], None, None]:
    ended = False
    while not ended:
        news, ended = _news(steps)
        yield news


def _news(steps: "queue.SimpleQueue[Step | Exception | None]") -> tuple[list[Step], bool]:
    """What has come, and whether that was the end. Raises what the work raised."""
    news: list[Step] = []
    try:
        step = steps.get(timeout=WAIT_S)
        while True:
            if isinstance(step, Exception):
                if not news:
                    raise step
                steps.put(step)  # after what came before it
                return news, False
            if step is None:
                return news, True
            news.append(step)
            step = steps.get_nowait()
    except queue.Empty:
        return news, False


def _entry(registry: Registry, name: str) -> LedgerEntry | None:
    base = registry.public_name(name).split("+")[0]
    wanted = [entry for entry in registry.ledger().models if entry.name in (name, base, f"{base}:full")]
    return min(wanted, key=lambda entry: entry.progress is None, default=None)
