"""Engine over transformers' `generate`, one request at a time, for models that continuous batching cannot run."""

import itertools
import logging
import math
import queue
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import BatchFeature, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus
from transformers.generation.streamers import BaseStreamer

from app.models.backends.multimodal import MultimodalPrompts
from app.models.engine.generation import EngineGeneration, Inbox
from app.models.engine.lora import AdapterBank
from app.models.engine.prompt import EncodedPrompt, refuse_pictures
from app.models.engine.reasoning import thinking_of
from app.models.engine.request_builder import RequestBuilder
from app.models.engine.sampler import RequestSampling
from app.models.fair_share import FairQueue, Turn
from app.models.interface import Message, Sampling
from app.models.loading.loader import LoadedModel
from app.openmp_threads import all_cores

log = logging.getLogger(__name__)
SEEDS = 2**64  # torch takes no larger ones


@dataclass(frozen=True)
class QueuedRequest:
    """One request as `generate` takes it; `inputs` are pictures. It may travel to another process."""

    model: str
    tokens: Sequence[int]
    inputs: dict[str, Any]
    most: int
    sampling: RequestSampling
    stop_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """A queued request with its turn, where its tokens go and whose context it runs in."""

    request_id: str
    turn: Turn
    inbox: Inbox
    wanted: QueuedRequest
    context: Context


Lent = Callable[[QueuedRequest], Iterator[int]]


class RequestProcessor(LogitsProcessor):
    """Penalties, logit bias and the reasoning budget of the request that runs."""

    def __init__(self, sampling: RequestSampling, prompt_tokens: int) -> None:
        self._sampling = sampling
        self._prompt_tokens = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = input_ids[0].tolist()
        prompt, answer = tokens[: self._prompt_tokens], tokens[self._prompt_tokens :]
        forced = self._sampling.forced(answer)
        if forced is not None:
            scores = torch.full_like(scores, float("-inf"))
            scores[0, forced] = 0
        elif self._sampling.penalties is not None:
            scores = scores.clone()
            self._sampling.penalties.apply(scores[0], prompt, answer)
        return scores


class TokenStreamer(BaseStreamer):
    """Hands on each new token."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self._take = take
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self._take(token)

    def end(self) -> None:
        """The caller knows when `generate` returns."""


class WhenCancelled(StoppingCriteria):
    """Ends `generate` at the next token once nobody wants more."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        self._ended = ended

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._ended(), device=input_ids.device)


@torch.inference_mode()
def generate(model: Any, wanted: QueuedRequest, take: Callable[[int], None], ended: Callable[[], bool]) -> None:
    """Answer one request; `take` gets each token as it comes."""
    tokens = torch.tensor([wanted.tokens], device=model.device)
    shown = BatchFeature(wanted.inputs).to(model.device, dtype=model.dtype)  # whole numbers stay whole
    sampling = wanted.sampling
    torch.manual_seed(sampling.seed % SEEDS)
    chosen = sampling.chosen
    drawn = {"temperature": chosen.temperature, "top_p": chosen.top_p, "top_k": chosen.top_k, "min_p": chosen.min_p}
    model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        **shown,
        max_new_tokens=wanted.most,
        eos_token_id=list(wanted.stop_token_ids) or None,
        pad_token_id=0,
        streamer=TokenStreamer(take),
        logits_processor=LogitsProcessorList([RequestProcessor(sampling, len(wanted.tokens))]),
        stopping_criteria=StoppingCriteriaList([WhenCancelled(ended)]),
        **({"do_sample": True, **drawn} if chosen.temperature > 0 else {"do_sample": False}),
    )


