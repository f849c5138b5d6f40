"""Models that the batch cannot run go through `generate`, one request at a time, behind the same interface."""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import BatchFeature, StoppingCriteria, StoppingCriteriaList
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus
from transformers.generation.streamers import BaseStreamer

from app.models.backends.multimodal import MultimodalPrompt, MultimodalPrompts
from app.models.engine.detokenizer import Detokenizer
from app.models.engine.generation import EngineGeneration
from app.models.engine.lora import AdapterBank
from app.models.engine.prompt import PromptBuilder, refuse_pictures
from app.models.interface import Message, Sampling
from app.models.loading.loader import LoadedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueuedRequest:
    """One request as `generate` takes it; `inputs` are pictures. It may travel to another process."""

    model: str
    tokens: Sequence[int]
    inputs: dict[str, Any]
    most: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...]


Job = tuple[EngineGeneration, QueuedRequest, Context]
Lent = Callable[[QueuedRequest], Iterator[int]]


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
    tokens = torch.tensor([list(wanted.tokens)], device=model.device)
    shown = BatchFeature(wanted.inputs).to(model.device, model.dtype)
    sampling = wanted.sampling
    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        **shown,
        max_new_tokens=wanted.most,
        eos_token_id=list(wanted.stop_token_ids),
        pad_token_id=0,
        streamer=TokenStreamer(take),
        stopping_criteria=StoppingCriteriaList([WhenCancelled(ended)]),
        **({"do_sample": True, **drawn} if sampling.temperature > 0 else {"do_sample": False}),
    )


class GenerateEngine:
    """A ChatModel that answers one request after another; `lent` runs them elsewhere, see zero_gpu.py."""

    def __init__(self, name: str, loaded: LoadedModel, lent: Lent | None = None) -> None:
        self.name = name
        self.loaded = loaded
        self.chat_template = loaded.chat_template
        self.context_tokens = loaded.context_tokens
        self.adapters = AdapterBank()
        self.is_multimodal = loaded.processor is not None
        self._prompts = PromptBuilder(loaded.tokenizer, loaded.chat_template, self.context_tokens)
        self._multimodal = MultimodalPrompts(loaded.processor, self.context_tokens) if self.is_multimodal else None
        self._lent = lent
        self._numbers = itertools.count()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._live: dict[str, EngineGeneration] = {}
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._multimodal.prompt(messages) if self._multimodal else self._prompts.tokens(messages))

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        visitor: str = "",  # noqa: ARG002  one at a time, first come first served
        drop_oldest: bool = False,
    ) -> EngineGeneration:
        prompt, dropped = self._fit(messages, sampling.max_new_tokens, drop_oldest)
        generation = EngineGeneration(self, f"{self.name}-{next(self._numbers)}", len(prompt), dropped)
        stop_tokens = frozenset(self.loaded.stop_token_ids)
        generation.read(Detokenizer(self.loaded.tokenizer, sampling.stop, sampling.keep_special_tokens), stop_tokens)
        most = max(1, min(sampling.max_new_tokens, self.context_tokens - len(prompt)))
        self._live[generation.request_id] = generation
        wanted = QueuedRequest(
            self.name, prompt.tokens, prompt.inputs, most, sampling, tuple(self.loaded.stop_token_ids)
        )
        # a lent GPU is asked for on behalf of the visitor, whom gradio keeps in the context
        self._jobs.put((generation, wanted, copy_context()))
        return generation

    def _fit(self, messages: Sequence[Message], answer: int, drop_oldest: bool) -> tuple[MultimodalPrompt, int]:
        if self._multimodal is not None:
            return self._multimodal.fit(messages, answer, drop_oldest)
        refuse_pictures(self.name, messages)
        tokens, dropped = self._prompts.fit(messages, answer, drop_oldest)
        return MultimodalPrompt(tokens), dropped

    def cancel(self, generation: EngineGeneration) -> None:
        self._live.pop(generation.request_id, None)

    def ahead_of(self, generation: EngineGeneration) -> int:
        return sum(1 for _ in itertools.takewhile(lambda key: key != generation.request_id, list(self._live)))

    def is_running(self, generation: EngineGeneration) -> bool:
        return generation.request_id in self._live and self._worker.is_alive()

    def close(self) -> None:
        for generation in list(self._live.values()):
            generation.cancel()
        self._jobs.put(None)
        self._worker.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            generation = job[0]
            if generation.finish_reason is not None:
                continue
            try:
                job[2].run(self._generate, generation, job[1])
            except Exception:
                log.exception("a request of %s failed", self.name)
                generation.deliver(GenerationOutput(generation.request_id, status=RequestStatus.FAILED))

    def _generate(self, generation: EngineGeneration, wanted: QueuedRequest) -> None:
        so_far: list[int] = []

        def ended() -> bool:
            return generation.finish_reason is not None

        def deliver(status: RequestStatus) -> None:
            generation.deliver(GenerationOutput(generation.request_id, [], list(so_far), status=status))

        def take(token: int) -> None:
            so_far.append(token)
            deliver(RequestStatus.DECODING)

        if self._lent is None:
            generate(self.loaded.model, wanted, take, ended)
        else:
            with closing(cast(Generator[int, None, None], self._lent(wanted))) as tokens:
                for token in tokens:
                    if ended():
                        break
                    take(token)
        deliver(RequestStatus.FINISHED)
