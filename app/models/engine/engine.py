"""One model's engine: takes messages, streams text, stops one request without touching the others, and restarts.

A request's way: messages -> chat template -> tokens -> the batch (one thread runs every step) -> the request's own
queue -> whole characters -> the caller's iterator, in the caller's thread.
"""

import itertools
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from app.errors import EngineFailed, ModelInUse
from app.models.engine.batch_manager import BatchManager
from app.models.engine.detokenizer import Detokenizer
from app.models.engine.generation import EngineGeneration
from app.models.engine.lora import AdapterBank
from app.models.engine.prompt import PromptBuilder, refuse_pictures
from app.models.engine.sampler import RequestSampling
from app.models.interface import Inspection, Message, Sampling, TokenScore
from app.models.loading.loader import LoadedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineOptions:
    """`cache_tokens`: room for keys and values of all requests; `max_batched_tokens`: most tokens in one step, which
    bounds how long a long prompt delays the others; `max_running_requests`: most requests in one step."""

    cache_tokens: int = 32768
    page_size: int = 64
    max_batched_tokens: int = 256
    max_running_requests: int = 32
    prefix_sharing: bool = True


class Engine:
    """A ChatModel. Thread-safe; `close` gives its cache back and ends whatever still runs."""

    is_multimodal = False

    def __init__(self, name: str, loaded: LoadedModel, options: EngineOptions) -> None:
        self.name = name
        self.loaded = loaded
        self.options = options
        self.chat_template = loaded.chat_template
        self.context_tokens = min(loaded.context_tokens, options.cache_tokens)
        self.adapters = AdapterBank()
        self.adapters.install(loaded.model, options.max_batched_tokens if loaded.model.device.type == "cuda" else 0)
        self._prompts = PromptBuilder(loaded.tokenizer, loaded.chat_template, self.context_tokens)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._live: dict[str, tuple[EngineGeneration, BatchManager]] = {}
        self._manager: BatchManager | None = None
        self._closed = False

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._prompts.tokens(messages))

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",
        drop_oldest: bool = False,
        adapter: str | None = None,
    ) -> EngineGeneration:
        refuse_pictures(self.name, messages)
        tokens, dropped = self._prompts.fit(messages, sampling.max_new_tokens, drop_oldest)
        generation = EngineGeneration(self, f"{self.name}-{next(self._numbers)}", len(tokens), dropped)
        generation.adapter = adapter
        stop_tokens = frozenset(self.loaded.stop_token_ids)
        generation.read(Detokenizer(self.loaded.tokenizer, sampling.stop, sampling.keep_special_tokens), stop_tokens)
        room = self.context_tokens - len(tokens)
        self._submit(generation, tokens, max(1, min(sampling.max_new_tokens, room)), sampling, visitor, adapter)
        return generation

    def inspect(self, messages: Sequence[Message], answer: str, adapter: str | None = None) -> Inspection:
        tokens = self.loaded.tokenizer.encode(answer, add_special_tokens=False)
        return self.adapters.inspect(adapter, self._prompts.tokens(messages), tokens)

    def score_tokens(
        self, messages: Sequence[Message], answer: str, top_logprobs: int, adapter: str | None = None
    ) -> list[TokenScore]:
        tokenizer = self.loaded.tokenizer
        tokens = tokenizer.encode(answer, add_special_tokens=False)
        if not tokens:
            return []

        def text(token: int) -> str:
            return str(tokenizer.decode([token]))

        found = self.adapters.scores(adapter, self._prompts.tokens(messages), tokens, top_logprobs)
        return [
            TokenScore(text(token), own, tuple((text(other), log) for other, log in tops))
            for token, (own, tops) in zip(tokens, found, strict=True)
        ]

    def cancel(self, generation: EngineGeneration) -> None:
        """End this request before the next step; one that has ended is only forgotten.

        Takes no lock: an iterator that nobody reads any more is closed by the garbage collector, which may run in a
        thread that holds one.
        """
        entry = self._live.pop(generation.request_id, None)
        if entry is not None:
            entry[1].cancel_request(generation.request_id)
            entry[1].output_router.forget(generation.request_id)

    def ahead_of(self, generation: EngineGeneration) -> int:
        older = itertools.takewhile(lambda key: key != generation.request_id, list(self._live))
        return max(0, sum(1 for _ in older) + 1 - self.options.max_running_requests)

    def is_running(self, generation: EngineGeneration) -> bool:
        entry = self._live.get(generation.request_id)
        return entry is not None and entry[1].is_running()

    def with_adapter(self, adapter: str) -> "TunedModel":
        """The same engine answering through one of its adapters."""
        return TunedModel(self, adapter)

    @property
    def requests(self) -> int:
        """Requests that run or wait now."""
        return len(self._live)

    def remove_adapter(self, adapter: str) -> None:
        """Forget an adapter. Raises ModelInUse while a request runs with it."""
        users = sum(g.adapter == adapter for g, _ in list(self._live.values()))
        if users:
            raise ModelInUse(name=f"{self.name}+{adapter}", leases=users)
        if adapter in self.adapters.names():
            self.adapters.remove(adapter)

    def park(self) -> None:
        """Move the weights to main memory and drop the cache; no request may be running."""
        self._stop_batch(closed=True)
        self._module().to("cpu")

    def unpark(self, device: str) -> None:
        self._module().to(device)
        self._closed = False

    def _module(self) -> torch.nn.Module:
        return self.loaded.model

    def close(self) -> None:
        self._stop_batch(closed=True)

    def _stop_batch(self, closed: bool) -> None:
        with self._lock:
            self._closed = closed
            manager, self._manager = self._manager, None
        if manager is not None:
            manager.stop(block=True, hard_stop=True)

    def _submit(
        self,
        generation: EngineGeneration,
        tokens: list[int],
        most: int,
        sampling: Sampling,
        visitor: str,
        adapter: str | None,
    ) -> None:
        with self._lock:
            manager = self._running_manager()
            self._live[generation.request_id] = (generation, manager)
        accepted = manager.submit(
            generation.request_id,
            tokens,
            most,
            list(self.loaded.stop_token_ids),
            RequestSampling(sampling),
            visitor,
            adapter,
            generation.deliver,
        )
        if not accepted:
            self.cancel(generation)
            raise EngineFailed

    def _running_manager(self) -> BatchManager:
        """The batch, started again when a fault has ended it. Holds the lock."""
        if self._closed:
            raise EngineFailed
        if self._manager is not None and not self._manager.can_serve():
            log.error("the engine of %s starts again after a fault", self.name)
            self._manager.stop(block=True, hard_stop=True)
            self._manager = None
        if self._manager is None:
            self._manager = BatchManager(self.loaded.model, self.adapters, **asdict(self.options))
            self._manager.start()
        return self._manager


class TunedModel:
    """A ChatModel: an engine's base with one adapter. Its name is `base+adapter`."""

    is_multimodal = False

    def __init__(self, engine: Engine, adapter: str) -> None:
        self.name = f"{engine.name}+{adapter}"
        self.adapter = adapter
        self.engine = engine
        self.context_tokens = engine.context_tokens
        self.chat_template = engine.chat_template

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return self.engine.count_tokens(messages)

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",
        drop_oldest: bool = False,
    ) -> EngineGeneration:
        return self.engine.stream(messages, sampling, visitor=visitor, drop_oldest=drop_oldest, adapter=self.adapter)

    def inspect(self, messages: Sequence[Message], answer: str) -> Inspection:
        return self.engine.inspect(messages, answer, self.adapter)

    def score_tokens(self, messages: Sequence[Message], answer: str, top_logprobs: int) -> list[TokenScore]:
        return self.engine.score_tokens(messages, answer, top_logprobs, self.adapter)
