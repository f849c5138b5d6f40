"""Inference engine of one model: continuous batching, streaming, cancellation, adapters, restart after a fault.

A request's way: messages -> chat template -> tokens -> the batch (one thread runs every step) -> the request's own
queue -> whole characters -> the caller's iterator, in the caller's thread.
"""

import itertools
import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch

from app.errors import EngineFailed, ModelInUse
from app.models.engine.attention_kinds import AttentionKind
from app.models.engine.batch_manager import BatchManager
from app.models.engine.batchable import batch_context
from app.models.engine.generation import EngineGeneration
from app.models.engine.lora import AdapterBank
from app.models.engine.prompt import EncodedPrompt, refuse_pictures
from app.models.engine.proof import batch_fault
from app.models.engine.reasoning import thinking_of
from app.models.engine.request_builder import RequestBuilder
from app.models.engine.tuned_model import TunedModel
from app.models.interface import Inspection, Message, Sampling, TokenScore
from app.models.loading.loader import LoadedModel

log = logging.getLogger(__name__)
LEAST_CACHE_TOKENS = 4096


@dataclass(frozen=True)
class EngineOptions:
    """`cache_tokens`: room for keys and values of all requests; `max_batched_tokens`: most tokens in one step, which
    bounds how long a long prompt delays the others; `max_running_requests`: most requests in one step. Without an
    `attention_kind` it is the fastest that may be tried."""

    cache_tokens: int = 32768
    page_size: int = 64
    max_batched_tokens: int = 256
    max_running_requests: int = 32
    prefix_sharing: bool = True
    attention_kind: AttentionKind | None = None


