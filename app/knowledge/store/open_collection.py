"""A collection while the process works with it: its database, its vectors, who writes and who reads them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from app.knowledge.ingest.indexing import Convert, Indexer, IndexingProgress
from app.knowledge.ingest.sources import UPLOADS, Found
from app.knowledge.retrieve.embedders import Embedder, LeaseReranker
from app.knowledge.retrieve.retrieval import Searcher
from app.knowledge.store.collections import CollectionRecord
from app.knowledge.store.database import Database
from app.knowledge.store.vectors import VectorIndex

REBUILD_BATCH = 64


@dataclass(frozen=True)
class OpenCollection:
    """`originals` holds uploaded files as they came."""

    id: str
    originals: Path
    database: Database
    vectors: VectorIndex
    indexer: Indexer
    searcher: Searcher
    chroma: Any

    @classmethod
    def at(
        cls,
        folder: Path,
        record: CollectionRecord,
        chroma: Any,
        embedder: Callable[[], AbstractContextManager[Embedder]],
        convert: Convert,
        reranker: LeaseReranker | None,
    ) -> "OpenCollection":
        """Open or make what lies in `folder`, and clear up after an interrupted run."""
        folder.mkdir(parents=True, exist_ok=True)
        database = Database(folder / "index.db")
        vectors = VectorIndex(chroma, vectors_name(record.id, record.embedder))
        indexer = Indexer(database, vectors, embedder, convert)
        indexer.recover()
        searcher = Searcher(database, vectors, embedder, reranker)
        return cls(record.id, folder / "originals", database, vectors, indexer, searcher, chroma)

    def resume(self) -> Iterator[IndexingProgress]:
        """Index what an interrupted run had listed and not reached."""
        waiting = [record for record in self.database.files() if record.state == "waiting"]
        for origin in dict.fromkeys(record.origin for record in waiting):
            folder = self.originals if origin == UPLOADS else Path(origin)
            names = [record.path for record in waiting if record.origin == origin]
            found = [Found(folder / name, name) for name in names if (folder / name).is_file()]
            yield from self.indexer.run(origin, found)

    def embed_anew(
        self, name: str, embedder: Callable[[], AbstractContextManager[Embedder]]
    ) -> Iterator[IndexingProgress]:
        """Vectors of every passage by another embedder, beside the old ones."""
        fresh = VectorIndex(self.chroma, vectors_name(self.id, name))
        passages = self.database.embeddable()
        yield IndexingProgress(total=len(passages))
        for at in range(0, len(passages), REBUILD_BATCH):
            part = passages[at : at + REBUILD_BATCH]
            with embedder() as loaded:
                vectors = np.asarray(loaded.passages([text for _, _, text in part]))
            fresh.add([key for key, _, _ in part], vectors, [file_id for _, file_id, _ in part])
            yield IndexingProgress(done=at + len(part), total=len(passages), chunks=at + len(part))


def vectors_name(collection: str, embedder: str) -> str:
    """The name of the vectors in Chroma: another embedder, other vectors."""
    return f"{collection}-{sha256(embedder.encode()).hexdigest()[:8]}"
