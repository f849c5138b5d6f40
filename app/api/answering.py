"""Run generations on threads and read their events on the asyncio event loop, which never blocks."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from app.models.engine.response_calls import CallReader
from app.models.engine.tool_calls import ToolCall
from app.models.interface import ChatModel, FinishReason, Generation, Registry, ScoredGeneration, TokenScore
from app.models.registry.metering import TooManyAtOnce

PATIENCE_SECONDS = 60.0  # how long a request waits while its visitor has too many others; then 429
PLACE_SECONDS = 0.2  # how often it looks for a place
Scores = tuple[TokenScore, ...]


@dataclass(frozen=True)
class Piece:
    """Text of one choice as it comes."""

    choice: int
    text: str
    scores: Scores | None = None
    kind: Literal["answer", "reasoning"] = "answer"
    call: ToolCall | None = None


@dataclass(frozen=True)
class Ended:
    """How one choice ended; its last event. `scores` are those that no piece has told."""

    choice: int
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    scores: Scores | None = None
    called: bool = False


@dataclass(frozen=True)
class Job:
    """One choice: `begin` starts its generation; `score` gives its log-probabilities once its text is known, for
    engines that do not tell them as they go; `prefix` is told before all (an echoed prompt); `reader` finds the calls
    of tools in the answer."""

    begin: Callable[[ChatModel], Generation | None]
    score: Callable[[ChatModel, str], Scores | None] = lambda _model, _text: None
    prefix: Callable[[ChatModel], tuple[str, Scores | None, int] | None] = lambda _model: None
    reader: Callable[[ChatModel], CallReader | None] = lambda _model: None


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
                before = job.prefix(model)
                if before is not None:
                    self._tell(Piece(choice, before[0], before[1]))
                generation = self._begin(job, model)
                if generation is None:
                    self._tell(Ended(choice, "length", before[2] if before else 0, 0))
                    return
                self._follow(choice, job, model, generation)
        except Exception as error:
            self._tell(error)

    def _follow(self, choice: int, job: Job, model: ChatModel, generation: Generation) -> None:
        told, texts, called = 0, [], False
        reader = job.reader(model)
        for part in generation.parts():
            fresh = _scores_after(generation, told)
            told += len(fresh or ())
            if part.kind == "reasoning" or reader is None:
                texts.append(part.text if part.kind == "answer" else "")
                self._tell(Piece(choice, part.text, fresh, part.kind))
            else:
                called |= self._tell_calls(choice, reader.push(part.text))
        if reader is not None:
            called |= self._tell_calls(choice, reader.finish())
        rest = _scores_after(generation, told)
        if rest is None and not self._left.is_set():
            rest = job.score(model, "".join(texts))
        self._tell(
            Ended(
                choice,
                generation.finish_reason or "stop",
                generation.prompt_tokens,
                generation.completion_tokens,
                generation.reasoning_tokens,
                rest,
                called,
            )
        )

    def _tell_calls(self, choice: int, found: Iterator[str | ToolCall]) -> bool:
        """Whether there was a call among it."""
        called = False
        for one in found:
            called |= isinstance(one, ToolCall)
            self._tell(Piece(choice, "", call=one) if isinstance(one, ToolCall) else Piece(choice, one))
        return called

    def _begin(self, job: Job, model: ChatModel) -> Generation | None:
        """A client that sends many requests at once waits for its own, for a while. Raises TooManyAtOnce."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                generation = job.begin(model)
                break
            except TooManyAtOnce:
                if time.monotonic() > deadline or self._left.wait(PLACE_SECONDS):
                    raise
        if generation is None:
            return None
        self._generations.append(generation)
        if self._left.is_set():
            generation.cancel()
        return generation

    def _tell(self, event: Event | Exception) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


def _scores_after(generation: Generation, told: int) -> Scores | None:
    scores = generation.scores if isinstance(generation, ScoredGeneration) else None
    return None if scores is None else tuple(scores[told:])