class Engine:
    """A ChatModel. Thread-safe; `close` gives its cache back and ends whatever still runs."""

    is_multimodal = False

    def __init__(self, name: str, loaded: LoadedModel, options: EngineOptions) -> None:
        self.name = name
        self.loaded = loaded
        self.options = options
        self.chat_template = loaded.chat_template
        self.context_tokens = min(loaded.context_tokens, options.cache_tokens, batch_context(loaded.model))
        self.adapters = AdapterBank()
        self.adapters.install(loaded.model, options.max_batched_tokens if loaded.model.device.type == "cuda" else 0)
        self.sampling_defaults = loaded.sampling_defaults
        self.thinking = thinking_of(loaded.chat_template)
        self._requests = RequestBuilder(loaded, self.context_tokens)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._live: dict[str, LiveRequest] = {}
        self._adapter_leases: list[str] = []
        self._manager: BatchManager | None = None
        self._closed = False

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._requests.prompts.tokens(messages))

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",
        drop_oldest: bool = False,
        adapter: str | None = None,
    ) -> EngineGeneration:
        """Raises AdapterGone where the adapter is not loaded any more."""
        refuse_pictures(self.name, messages)
        prompt, dropped = self._requests.prompts.fit(messages, sampling, drop_oldest)
        return self._start(prompt, dropped, sampling, visitor, adapter)

    def complete(
        self, tokens: Sequence[int], sampling: Sampling, *, visitor: str = "", adapter: str | None = None
    ) -> EngineGeneration:
        return self._start(self._requests.plain(tokens), 0, sampling, visitor, adapter)

    def encode(self, text: str) -> list[int]:
        return list(self.loaded.tokenizer(text)["input_ids"])

    def token_text(self, token: int) -> str:
        return str(self.loaded.tokenizer.decode(self._requests.prompts.checked([token])))

    def score_text(
        self, tokens: Sequence[int], top_logprobs: int, start: int = 1, adapter: str | None = None
    ) -> list[TokenScore]:
        before = self._requests.prompts.checked(tokens[:start])
        return self._scores(before, self._requests.plain(tokens).tokens[start:], top_logprobs, adapter)

    def _start(
        self, prompt: EncodedPrompt, dropped: int, sampling: Sampling, visitor: str, adapter: str | None
    ) -> EngineGeneration:
        reader = self._requests.reader(prompt, sampling)
        generation = EngineGeneration(self, f"{self.name}-{next(self._numbers)}", len(prompt), dropped, reader)
        self._submit(generation, prompt, sampling, visitor, adapter)
        return generation

    def inspect(self, messages: Sequence[Message], answer: str, adapter: str | None = None) -> Inspection:
        prompts = self._requests.prompts
        return self.adapters.inspect(adapter, prompts.tokens(messages), prompts.answer_tokens(answer))

    def score_tokens(
        self, messages: Sequence[Message], answer: str, top_logprobs: int, adapter: str | None = None
    ) -> list[TokenScore]:
        prompts = self._requests.prompts
        return self._scores(prompts.tokens(messages), prompts.answer_tokens(answer), top_logprobs, adapter)

    def _scores(
        self, prompt: Sequence[int], tokens: Sequence[int], top_logprobs: int, adapter: str | None
    ) -> list[TokenScore]:
        if not tokens:
            return []
        text, found = self.token_text, self.adapters.scores(adapter, prompt, tokens, top_logprobs)
        return [
            TokenScore(text(token), own, tuple((text(other), log) for other, log in tops))
            for token, (own, tops) in zip(tokens, found, strict=True)
        ]

    def cancel(self, request_id: str) -> None:
        """End this request before the next step; one that has ended is only forgotten.

        Takes no lock: an answer that nobody holds any more is ended by the garbage collector, which may run in a
        thread that holds one.
        """
        live = self._live.pop(request_id, None)
        if live is not None:
            live.manager.cancel_request(request_id)
            live.manager.output_router.forget(request_id)

    def ahead_of(self, request_id: str) -> int:
        live = self._live.get(request_id)
        return live.manager.ahead_of(request_id) if live else 0

    def is_running(self, request_id: str) -> bool:
        live = self._live.get(request_id)
        return live is not None and live.manager.is_running()

    @contextmanager
    def lease_adapter(self, adapter: str) -> Iterator[TunedModel]:
        """The same engine answering through one of its adapters, which stays until the lease ends. Raises
        AdapterGone."""
        with self._lock:
            self.adapters.number(adapter)
            self._adapter_leases.append(adapter)
        try:
            yield TunedModel(self, adapter)
        finally:
            self._adapter_leases.remove(adapter)  # no lock, as in `cancel`

    @property
    def requests(self) -> int:
        """Requests that run or wait now."""
        return len(self._live)

    def remove_adapter(self, adapter: str) -> None:
        """Forget an adapter. Raises ModelInUse while it is leased or a request runs with it."""
        with self._lock:
            if adapter not in self.adapters.names():
                return
            number = self.adapters.number(adapter)
            running = sum(live.adapter == number for live in list(self._live.values()))
            users = max(running, self._adapter_leases.count(adapter))
            if users:
                raise ModelInUse(name=f"{self.name}+{adapter}", leases=users)
            self.adapters.remove(adapter)

    def start(self) -> None:
        """Its cache is there from now on, and steps that are captured are before the first request."""
        with self._lock:
            self._running_manager()

    @property
    def least_cache_tokens(self) -> int:
        """One conversation as long as promised has room."""
        return min(self.options.cache_tokens, max(self.context_tokens, LEAST_CACHE_TOKENS))

    def resize_cache(self, tokens: int) -> bool:
        """Give the cache room for so many tokens; False, and nothing is changed, while requests run or wait."""
        with self._lock:
            if self._live:
                return False
            manager, self._manager = self._manager, None
            if manager is not None:
                manager.stop(block=True, hard_stop=True)
            self.options = replace(self.options, cache_tokens=tokens)
            if manager is not None:
                self._running_manager()
        return True

    def park(self) -> None:
        """Move the weights to main memory and drop the cache; no request may be running."""
        self._stop_batch(closed=True)
        self._move("cpu")

    def unpark(self, device: str) -> None:
        self._move(device)
        self._closed = False
        self.start()

    def _move(self, device: str) -> None:
        modules: tuple[torch.nn.Module, ...] = (self.loaded.model, self.adapters.reader)
        for module in modules:  # the weights are the same, their buffers are not
            module.to(device)

    def proof(self) -> str:
        """Why the batch must not run this model, see proof.py; empty where it may. Its cache is there from then on."""
        with self._lock:
            manager = self._running_manager()
        return batch_fault(manager, self.adapters.reader, self.options.page_size)

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
        prompt: EncodedPrompt,
        sampling: Sampling,
        visitor: str,
        adapter: str | None,
    ) -> None:
        request_id = generation.request_id
        drawn = self._requests.sampling(prompt, sampling)
        generation.recorded = None if sampling.top_logprobs is None else drawn.recorded
        with self._lock:  # an adapter that is there now stays until the request has ended
            number = self.adapters.number(adapter)
            manager = self._running_manager()
            self._live[request_id] = LiveRequest(manager, number)
        weakref.finalize(generation, self.cancel, request_id).atexit = False
        accepted = manager.submit(
            request_id,
            prompt.tokens,
            self._requests.most_tokens(prompt, sampling),
            sorted(self._requests.stop_tokens(sampling)),
            drawn,
            visitor,
            number,
            generation.inbox.deliver,
        )
        if not accepted:
            self.cancel(request_id)
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


@dataclass(frozen=True)
class LiveRequest:
    """A request that runs or waits: in which batch, and the number of its adapter."""

    manager: BatchManager
    adapter: int
