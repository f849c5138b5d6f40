"""Answers, streamed: wait for the model, wait for one's turn, then text with its figures."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from app.chat.request import ChatRequest
from app.models.interface import FinishReason, Generation, LedgerEntry, Registry

WAIT_S = 0.2  # how often a waiting answer looks at the ledger and its place in the queue
PACE_S = 0.06  # pieces that come faster are shown together: each showing costs the server a diff and a message


@dataclass(frozen=True)
class Reply:
    """An answer as it stands now. `loading` is 0 to 1 while its model is fetched; it and `wait_s` None when unknown."""

    state: Literal["loading", "queued", "writing", "done"]
    text: str = ""
    model: str = ""
    loading: float | None = None
    queue_ahead: int = 0
    wait_s: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_per_second: float = 0.0
    dropped_turns: int = 0
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class ChatService:
    """Chat over whatever the registry holds."""

    registry: Registry

    def reply(self, request: ChatRequest, visitor: str = "") -> Iterator[Reply]:
        """The answer as it grows. Closing the iterator cancels the generation."""
        name = request.model or self.registry.default_name
        yield from self._await_model(name)
        with self.registry.lease(name) as model:
            generation = model.stream(
                request.messages(), request.sampling, visitor=visitor, drop_oldest=bool(request.history)
            )
            stream = _Stream(generation)
            try:
                yield from stream.replies(name)
            finally:
                stream.close()

    def _await_model(self, name: str) -> Iterator[Reply]:
        """Report the loading. A failure is left to the lease, which raises its reason."""
        self.registry.load(name)
        while (entry := self._entry(name)) and entry.state in ("downloading", "loading"):
            yield Reply("loading", model=name, loading=entry.progress)
            time.sleep(WAIT_S)

    def _entry(self, name: str) -> LedgerEntry | None:
        base = name.split("+")[0]
        return next((entry for entry in self.registry.ledger().models if entry.name in (name, base)), None)


@dataclass
class _Stream:
    """Reads a generation on a thread, so that its place in the queue is seen, and a stop heard, between two tokens."""

    generation: Generation
    pieces: "queue.SimpleQueue[str | Exception | None]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.queued_at, self.ahead_at_first = time.monotonic(), self.generation.queue_ahead
        self.shown_at = 0.0
        self.reader = threading.Thread(target=self._read, name="chat-reader", daemon=True)
        self.reader.start()

    def _read(self) -> None:
        try:
            for piece in self.generation:
                self.pieces.put(piece)
        except Exception as error:
            self.pieces.put(error)
        self.pieces.put(None)

    def replies(self, name: str) -> Iterator[Reply]:
        text, began, ended = "", 0.0, False
        while not ended:
            news = self._news()
            for piece in news:
                if isinstance(piece, Exception):
                    raise piece
                began = began or time.monotonic()
                ended = piece is None
                text += piece or ""
            if ended:
                yield replace(self._reply(name, text, began), state="done")
            elif text:
                yield self._reply(name, text, began)
            else:
                yield self._place(name)

    def _news(self) -> "list[str | Exception | None]":
        """All pieces that are there; none after a short wait."""
        try:
            news = [self.pieces.get(timeout=WAIT_S)]
        except queue.Empty:
            return []
        time.sleep(max(0.0, self.shown_at + PACE_S - time.monotonic()))
        self.shown_at = time.monotonic()
        while not self.pieces.empty():
            news.append(self.pieces.get())
        return news

    def _place(self, name: str) -> Reply:
        """The place in the queue; the time left as fast as it moved so far."""
        ahead = self.generation.queue_ahead
        passed = self.ahead_at_first - ahead
        wait = (time.monotonic() - self.queued_at) / passed * ahead if passed > 0 else None
        return Reply("queued", model=name, queue_ahead=ahead, wait_s=wait)

    def _reply(self, name: str, text: str, began: float) -> Reply:
        tokens = self.generation.completion_tokens
        seconds = time.monotonic() - began
        return Reply(
            "writing",
            text,
            name,
            prompt_tokens=self.generation.prompt_tokens,
            completion_tokens=tokens,
            tokens_per_second=(tokens - 1) / seconds if tokens > 1 and seconds > 0 else 0.0,
            dropped_turns=self.generation.dropped_turns,
            finish_reason=self.generation.finish_reason,
        )

    def close(self) -> None:
        """Nothing of this request runs on once the lease is given back."""
        self.generation.cancel()
        self.reader.join(timeout=10)
