"""MCP tools that list, search and ask collections of documents."""

import threading
from dataclasses import dataclass
from typing import Annotated

import anyio
from pydantic import Field

from app.access.identity import ApiKey
from app.api.authentication import Caller
from app.api.mcp_calls import ModelName, ToolContext, caller_of, progress_of, request_of, usable_model
from app.api.routes import Api, language_of
from app.knowledge.answer.answering import Answer, Question
from app.knowledge.answer.plain_answer import (
    PlainPassage,
    PlainQuote,
    PlainVerdict,
    marked_text,
    plain_passage,
    plain_quotes,
    plain_verdicts,
)
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner
from app.knowledge.upkeep import SAMPLES

Collection = Annotated[str, Field(description="A name from list_collections.", max_length=200)]


@dataclass(frozen=True)
class DocumentAnswer:
    """An answer with a mark behind each sentence: the number of the passage that holds it, or that none was found."""

    answer: str
    passages: list[PlainPassage]
    quotes: list[PlainQuote]
    verdicts: list[PlainVerdict]


class DocumentTools:
    """A key that bears a login's name reads that person's collections; anybody reads the shared ones."""

    def __init__(self, api: Api, knowledge: KnowledgeService, threads: anyio.CapacityLimiter) -> None:
        self._api, self._knowledge, self._threads = api, knowledge, threads

    async def list_collections(self, context: ToolContext) -> list[str]:
        """List the collections of documents that can be searched and asked."""
        records = await anyio.to_thread.run_sync(self._knowledge.collections, _owner(caller_of(context)))
        return [record.name for record in records]

    async def search_documents(
        self,
        context: ToolContext,
        query: Annotated[str, Field(description="What to look for, in any words.", max_length=10_000)],
        collection: Collection = SAMPLES,
        k: Annotated[int, Field(description="How many passages.", ge=1, le=50)] = 5,
    ) -> list[PlainPassage]:
        """Find the passages of a collection's documents that fit a query best, by meaning and by words.

        Chinese and English documents are found. Each passage comes with its file, headings and page.
        """
        owner = _owner(caller_of(context))
        hits = await anyio.to_thread.run_sync(
            self._knowledge.search, owner, collection, query, k, abandon_on_cancel=True, limiter=self._threads
        )
        return [plain_passage(hit) for hit in hits]

    async def ask_documents(
        self,
        context: ToolContext,
        question: Annotated[str, Field(description="What to answer from the documents.", max_length=10_000)],
        collection: Collection = SAMPLES,
        model: ModelName = "",
        k: Annotated[int, Field(description="How many passages to answer from.", ge=1, le=20)] = 5,
    ) -> DocumentAnswer:
        """Let a language model of this server answer a question from a collection's documents, with its sources.

        Every sentence of the answer is checked against the documents: behind one that they hold stands the number of
        its passage, behind any other that it was not found; do not rely on those. The quotes are the documents' own
        words. Where the documents do not tell, the answer says so.
        """
        caller, left = caller_of(context), threading.Event()
        name = await usable_model(self._api, context, model)
        asked = Question(question, model=name, k=k, visitor=caller.visitor)

        def work() -> Answer:
            answer = Answer()
            for so_far in self._knowledge.ask(_owner(caller), collection, asked):
                answer = so_far
                if left.is_set():
                    break
            return answer

        try:
            async with progress_of(context, self._api.comment_seconds):
                answer = await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        finally:
            left.set()
        return DocumentAnswer(
            marked_text(answer, language_of(request_of(context))),
            [plain_passage(hit) for hit in answer.hits],
            plain_quotes(answer),
            plain_verdicts(answer),
        )


def _owner(caller: Caller) -> Owner:
    return Owner(caller.visitor, guest=not isinstance(caller.visitor, ApiKey))
