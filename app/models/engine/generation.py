"""One running generation: tokens come from the engine's thread, text is read in the caller's."""

import queue
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus

from app.errors import EngineFailed
from app.models.engine.detokenizer import Detokenizer
from app.models.engine.reasoning import AnswerSplitter
from app.models.engine.sampler import RecordedToken
from app.models.interface import FinishReason, Part, TokenScore, answer_pieces

CHECK_SECONDS = 1.0  # how often a waiting reader looks whether the engine still lives


class Inbox:
    """Where the engine's thread leaves what a request has made; it does not keep the generation alive."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.first_token_seconds: float | None = None
        self.outputs: queue.SimpleQueue[GenerationOutput | None] = queue.SimpleQueue()

    def deliver(self, output: GenerationOutput) -> None:
        """Called on the engine's thread."""
        if self.first_token_seconds is None and output.generated_tokens:
            self.first_token_seconds = time.perf_counter() - self.started
        self.outputs.put(output)


class Runs(Protocol):
    """Who runs a generation, as the generation sees it."""

    def cancel(self, request_id: str) -> None: ...
    def ahead_of(self, request_id: str) -> int: ...
    def is_running(self, request_id: str) -> bool: ...


@dataclass
class TokenReader:
    """Tokens of one answer to parts. `most` is the longest answer in tokens, without its reasoning."""

    detokenizer: Detokenizer
    splitter: AnswerSplitter
    stop_tokens: frozenset[int]
    most: int
    reasoning_tokens: int = 0
    answer_tokens: int = 0
    met_stop: bool = False

    def push(self, token: int) -> list[Part]:
        if token in self.stop_tokens:
            self.met_stop = True
            return []
        was_in_reasoning = self.splitter.in_reasoning
        parts = self.splitter.push(self.detokenizer.push(token))
        if was_in_reasoning or self.splitter.in_reasoning:
            self.reasoning_tokens += 1
        else:
            self.answer_tokens += 1
        self.met_stop = self.met_stop or self.splitter.stopped
        return parts

    def token_text(self, token: int) -> str:
        """A token by itself; nothing for one that only ends the answer."""
        return "" if token in self.stop_tokens else self.detokenizer.text(token)

    @property
    def ended(self) -> bool:
        return self.met_stop or self.answer_tokens >= self.most


class EngineGeneration:
    """One running answer; see `interface.Generation`."""

    def __init__(
        self, engine: Runs, request_id: str, prompt_tokens: int, dropped_turns: int, reader: TokenReader
    ) -> None:
        self.request_id = request_id
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.dropped_turns = dropped_turns
        self.finish_reason: FinishReason | None = None
        self.inbox = Inbox()
        self.recorded: Sequence[RecordedToken] | None = None
        self._engine = engine
        self._reader = reader
        self._parts = self._read()
        self._pieces = answer_pieces(self._parts)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def parts(self) -> Iterator[Part]:
        return self._parts

    def cancel(self) -> None:
        if self.finish_reason is None:
            self.finish_reason = "cancelled"
            self._engine.cancel(self.request_id)
            self.inbox.outputs.put(None)

    @property
    def scores(self) -> list[TokenScore] | None:
        if self.recorded is None:
            return None
        text = self._reader.token_text
        return [
            TokenScore(text(token), logprob, tuple((text(other), log) for other, log in tops))
            for token, logprob, tops in self.recorded[: self.completion_tokens]
        ]

    @property
    def reasoning(self) -> str:
        return self._reader.splitter.reasoning

    @property
    def reasoning_tokens(self) -> int:
        return self._reader.reasoning_tokens

    @property
    def queue_ahead(self) -> int:
        return 0 if self.completion_tokens or self.finish_reason else self._engine.ahead_of(self.request_id)

    @property
    def first_token_seconds(self) -> float | None:
        return self.inbox.first_token_seconds

    def _read(self) -> Generator[Part, None, None]:
        try:
            while self.finish_reason is None:
                output = self._next_output()
                if output is None:
                    return
                parts: list[Part] = []
                for token in self._new_tokens(output):
                    parts += self._reader.push(token)
                    if self._reader.ended:
                        break
                if self._reader.ended or output.is_finished():
                    parts += self._reader.splitter.finish()
                    self.finish_reason = "stop" if self._reader.met_stop else "length"
                yield from _joined(parts)
        finally:
            if self.finish_reason is None:
                self.finish_reason = "cancelled"
            self._engine.cancel(self.request_id)

    def _new_tokens(self, output: GenerationOutput) -> Iterator[int]:
        """Counted as they are read: what comes after the answer's end is no part of it."""
        for token in output.generated_tokens[self.completion_tokens :]:
            self.completion_tokens += 1
            yield token

    def _next_output(self) -> GenerationOutput | None:
        while True:
            try:
                output = self.inbox.outputs.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                if self._engine.is_running(self.request_id):
                    continue
                raise EngineFailed from None
            if output is not None and output.status == RequestStatus.FAILED:
                raise EngineFailed
            return output


def _joined(parts: list[Part]) -> Iterator[Part]:
    """Neighbours of one kind as one."""
    for place, part in enumerate(parts):
        if place and parts[place - 1].kind == part.kind:
            continue
        together = ""
        for other in parts[place:]:
            if other.kind != part.kind:
                break
            together += other.text
        yield Part(together, part.kind)
