"""One metered request: from admission to its end, which is noted once and from any thread."""

import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from app.models import interface
from app.models.interface import FinishReason, Part, ScoredGeneration, TokenScore, answer_pieces


@dataclass(frozen=True)
class Answered:
    """One request that has ended; times in seconds. `finish_reason` is None where it failed."""

    model: str
    visitor: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason | None
    first_token_s: float | None
    seconds: float


class EndNoted(Protocol):
    """The meter, as a request sees it."""

    def note_end(self, request: "RunningRequest", answered: Answered) -> None: ...


class _NotStarted:
    """Stands in for a generation between its admission and its start."""

    prompt_tokens = completion_tokens = reasoning_tokens = dropped_turns = queue_ahead = 0
    reasoning = ""
    finish_reason: FinishReason | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def parts(self) -> Iterator[Part]:
        return iter(())

    def cancel(self) -> None:
        """Nothing runs yet."""


NOT_STARTED = _NotStarted()


class RunningRequest:
    """One request from its admission to its end, which comes once and from any thread."""

    def __init__(self, meter: EndNoted, model: str, visitor: str) -> None:
        self.visitor = visitor
        self.inner: interface.Generation = NOT_STARTED
        self.first_token_s: float | None = None
        self._meter = meter
        self._model = model
        self._began = time.monotonic()
        self._open = [True]  # emptied by who ends it: `pop` is atomic

    @property
    def ended(self) -> bool:
        return not self._open

    @property
    def queue_ahead(self) -> int:
        return self.inner.queue_ahead

    def note_part(self) -> None:
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self._began

    def end(self) -> None:
        self.inner.cancel()  # nothing to one that has ended
        try:
            self._open.pop()
        except IndexError:
            return
        inner, seconds = self.inner, time.monotonic() - self._began
        tokens = inner.prompt_tokens, inner.completion_tokens
        answered = Answered(self._model, self.visitor, *tokens, inner.finish_reason, self.first_token_s, seconds)
        self._meter.note_end(self, answered)


class MeteredGeneration:
    """A Generation that tells the meter when it has ended; it holds its place from before it starts."""

    def __init__(self, request: RunningRequest) -> None:
        self._request = request
        self._parts = self._read()
        self._pieces = answer_pieces(self._parts)
        # one that is neither read nor cancelled ends when nobody holds it any more
        weakref.finalize(self, request.end).atexit = False

    def start(self, begin: Callable[[], interface.Generation]) -> Self:
        """Run it; what cannot start gives its place back."""
        try:
            self._request.inner = begin()
        except BaseException:
            self._request.end()
            raise
        return self

    @property
    def prompt_tokens(self) -> int:
        return self._request.inner.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        return self._request.inner.completion_tokens

    @property
    def reasoning_tokens(self) -> int:
        return self._request.inner.reasoning_tokens

    @property
    def reasoning(self) -> str:
        return self._request.inner.reasoning

    @property
    def scores(self) -> Sequence[TokenScore] | None:
        inner = self._request.inner
        return inner.scores if isinstance(inner, ScoredGeneration) else None

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._request.inner.finish_reason

    @property
    def dropped_turns(self) -> int:
        return self._request.inner.dropped_turns

    @property
    def queue_ahead(self) -> int:
        return self._request.inner.queue_ahead

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def parts(self) -> Iterator[Part]:
        return self._parts

    def _read(self) -> Generator[Part, None, None]:
        try:
            for part in self._request.inner.parts():
                self._request.note_part()
                yield part
        finally:
            self._request.end()

    def cancel(self) -> None:
        self._request.end()
