"""The sample documents indexed with the packaged embedder, for measuring."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.indexing import Indexer
from app.knowledge.ingest.sources import folder_files
from app.knowledge.retrieve.embedders import PACKAGED, held_by
from app.knowledge.retrieve.retrieval import Searcher
from app.knowledge.store.database import Database
from app.knowledge.store.vectors import VectorIndex, open_chroma
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from bench.question_set import SAMPLES


def sample_index(folder: Path) -> Searcher:
    """A searcher over `assets/samples`, built in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(folder / "index.db")
    vectors = VectorIndex(open_chroma(folder / "chroma"), "samples")
    registry = ModelRegistry(Placement("cpu", "auto", None, 2000, folder), "smollm2-135m")
    embedder = partial(held_by(registry.hold), PACKAGED)
    exhaust(Indexer(database, vectors, embedder, Converter()).run("samples", folder_files(SAMPLES)))
    return Searcher(database, vectors, embedder)


def exhaust(steps: Iterable[object]) -> None:
    """Run to the end."""
    for _ in steps:
        pass
