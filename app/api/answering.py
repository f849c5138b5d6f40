"""Run generations on threads and read their events on the asyncio event loop, which never blocks."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from app.models.interface import ChatModel, FinishReason, Generation, Registry, TokenScore
from app.models.registry.metering import TooManyAtOnce

PATIENCE_SECONDS = 60.0  # how long a request waits while its visitor has too many others; then 429
PLACE_SECONDS = 0.2  # how often it looks for a place
Scores = tuple[TokenScore, ...]


@dataclass(frozen=True)
class Piece:
    """Text of one choice as it comes."""

    choice: int
    text: str


@dataclass(frozen=True)
class Ended:
    """How one choice ended; its last event. `scores` are its tokens' log-probabilities where they are wanted."""

    choice: int
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    scores: Scores | None = None


@dataclass(frozen=True)
class Job:
    """One choice: `begin` starts its generation, `score` gives its log-probabilities once its text is known."""

    begin: Callable[[ChatModel], Generation]
    score: Callable[[ChatModel, str], Scores | None] = lambda _model, _text: None


Event = Piece | Ended


class ClientGone(Exception):
    """The client closed the connection; nobody reads any more."""


class AnswerStream:
    """The choices of one request. Create it on the event loop; `leave` ends them wherever they stand."""

    def __init__(self, registry: Registry, model: str, jobs: Sequence[Job]) -> None:
        self._registry, self._model = registry, model
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._generations: list[Generation] = []
        self._open = len(jobs)
        self._left = threading.Event()
        for choice, job in enumerate(jobs):
            threading.Thread(target=self._work, args=(choice, job), name="api-answer", daemon=True).start()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Pieces of text, and Ended once for each choice. Raises what a model raised, or ClientGone."""
        while self._open:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            self._open -= isinstance(event, Ended)
            yield event

    async def leave_with(self, request: Request) -> None:
        """End it when the client goes."""
        while (await request.receive())["type"] != "http.disconnect":
            continue
        self.leave()

    def leave(self) -> None:
        self._left.set()
        for generation in list(self._generations):
            generation.cancel()
        self._events.put_nowait(ClientGone())

    def _work(self, choice: int, job: Job) -> None:
        try:
            with self._registry.lease(self._model) as model:
                if self._left.is_set():
                    return
                generation = self._begin(job, model)
                pieces = []
                for piece in generation:
                    pieces.append(piece)
                    self._tell(Piece(choice, piece))
                text = "".join(pieces)
                scores = None if self._left.is_set() else job.score(model, text)
                reason = generation.finish_reason or "stop"
                self._tell(Ended(choice, reason, generation.prompt_tokens, generation.completion_tokens, scores))
        except Exception as error:
            self._tell(error)

    def _begin(self, job: Job, model: ChatModel) -> Generation:
        """A client that sends many requests at once waits for its own, for a while. Raises TooManyAtOnce."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                generation = job.begin(model)
                break
            except TooManyAtOnce:
                if time.monotonic() > deadline or self._left.wait(PLACE_SECONDS):
                    raise
        self._generations.append(generation)
        if self._left.is_set():
            generation.cancel()
        return generation

    def _tell(self, event: Event | Exception) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
