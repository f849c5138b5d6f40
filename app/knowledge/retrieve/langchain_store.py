"""LangChain vector store over a collection; `as_retriever()` makes the retriever of a chain."""

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from app.knowledge.ingest.documents import Text
from app.knowledge.ingest.indexing import Indexer
from app.knowledge.retrieve.embedders import Embedder
from app.knowledge.retrieve.retrieval import Hit, Searcher

ADDED = "texts"  # origin of texts that came through LangChain and not from a file


class EmbedderAsEmbeddings(Embeddings):
    """An embedder in LangChain's form."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [list(map(float, row)) for row in self._embedder.passages(texts)]

    def embed_query(self, text: str) -> list[float]:
        return list(map(float, self._embedder.query(text)))


class CollectionStore(VectorStore):
    """Hybrid search over a collection behind LangChain's interface."""

    def __init__(self, searcher: Searcher, indexer: Indexer | None = None) -> None:
        self._searcher = searcher
        self._indexer = indexer

    @property
    def embeddings(self) -> Embeddings:
        with self._searcher.embedder() as embedder:
            return EmbedderAsEmbeddings(embedder)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **_settings: Any,
    ) -> list[str]:
        """Index texts under their `source`, else their number. Returns the names they got."""
        if self._indexer is None:
            raise NotImplementedError("this store was opened for reading")
        given = list(texts)
        sources = [str(metadata.get("source", "")) for metadata in metadatas or [{}] * len(given)]
        names = [
            name or source or f"text-{at}"
            for at, (name, source) in enumerate(zip(ids or sources, sources, strict=True))
        ]
        for name, text in zip(names, given, strict=True):
            self._indexer.add_text(ADDED, name, Text(text, "markdown"))
        return names

    def similarity_search(self, query: str, k: int = 4, **_settings: Any) -> list[Document]:
        return [document(hit) for hit in self._searcher.search([query], k)]

    def similarity_search_with_score(self, *args: Any, **kwargs: Any) -> list[tuple[Document, float]]:
        query, k = args[0], int(args[1] if len(args) > 1 else kwargs.get("k", 4))
        return [(document(hit), hit.score) for hit in self._searcher.search([query], k)]

    @classmethod
    def from_texts(
        cls, texts: list[str], embedding: Embeddings, metadatas: Any = None, **kwargs: Any
    ) -> "CollectionStore":
        """Not for a collection, which needs a place on disk and an owner: ask the service for its store."""
        raise NotImplementedError("KnowledgeService.store(owner, collection) opens a store")


def document(hit: Hit) -> Document:
    """A passage with what a citation needs."""
    passage = hit.passage
    return Document(
        page_content=passage.content,
        metadata={
            "source": passage.path,
            "page": passage.page,
            "heading": " > ".join(passage.heading),
            "start": passage.start,
            "end": passage.end,
            "score": round(hit.score, 4),
        },
    )


def documents(hits: Sequence[Hit]) -> list[Document]:
    """All of them."""
    return [document(hit) for hit in hits]
