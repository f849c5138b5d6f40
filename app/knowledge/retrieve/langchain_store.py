"""LangChain vector store over a collection; `as_retriever()` makes the retriever of a chain."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from app.errors import BadInput
from app.knowledge.ingest.indexing import Indexer
from app.knowledge.retrieve.embedders import Embedder
from app.knowledge.retrieve.retrieval import Hit, Searcher

ADDED = "texts"  # origin of documents that came through LangChain and not from a file
FILTERED = 200  # passages looked at where a filter can only be applied to what was found
Filter = dict[str, Any] | Callable[[Document], bool] | None


class LeasedEmbeddings(Embeddings):
    """An embedder in LangChain's form, leased for each call."""

    def __init__(self, lease: Callable[[], AbstractContextManager[Embedder]]) -> None:
        self._lease = lease

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        with self._lease() as embedder:
            return [list(map(float, row)) for row in embedder.passages(texts)]

    def embed_query(self, text: str) -> list[float]:
        with self._lease() as embedder:
            return list(map(float, embedder.query(text)))


class CollectionStore(VectorStore):
    """Hybrid search over a collection behind LangChain's interface. Documents are kept whole and exactly as given."""

    def __init__(self, searcher: Searcher, indexer: Indexer | None = None) -> None:
        self._searcher = searcher
        self._indexer = indexer

    @property
    def embeddings(self) -> Embeddings:
        return LeasedEmbeddings(self._searcher.embedder)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **_settings: Any,
    ) -> list[str]:
        """Index texts under their ids, made where none is given; an id that is there already is replaced."""
        given = list(texts)
        names = [name or uuid4().hex for name in ids or [""] * len(given)]
        kept = [dict(metadata) for metadata in metadatas or [{}] * len(given)]
        if not len(given) == len(names) == len(kept):
            raise BadInput(
                reason_zh="文本、元数据和 id 的数目必须相同。",
                reason_en="There must be as many ids and metadatas as texts.",
            )
        latest = {name: (text, metadata) for name, text, metadata in zip(names, given, kept, strict=True)}
        self._writer().add_documents(ADDED, latest)
        return names

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        ids = kwargs.pop("ids", None) or [document.id or "" for document in documents]
        texts = [document.page_content for document in documents]
        return self.add_texts(texts, [document.metadata for document in documents], ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **_settings: Any) -> bool:
        """Remove documents that were added here; without ids all of them. Unknown ids are no error."""
        added = self._searcher.database.files(ADDED)
        self._writer().remove([record.id for record in added if ids is None or record.path in set(ids)])
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents that were added here, in the order of their ids; unknown ids are left out."""
        database = self._searcher.database
        known = {record.path: record.id for record in database.files(ADDED) if record.version is not None}
        metadata = database.metadata(known.values())
        found = []
        for name in dict.fromkeys(ids):
            text = database.text(known[name]) if name in known else None
            if text is not None:
                found.append(Document(id=name, page_content=text.content, metadata=metadata[known[name]]))
        return found

    def similarity_search(self, query: str, k: int = 4, **settings: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **settings)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Filter = None,
        **_settings: Any,
    ) -> list[tuple[Document, float]]:
        """The score is that of the hybrid search: higher is better. `filter`: equal metadata, or a function."""
        return [(document, hit.score) for document, hit in self._found(query, k, filter)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **settings: Any
    ) -> list[tuple[Document, float]]:
        found = self._found(query, k, settings.get("filter"))
        return [(document, min(1.0, max(0.0, hit.cosine))) for document, hit in found]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **settings: Any) -> list[Document]:
        wanted = k if settings.get("filter") is None else FILTERED
        near = self._searcher.vectors.nearest(np.asarray(embedding, dtype=np.float32), wanted, None)
        with self._searcher.database.snapshot() as snapshot:
            passages = snapshot.passages([key for key, _ in near])
        documents = self._documents([Hit(passage, 0.0, 0.0) for passage in passages])
        return [document for document in documents if _fits(document, settings.get("filter"))][:k]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **settings: Any
    ) -> list[Document]:
        documents = self.similarity_search(query, fetch_k, **settings)
        return self._diverse(self.embeddings.embed_query(query), documents, k, lambda_mult)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **settings: Any
    ) -> list[Document]:
        documents = self.similarity_search_by_vector(embedding, fetch_k, **settings)
        return self._diverse(embedding, documents, k, lambda_mult)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,  # noqa: ARG003 - a collection has its own embedder
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        store: "CollectionStore | None" = None,
        **_settings: Any,
    ) -> "CollectionStore":
        """Add to `store`, which `KnowledgeService.store(owner, collection)` opens."""
        if store is None:
            raise BadInput(
                reason_zh="请用 store= 给出集合：KnowledgeService.store(owner, collection)。",
                reason_en="Name the collection with store=: KnowledgeService.store(owner, collection).",
            )
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _writer(self) -> Indexer:
        if self._indexer is None:
            raise BadInput(
                reason_zh="这个集合是别人共享的，只能读取。",
                reason_en="This collection was shared by somebody else: it can be read, not changed.",
            )
        return self._indexer

    def _found(self, query: str, k: int, chosen: Filter) -> list[tuple[Document, Hit]]:
        if not query.strip():
            return []
        hits = self._searcher.search([query], k if chosen is None else FILTERED, self._candidates(chosen))
        pairs = zip(self._documents(hits), hits, strict=True)
        return [(document, hit) for document, hit in pairs if _fits(document, chosen)][:k]

    def _candidates(self, chosen: Filter) -> list[int] | None:
        """Files that may pass the filter; those from disk are judged passage by passage later."""
        if chosen is None:
            return None
        files = self._searcher.database.files()
        metadata = self._searcher.database.metadata(file.id for file in files)
        fitting = []
        for file in files:
            whole = Document(id=file.path, page_content="", metadata=metadata.get(file.id, {}))
            if callable(chosen) or file.id not in metadata or _fits(whole, chosen):
                fitting.append(file.id)
        return fitting

    def _documents(self, hits: Sequence[Hit]) -> list[Document]:
        metadata = self._searcher.database.metadata(hit.passage.file_id for hit in hits)
        return [_document(hit, metadata.get(hit.passage.file_id)) for hit in hits]

    def _diverse(self, query: list[float], documents: list[Document], k: int, lambda_mult: float) -> list[Document]:
        if not documents:
            return []
        vectors = self.embeddings.embed_documents([document.page_content for document in documents])
        order = maximal_marginal_relevance(np.asarray(query), vectors, lambda_mult, k)
        return [documents[at] for at in order]


def _fits(document: Document, chosen: Filter) -> bool:
    if chosen is None:
        return True
    if callable(chosen):
        return bool(chosen(document))
    return all(document.metadata.get(key) == value for key, value in chosen.items())


def _document(hit: Hit, metadata: dict[str, Any] | None) -> Document:
    """A document as it was added, or a passage of a file with what a citation needs."""
    passage = hit.passage
    if metadata is not None:
        return Document(id=passage.path, page_content=passage.content, metadata=metadata)
    return Document(
        id=f"{passage.version}-{passage.number}",
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


class CollectionRetriever(BaseRetriever):
    """The best `k` passages of a collection, also `invoke(query, k=…)`; `store` is a CollectionStore."""

    store: VectorStore
    k: int = 5

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
        k: int | None = None,
    ) -> list[Document]:
        return self.store.similarity_search(query, k=k or self.k)
