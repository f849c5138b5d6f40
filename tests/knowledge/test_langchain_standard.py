"""LangChain's own standard suites over the collection store and its retriever, and what they leave out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from app.errors import BadInput
from app.knowledge.service import KnowledgeService
from app.langchain import CollectionRetriever, CollectionStore, RegistryChatModel
from tests.fakes import FakeModel, FakeRegistry
from tests.knowledge.conftest import ANN, BOB, Start, run


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service(start: Start) -> KnowledgeService:
    service = start(registry=FakeRegistry(FakeModel("tiny", lambda _: ["one ", "two"])))
    service.make(ANN, "mine")
    return service


@pytest.mark.anyio
class TestCollectionStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, service: KnowledgeService) -> Iterator[VectorStore]:  # type: ignore[override]
        yield service.store(ANN, "mine")


@pytest.mark.anyio
class TestCollectionRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _fill(self, service: KnowledgeService) -> None:
        self.store = service.store(ANN, "mine")
        self.store.add_texts([f"Saturn has ring number {number}." for number in range(6)])

    @property
    def retriever_constructor(self) -> type[CollectionRetriever]:
        return CollectionRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"store": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "Saturn ring"


@pytest.fixture
def store(service: KnowledgeService) -> CollectionStore:
    store = service.store(ANN, "mine")
    chunks = [
        Document("Mars has  no seas.\r\n", metadata={"source": "book.md", "page": 1}),
        Document("Saturn has rings.", metadata={"source": "book.md", "page": 2}),
        Document("Saturn has many rings.", metadata={"source": "other.md", "tags": ["a"]}),
    ]
    store.add_documents(chunks)
    return store


def test_chunks_of_one_source_are_all_kept_exactly(store: CollectionStore) -> None:
    found = store.similarity_search("Mars Saturn rings seas", k=10)
    assert {document.page_content for document in found} == {
        "Mars has  no seas.\r\n",
        "Saturn has rings.",
        "Saturn has many rings.",
    }
    assert {"source": "other.md", "tags": ["a"]} in [document.metadata for document in found]


def test_filters_scores_vectors_and_diversity(store: CollectionStore) -> None:
    only = store.similarity_search("Saturn rings", k=3, filter={"source": "book.md"})
    assert [document.metadata["page"] for document in only] == [2, 1]
    assert store.similarity_search("rings", filter=lambda document: document.metadata.get("page") == 1)
    scored = store.similarity_search_with_score(query="Saturn has rings", k=2)
    assert scored[0][1] >= scored[1][1] > 0
    assert all(0 <= score <= 1 for _, score in store.similarity_search_with_relevance_scores("rings", k=3))
    vector = store.embeddings.embed_query("Saturn has rings.")
    assert store.similarity_search_by_vector(vector, k=1)[0].page_content == "Saturn has rings."
    diverse = store.max_marginal_relevance_search("Saturn has rings.", k=2, fetch_k=3, lambda_mult=0.0)
    assert {document.metadata["source"] for document in diverse} == {"book.md", "other.md"} or len(diverse) == 2


def test_files_and_documents_live_together_and_readers_do_not_write(
    service: KnowledgeService, store: CollectionStore, notes: Path
) -> None:
    run(service.index_folder(ANN, "mine", notes))
    (found,) = store.similarity_search("4 比特量化把显存降到三成", k=1)
    assert found.metadata["source"] == "week2/notes.md"
    assert store.delete() and store.similarity_search("Saturn", k=9, filter={"source": "other.md"}) == []
    assert len(service.files(ANN, "mine")) == 3
    service.share(ANN, "mine", True)
    with pytest.raises(BadInput, match="shared by somebody else"):
        service.store(BOB, "mine").add_texts(["x"])
    with pytest.raises(BadInput, match="must be JSON"):
        store.add_texts(["x"], [{"key": object()}])


def test_a_stream_ends_with_what_was_used(service: KnowledgeService) -> None:
    model = RegistryChatModel(registry=service.registry, name_in_registry="tiny")
    chunks = list(model.stream("Hello"))
    assert chunks[-1].usage_metadata is not None
    used = model.invoke("Hello").usage_metadata
    assert used is not None and used["total_tokens"] == used["input_tokens"] + used["output_tokens"] > 0
