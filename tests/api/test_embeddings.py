"""Embeddings and reranking over HTTP by the real `openai` client; the models are fakes that count letters."""

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from app.knowledge.retrieve.embedders import Vectors
from tests.api.test_routes import client, serving
from tests.fakes import FakeRegistry


class LetterModels:
    """Two dimensions: how much of a text is the letter a, and whether it was read as a question."""

    embedder = "letters"

    def __init__(self, has_reranker: bool = True) -> None:
        self.has_reranker = has_reranker

    def embed(self, texts: Sequence[str], *, as_query: bool) -> Vectors:
        return np.array([[text.count("a") / len(text), float(as_query)] for text in texts], dtype=np.float32)

    def rerank(self, query: str, passages: Sequence[str]) -> list[float]:
        return [float(passage.count(query)) for passage in passages]


def test_texts_become_vectors_in_both_forms() -> None:
    with serving(FakeRegistry(), models=LetterModels()) as url, client(url) as api:
        packed = api.embeddings.create(model="letters", input=["aa", "ab"])  # the client asks for base64
        plain = api.embeddings.create(model="letters", input="ab", encoding_format="float")
        asked = api.embeddings.create(model="letters", input="ab", extra_body={"input_type": "query"})
    assert [entry.embedding for entry in packed.data] == [[1.0, 0.0], [0.5, 0.0]]
    assert [entry.index for entry in packed.data] == [0, 1]
    assert plain.data[0].embedding == [0.5, 0.0]
    assert asked.data[0].embedding == [0.5, 1.0]
    assert packed.usage.total_tokens > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", " "]}, "input[1]"),
        ({"input": "a" * 9000}, "input[0]"),
        ({"input": ["a" * 8000] * 60}, "input"),
        ({"input": "a", "dimensions": 5}, "dimensions"),
        ({"input": "a", "input_type": "song"}, "input_type"),
        ({"input": "a", "truncate": "END"}, "truncate"),
        ({"input": "a", "model": "tiny"}, "model"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with serving(FakeRegistry(), models=LetterModels()) as url:
        answer = httpx.post(f"{url}/embeddings", json={"model": "letters", **body})
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


def test_documents_are_ranked_and_told_on_wish() -> None:
    body = {"query": "a", "documents": ["b", "aa", {"text": "ab"}], "top_n": 2, "return_documents": True}
    with serving(FakeRegistry(), models=LetterModels()) as url:
        ranked = httpx.post(f"{url}/rerank", json=body).json()["results"]
        bare = httpx.post(f"{url}/rerank", json={"query": "a", "documents": ["b"]}).json()["results"]
    assert [(one["index"], one["relevance_score"], one["document"]["text"]) for one in ranked] == [
        (1, 2.0, "aa"),
        (2, 1.0, "ab"),
    ]
    assert bare == [{"index": 0, "relevance_score": 0.0}]


def test_a_server_without_the_models_says_so() -> None:
    with serving(FakeRegistry(), models=LetterModels(has_reranker=False)) as url:
        rerank = httpx.post(f"{url}/rerank", json={"query": "a", "documents": ["b"]})
    with serving(FakeRegistry(), keys="ada:one") as url:
        keyless = httpx.post(f"{url}/embeddings", json={"model": "letters", "input": "a"})
        with client(url, "one") as api, pytest.raises(openai.NotFoundError, match="no embeddings"):
            api.embeddings.create(model="letters", input="a")
    assert (rerank.status_code, rerank.json()["error"]["code"], keyless.status_code) == (404, "not_served", 401)
