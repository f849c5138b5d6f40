"""One answer on its way: outputs arrive on the engine's thread, text is read in the caller's."""

import queue
import time
from collections.abc import Iterator
from typing import Protocol

from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus

from app.errors import EngineFailed
from app.models.engine.detokenizer import Detokenizer
from app.models.interface import FinishReason

CHECK_SECONDS = 1.0  # how often a waiting reader looks whether the engine still lives


class Runs(Protocol):
    """Who runs a generation, as the generation sees it."""

    def cancel(self, generation: "EngineGeneration") -> None: ...
    def ahead_of(self, generation: "EngineGeneration") -> int: ...
    def is_running(self, generation: "EngineGeneration") -> bool: ...


class EngineGeneration:
    """One answer on its way; see `interface.Generation`."""

    def __init__(self, engine: Runs, request_id: str, prompt_tokens: int, dropped_turns: int) -> None:
        self.request_id = request_id
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.dropped_turns = dropped_turns
        self.adapter: str | None = None
        self.finish_reason: FinishReason | None = None
        self.started = time.perf_counter()
        self.first_token_seconds: float | None = None
        self._last_token = self.started
        self._engine = engine
        self._outputs: queue.SimpleQueue[GenerationOutput | None] = queue.SimpleQueue()
        self._pieces: Iterator[str] | None = None

    def __iter__(self) -> Iterator[str]:
        if self._pieces is None:
            raise RuntimeError("the request was never submitted")
        return self._pieces

    def cancel(self) -> None:
        if self.finish_reason is None:
            self.finish_reason = "cancelled"
            self._engine.cancel(self)
            self._outputs.put(None)

    @property
    def queue_ahead(self) -> int:
        return 0 if self.completion_tokens or self.finish_reason else self._engine.ahead_of(self)

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed after the first token; 0 while there is none."""
        if self.first_token_seconds is None or self.completion_tokens < 2:
            return 0.0
        seconds = self._last_token - self.started - self.first_token_seconds
        return (self.completion_tokens - 1) / seconds if seconds > 0 else 0.0

    def deliver(self, output: GenerationOutput) -> None:
        """Called on the engine's thread."""
        now = time.perf_counter()
        if self.first_token_seconds is None and output.generated_tokens:
            self.first_token_seconds = now - self.started
        self._last_token = now
        self._outputs.put(output)

    def read(self, stream: Detokenizer, stop_tokens: frozenset[int]) -> None:
        self._pieces = self._read(stream, stop_tokens)

    def _read(self, stream: Detokenizer, stop_tokens: frozenset[int]) -> Iterator[str]:
        try:
            while self.finish_reason is None:
                output = self._next_output()
                if output is None:
                    return
                text = "".join(stream.push(t) for t in self._new_tokens(output) if t not in stop_tokens)
                ended = stream.stopped or output.is_finished()
                if ended:
                    met_stop = stream.stopped or output.generated_tokens[-1] in stop_tokens
                    text += stream.finish()
                    self.finish_reason = "stop" if met_stop else "length"
                if text:
                    yield text
        finally:
            if self.finish_reason is None:
                self.finish_reason = "cancelled"
            self._engine.cancel(self)

    def _new_tokens(self, output: GenerationOutput) -> list[int]:
        new = output.generated_tokens[self.completion_tokens :]
        self.completion_tokens = len(output.generated_tokens)
        return new

    def _next_output(self) -> GenerationOutput | None:
        while True:
            try:
                output = self._outputs.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                if self._engine.is_running(self):
                    continue
                raise EngineFailed from None
            if output is not None and output.status == RequestStatus.FAILED:
                raise EngineFailed
            return output
