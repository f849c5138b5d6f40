"""Opened collections: database, vectors, indexer and searcher of each, closed again when unused (LRU, bounded)."""

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock

import numpy as np

from app.access.later import later
from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.indexing import Indexer, IndexingProgress
from app.knowledge.ingest.sources import UPLOADS, SourceFile
from app.knowledge.retrieve.embedders import Embedder, LeaseEmbedder, LeaseReranker
from app.knowledge.retrieve.retrieval import Searcher
from app.knowledge.retrieve.segmenting import is_mostly_chinese
from app.knowledge.store.collections import CollectionRecord, person_of
from app.knowledge.store.database import Database
from app.knowledge.store.vectors import Chroma, VectorIndex

REBUILD_BATCH = 32  # passages between two reports of progress
MOST_OPEN = 32  # collections whose database stays open
IDLE_S = 300.0  # unused for so long, a database is closed


@dataclass(frozen=True)
class OpenCollection:
    """One collection's parts; `originals` holds uploaded files as they came.

    After it was closed it still works, opening its database for each use.
    """

    id: str
    originals: Path
    database: Database
    vectors: VectorIndex
    indexer: Indexer
    searcher: Searcher
    chroma: Chroma

    def resume(self) -> Iterator[IndexingProgress]:
        """Index what an interrupted run had listed and not reached."""
        waiting = [record for record in self.database.files() if record.state == "waiting"]
        for origin in dict.fromkeys(record.origin for record in waiting):
            folder = self.originals if origin == UPLOADS else Path(origin)
            names = [record.path for record in waiting if record.origin == origin]
            found = [SourceFile(folder / name, name) for name in names if (folder / name).is_file()]
            yield from self.indexer.run(origin, found)

    def embed_anew(
        self, name: str, embedder: Callable[[], AbstractContextManager[Embedder]], switch: Callable[[], None]
    ) -> Generator[IndexingProgress, None, None]:
        """Vectors of every passage by another embedder, beside the old ones; `switch` is called when all are there.

        Indexing waits meanwhile, and goes on with the new embedder.
        """
        with self.indexer.lock:
            fresh = VectorIndex(self.chroma, vectors_name(self.id, name))
            passages = self.database.embeddable()
            known = set(fresh.keys())  # of an earlier try that was stopped
            fresh.discard(known - {key for key, _, _ in passages})
            missing = [passage for passage in passages if passage[0] not in known]
            done = len(passages) - len(missing)
            yield IndexingProgress(done=done, total=len(passages), embedding="under way")
            for at in range(0, len(missing), REBUILD_BATCH):
                part = missing[at : at + REBUILD_BATCH]
                with embedder() as loaded:
                    vectors = np.asarray(loaded.passages([text for _, _, text in part]))
                chinese = [is_mostly_chinese(text) for _, _, text in part]
                fresh.add([key for key, _, _ in part], vectors, [file_id for _, file_id, _ in part], chinese)
                done += len(part)
                yield IndexingProgress(done=done, total=len(passages), chunks=done, embedding="under way")
            switch()
            self.indexer.vectors, self.indexer.embedder = fresh, embedder


@dataclass(frozen=True)
class Resources:
    """What all collections share."""

    folder: Path
    chroma: Chroma
    lease_embedder: LeaseEmbedder
    lease_reranker: LeaseReranker | None
    convert: Converter


class OpenCollections:
    """Opens collections when asked for and closes the least recently used. Safe from several threads."""

    def __init__(self, resources: Resources, most: int = MOST_OPEN, idle_s: float = IDLE_S) -> None:
        self._resources = resources
        self._most, self._idle_s = most, idle_s
        self._open: OrderedDict[str, tuple[OpenCollection, float]] = OrderedDict()
        # One write lock a collection for the life of the process: a run may outlast the object that began it.
        self._writing: dict[str, Lock] = {}
        self._lock = Lock()
        self._watched = False

    def get(self, record: CollectionRecord) -> OpenCollection:
        """The opened collection; the first time what an interrupted run left is cleared up."""
        with self._lock:
            known = self._open.get(record.id)
            collection = known[0] if known else self._make(record)
            self._open[record.id] = collection, time.monotonic()
            self._open.move_to_end(record.id)
            self._close_unused()
            return collection

    def forget(self, record: CollectionRecord) -> OpenCollection:
        """Close one for good; its vectors are still there."""
        collection = self.get(record)
        with self._lock:
            self._open.pop(record.id, None)
        collection.database.close()
        return collection

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for collection, _ in self._open.values():
                collection.database.close()
            self._open.clear()
            self._close_unused()

    def _make(self, record: CollectionRecord) -> OpenCollection:
        shared = self._resources
        folder = shared.folder / record.id
        folder.mkdir(parents=True, exist_ok=True)
        embedder = partial(shared.lease_embedder, record.embedder)
        database = Database(folder / "index.db")
        vectors = VectorIndex(shared.chroma, vectors_name(record.id, record.embedder))
        first = record.id not in self._writing
        lock = self._writing.setdefault(record.id, Lock())
        convert = partial(shared.convert, owner=person_of(record.owner))
        indexer = Indexer(database, vectors, embedder, convert, lock)
        if first:
            indexer.recover()
        searcher = Searcher(database, vectors, embedder, shared.lease_reranker)
        return OpenCollection(record.id, folder / "originals", database, vectors, indexer, searcher, shared.chroma)

    def _close_unused(self) -> None:
        """Close what is too much or too old, and look again later; the caller holds the lock."""
        old = time.monotonic() - self._idle_s
        for name, (collection, used) in list(self._open.items()):
            if len(self._open) <= self._most and used > old:
                break
            del self._open[name]
            collection.database.close()
        if self._open and not self._watched:
            self._watched = True
            _, used = next(iter(self._open.values()))
            later.call(max(0.0, used - old), self._look_again)

    def _look_again(self) -> None:
        with self._lock:
            self._watched = False
            self._close_unused()


def vectors_name(collection: str, embedder: str) -> str:
    """The name of the vectors in Chroma: another embedder, other vectors."""
    return f"{collection}-{sha256(embedder.encode()).hexdigest()[:8]}"