class GenerateEngine:
    """A ChatModel that answers one request after another; `lent` runs them elsewhere, see zero_gpu.py."""

    def __init__(self, name: str, loaded: LoadedModel, lent: Lent | None = None) -> None:
        self.name = name
        self.loaded = loaded
        self.chat_template = loaded.chat_template
        self.context_tokens = loaded.context_tokens
        self.sampling_defaults = loaded.sampling_defaults
        self.thinking = thinking_of(loaded.chat_template)
        self.adapters = AdapterBank()
        self.is_multimodal = loaded.processor is not None
        self._requests = RequestBuilder(loaded, self.context_tokens)
        self._multimodal = (
            MultimodalPrompts(loaded.processor, loaded.turn_rules, self.context_tokens) if self.is_multimodal else None
        )
        self._lent = lent
        self._numbers = itertools.count()
        self._turns = FairQueue()
        self._jobs: queue.PriorityQueue[tuple[Turn, int, Job | None]] = queue.PriorityQueue()
        self._live: dict[str, tuple[Turn, Inbox]] = {}
        self._running = ""
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._multimodal.encode(messages) if self._multimodal else self._requests.prompts.tokens(messages))

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",
        drop_oldest: bool = False,
    ) -> EngineGeneration:
        prompt, dropped = self._fit(messages, sampling, drop_oldest)
        number = next(self._numbers)
        request_id = f"{self.name}-{number}"
        reader = self._requests.reader(prompt, sampling)
        generation = EngineGeneration(self, request_id, len(prompt), dropped, reader)
        most = self._requests.most_tokens(prompt, sampling)
        turn = self._turns.turn(visitor, len(prompt), most)
        self._live[request_id] = turn, generation.inbox
        weakref.finalize(generation, self.cancel, request_id).atexit = False
        wanted = QueuedRequest(
            self.name,
            prompt.tokens,
            prompt.inputs,
            most,
            self._requests.sampling(prompt, sampling),
            tuple(sorted(self._requests.stop_tokens(sampling))),
        )
        # a lent GPU is asked for on behalf of the visitor, whom gradio keeps in the context
        self._jobs.put((turn, number, Job(request_id, turn, generation.inbox, wanted, copy_context())))
        return generation

    def _fit(self, messages: Sequence[Message], sampling: Sampling, drop_oldest: bool) -> tuple[EncodedPrompt, int]:
        if self._multimodal is None:
            refuse_pictures(self.name, messages)
        prompts = self._multimodal or self._requests.prompts
        return prompts.fit(messages, sampling, drop_oldest)

    def cancel(self, request_id: str) -> None:
        """End it with the next token; takes no lock, see `Engine.cancel`."""
        self._live.pop(request_id, None)

    def ahead_of(self, request_id: str) -> int:
        live = dict(self._live)
        if request_id not in live or request_id == self._running:
            return 0
        return sum(key == self._running or turn < live[request_id][0] for key, (turn, _) in live.items())

    def is_running(self, request_id: str) -> bool:
        return request_id in self._live and self._worker.is_alive()

    def close(self) -> None:
        for _, inbox in list(self._live.values()):
            inbox.outputs.put(None)
        self._live.clear()
        self._jobs.put((Turn(math.inf, "", 0), next(self._numbers), None))
        self._worker.join()

    def _work(self) -> None:
        while (job := self._jobs.get()[2]) is not None:
            if job.request_id not in self._live:
                continue
            self._turns.served(job.turn)
            self._running = job.request_id
            try:
                job.context.run(self._generate, job)
            except Exception:
                log.exception("a request of %s failed", self.name)
                job.inbox.deliver(GenerationOutput(job.request_id, status=RequestStatus.FAILED))

    def _generate(self, job: Job) -> None:
        so_far: list[int] = []

        def ended() -> bool:
            return job.request_id not in self._live

        def deliver(status: RequestStatus) -> None:
            job.inbox.deliver(GenerationOutput(job.request_id, [], list(so_far), status=status))

        def take(token: int) -> None:
            so_far.append(token)
            deliver(RequestStatus.DECODING)

        try:
            if self._lent is None:
                with all_cores():
                    generate(self.loaded.model, job.wanted, take, ended)
            else:
                with closing(cast(Generator[int, None, None], self._lent(job.wanted))) as tokens:
                    for token in tokens:
                        if ended():
                            break
                        take(token)
        finally:
            self._turns.ended(job.turn, len(so_far))
        deliver(RequestStatus.FINISHED)
