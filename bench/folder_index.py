"""A folder of documents indexed with any embedder, for measuring; the sample documents if no other."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.indexing import Indexer
from app.knowledge.ingest.sources import folder_files
from app.knowledge.retrieve.embedders import PACKAGED, held_by, reranker_held_by
from app.knowledge.retrieve.retrieval import Searcher
from app.knowledge.store.database import Database
from app.knowledge.store.vectors import VectorIndex, open_chroma
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from bench.question_set import SAMPLES


def folder_index(index: Path, documents: Path = SAMPLES, embedder: str = PACKAGED, reranker: str = "") -> Searcher:
    """A searcher over the documents, built in the folder `index`."""
    index.mkdir(parents=True, exist_ok=True)
    database = Database(index / "index.db")
    vectors = VectorIndex(open_chroma(index / "chroma"), "documents")
    registry = packaged_registry(index)
    lease = partial(held_by(registry.hold), embedder)
    exhaust(Indexer(database, vectors, lease, Converter()).run("documents", folder_files(documents)))
    return Searcher(database, vectors, lease, reranker_held_by(registry.hold, reranker) if reranker else None)


def packaged_registry(folder: Path) -> ModelRegistry:
    """A registry on the processor whose default is the packaged model, unpacked into `folder`."""
    return ModelRegistry(Placement("cpu", "auto", None, 4000, folder), "smollm2-135m")


def exhaust(steps: Iterable[object]) -> None:
    """Run to the end."""
    for _ in steps:
        pass
