"""POST /v1/embeddings and /v1/rerank: the embedder and the reranker of document search, for programs."""

import base64
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.authentication import Authentication
from app.api.errors import NoSuchModel, NotServed, WrongValue
from app.api.request_body import Fields, parse_object, read_body
from app.api.sampling_fields import BOOKKEEPING
from app.knowledge.retrieve.embedders import Vectors
from app.models.catalog.known_models import without_path

MOST_TEXTS = 2048
MOST_CHARACTERS = 400_000  # of one request
LONGEST_TEXT = 8192  # characters; embedders read some hundred tokens
AT_ONCE = 2  # requests that compute, so that answers keep most of the processor
PURPOSES = {"query": True, "search_query": True, "document": False, "passage": False, "search_document": False}
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class EmbeddingRequest:
    """`as_query`: the texts are questions; many embedders read those otherwise than passages of documents."""

    model: str
    texts: tuple[str, ...]
    as_query: bool
    as_base64: bool


@dataclass(frozen=True)
class RerankRequest:
    """Which documents fit a query best; `most` of them are told, with their texts if wanted."""

    query: str
    documents: tuple[str, ...]
    most: int
    with_texts: bool


class DocumentModels(Protocol):
    """The models of document search; see KnowledgeService."""

    embedder: str

    @property
    def has_reranker(self) -> bool: ...
    def embed(self, texts: Sequence[str], *, as_query: bool) -> Vectors: ...
    def rerank(self, query: str, passages: Sequence[str]) -> list[float]: ...


class EmbeddingRoutes:
    """The two handlers. Without `models`, as on a server without document search, both are refused."""

    def __init__(self, callers: Authentication, models: DocumentModels | None, *, lenient: bool = False) -> None:
        self._callers, self._models, self._lenient = callers, models, lenient
        self._limit = anyio.CapacityLimiter(AT_ONCE)

    async def embeddings(self, request: Request) -> Response:
        self._callers.caller(request)
        models = self._required("embeddings")
        asked = read_embedding_request(await read_body(request), lenient=self._lenient)
        name = without_path(models.embedder)
        if asked.model not in (name, models.embedder):
            raise NoSuchModel(param="model", model=f"{asked.model[:200]} (embeddings: {name})")
        vectors = await self._run(lambda: models.embed(asked.texts, as_query=asked.as_query))
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if asked.as_base64
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = _usage(asked.texts)
        return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})

    async def rerank(self, request: Request) -> Response:
        self._callers.caller(request)
        models = self._required("rerank")
        asked = read_rerank_request(await read_body(request), lenient=self._lenient)
        if not models.has_reranker:
            raise NotServed(what="rerank")
        scores = await self._run(lambda: models.rerank(asked.query, asked.documents))
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: asked.most]
        results = [
            {"index": index, "relevance_score": scores[index]}
            | ({"document": {"text": asked.documents[index]}} if asked.with_texts else {})
            for index in order
        ]
        usage = _usage((asked.query, *asked.documents))
        return JSONResponse({"id": f"rerank-{secrets.token_hex(12)}", "results": results, "usage": usage})

    def _required(self, what: str) -> DocumentModels:
        if self._models is None:
            raise NotServed(what=what)
        return self._models

    async def _run(self, work: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(work, limiter=self._limit, abandon_on_cancel=True)


def read_embedding_request(data: bytes, *, lenient: bool) -> EmbeddingRequest:
    """Raises ApiError."""
    given = Fields(parse_object(data))
    model = given.required_text("model")
    texts = _texts(given, "input")
    form = given.one_of("encoding_format", "float", "base64") or "float"
    purpose = given.one_of("input_type", *PURPOSES) or "document"
    given.only("dimensions")
    given.ignore(*BOOKKEEPING)
    if not lenient:
        given.refuse_unknown()
    return EmbeddingRequest(model, texts, PURPOSES[purpose], form == "base64")


def read_rerank_request(data: bytes, *, lenient: bool) -> RerankRequest:
    """Raises ApiError."""
    given = Fields(parse_object(data))
    given.text("model")  # there is one reranker
    query = given.required_text("query")
    if len(query) > LONGEST_TEXT:
        raise given.wrong("query", f"a text of at most {LONGEST_TEXT} characters", f"最多 {LONGEST_TEXT} 个字符的文字")
    documents = _texts(given, "documents")
    most = given.whole("top_n", 1, MOST_TEXTS, clamp=True) or len(documents)
    with_texts = given.flag("return_documents")
    given.ignore(*BOOKKEEPING)
    if not lenient:
        given.refuse_unknown()
    return RerankRequest(query, documents, most, with_texts)


def _texts(given: Fields, name: str) -> tuple[str, ...]:
    value = given.any(name)
    entries = [value] if isinstance(value, str) else value
    texts = [_text(entry) for entry in entries] if isinstance(entries, list) else []
    if not texts or any(text is None for text in texts):
        raise given.wrong(
            name,
            "text or a list of texts, not token ids (LangChain: check_embedding_ctx_length=False)",
            "文字或文字的列表，不能是 token 编号（LangChain：check_embedding_ctx_length=False）",
        )
    whole = tuple(text for text in texts if text is not None)
    if len(whole) > MOST_TEXTS or sum(map(len, whole)) > MOST_CHARACTERS:
        raise given.wrong(
            name,
            f"at most {MOST_TEXTS} texts of {MOST_CHARACTERS} characters together",
            f"最多 {MOST_TEXTS} 段文字，合计最多 {MOST_CHARACTERS} 个字符",
        )
    for index, text in enumerate(whole):
        if not text.strip() or len(text) > LONGEST_TEXT:
            raise WrongValue(
                param=f"{name}[{index}]",
                expected_en=f"a text of 1 to {LONGEST_TEXT} characters",
                expected_zh=f" 1 到 {LONGEST_TEXT} 个字符的文字",
            )
    return whole


def _text(entry: object) -> str | None:
    """A text, also as {"text": …}, which some rerank clients send."""
    if isinstance(entry, dict):
        entry = entry.get("text")
    return entry if isinstance(entry, str) else None


def _usage(texts: tuple[str, ...]) -> dict[str, int]:
    """Estimated: embedders do not tell."""
    tokens = sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts)
    return {"prompt_tokens": tokens, "total_tokens": tokens}
