"""One answer, made on a thread of its own and read on the event loop, which is never kept waiting."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from app.api.chat_request import ChatCompletionRequest
from app.api.errors import NotSupported
from app.models.interface import ChatModel, FinishReason, Generation, Registry, TokenScore, TokenScoringModel


@dataclass(frozen=True)
class Ended:
    """How an answer ended; the last thing that is told of it."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    scores: tuple[TokenScore, ...] | None = None


class Gone(Exception):
    """The client closed the connection; nobody reads any more."""


class Answer:
    """Create it on the event loop. `leave` ends it wherever it stands, while its model loads, too."""

    def __init__(self, registry: Registry, wanted: ChatCompletionRequest, visitor: str) -> None:
        self._registry, self._wanted, self._visitor = registry, wanted, visitor
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[str | Ended | Exception] = asyncio.Queue()
        self._generation: Generation | None = None
        self._left = False
        threading.Thread(target=self._work, name="api-answer", daemon=True).start()

    async def news(self) -> AsyncIterator[str | Ended]:
        """Pieces of text, then Ended. Raises what the model raised, or Gone."""
        while True:
            news = await self._news.get()
            if isinstance(news, Exception):
                raise news
            yield news
            if isinstance(news, Ended):
                return

    async def leave_with(self, request: Request) -> None:
        """End it when the client goes."""
        while (await request.receive())["type"] != "http.disconnect":
            continue
        self.leave()

    def leave(self) -> None:
        self._left = True
        if self._generation is not None:
            self._generation.cancel()
        self._news.put_nowait(Gone())

    def _work(self) -> None:
        try:
            with self._registry.lease(self._wanted.model) as model:
                if self._left:
                    return
                if self._wanted.top_logprobs is not None and not isinstance(model, TokenScoringModel):
                    raise NotSupported(param="logprobs")
                sampling = self._wanted.sampling_for(model.context_tokens)
                generation = model.stream(self._wanted.messages, sampling, visitor=self._visitor)
                self._generation = generation
                if self._left:
                    generation.cancel()
                pieces = []
                for piece in generation:
                    pieces.append(piece)
                    self._tell(piece)
                self._tell(self._ended(model, generation, "".join(pieces)))
        except Exception as error:
            self._tell(error)

    def _ended(self, model: ChatModel, generation: Generation, text: str) -> Ended:
        scores = None
        if self._wanted.top_logprobs is not None and isinstance(model, TokenScoringModel) and not self._left:
            scores = tuple(model.score_tokens(self._wanted.messages, text, self._wanted.top_logprobs))
        reason = generation.finish_reason or "stop"
        return Ended(reason, generation.prompt_tokens, generation.completion_tokens, scores)

    def _tell(self, news: str | Ended | Exception) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)
