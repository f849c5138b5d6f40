"""Continuous batching of transformers with our own attention, sampler, scheduler and delivery of outputs."""

import queue
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cache import group_layers_by_attn_type
from transformers.generation.continuous_batching.cache_allocators import FULL_ATTENTION
from transformers.generation.continuous_batching.continuous_api import (
    ContinuousBatchingManager,
    ContinuousBatchProcessor,
    OutputRouter,
)
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestState
from transformers.generation.continuous_batching.utils import find_head_dim

from app.models.engine import attention, scheduler
from app.models.engine.fused.available import fused_decoder, token_attention
from app.models.engine.lora import AdapterBank
from app.models.engine.model_runner import StepRunner, adapter_of
from app.models.engine.prefix_cache import SaltedCache
from app.models.engine.sampler import RequestSampling, SamplingRows
from app.models.engine.thread_count import ThreadCount

FLASH_PAGE = 256  # flash attention reads a cache in pages of so many tokens
Deliver = Callable[[GenerationOutput], None]


class DirectRouter(OutputRouter):
    """Hands each output to its request's callback on the engine's thread, which must return at once."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: dict[str, Deliver] = {}

    def expect(self, request_id: str, callback: Deliver) -> None:
        self._callbacks[request_id] = callback

    def forget(self, request_id: str) -> None:
        self._callbacks.pop(request_id, None)

    def deliver(self, output: GenerationOutput) -> None:
        callback = self._callbacks.get(output.request_id)
        if callback is not None:
            callback(output)

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        for output in outputs:
            self.deliver(output)


class BatchManager(ContinuousBatchingManager):
    """One batch for one model. `cache_tokens` is the room for keys and values of all requests together; `watch`, where
    set, is given the logits of each step with the ids of their requests."""

    watch: Callable[[list[str], torch.Tensor], None] | None = None

    def __init__(
        self,
        model: Any,
        bank: AdapterBank,
        *,
        cache_tokens: int,
        page_size: int,
        max_batched_tokens: int,
        max_running_requests: int,
        prefix_sharing: bool,
    ) -> None:
        self._bank = bank
        scheduler.register()
        attention.register()
        self._by_request = model.device.type == "cpu" and _only_full_attention(model)
        if model.device.type == "cuda":
            page_size = max(page_size, FLASH_PAGE)
        config = ContinuousBatchingConfig(
            page_size=page_size,
            num_blocks=-(-cache_tokens // page_size),
            max_batch_tokens=max_batched_tokens,
            max_requests_per_batch=max_running_requests,
            allow_block_sharing=prefix_sharing,
            scheduler_type=scheduler.NAME,
        )
        super().__init__(model, GenerationConfig(eos_token_id=-1, do_sample=True), config)
        # a simple queue may be filled from a finalizer, whichever thread the garbage collector runs in
        self.cancel_queue = queue.SimpleQueue()  # type: ignore[assignment]
        self.output_router: DirectRouter = DirectRouter()
        self.logit_processor = SamplingRows()

    def switch_to_cb_friendly_attn(self, model: Any, auto_switch_to_flash: bool = True) -> None:
        if not self._by_request:
            super().switch_to_cb_friendly_attn(model, auto_switch_to_flash)
            return
        self._original_attn_impl = model.config._attn_implementation
        model.set_attn_implementation(attention.NAME)

    def _generation_loop_body(self, batch_processor: ContinuousBatchProcessor, bootstrapping: bool) -> bool:
        goes_on = super()._generation_loop_body(batch_processor, bootstrapping)
        threads = getattr(batch_processor.model_runner, "threads", None)
        if threads is not None and not batch_processor.has_pending_requests():
            threads.rest()
        return goes_on

    def can_serve(self) -> bool:
        return self.is_running() and self.background_thread_status.can_accept_new_requests() is None

    def ahead_of(self, request_id: str) -> int:
        fair = self.batch_processor.scheduler if self.batch_processor else None
        return fair.ahead_of(request_id) if isinstance(fair, scheduler.FairScheduler) else 0

    def submit(
        self,
        request_id: str,
        tokens: list[int],
        max_new_tokens: int,
        stop_tokens: list[int],
        sampling: RequestSampling,
        visitor: str,
        adapter: int,
        deliver: Deliver,
    ) -> bool:
        """Queue a request; False when the engine no longer takes any."""
        self.output_router.expect(request_id, deliver)
        accepted = self.add_request(
            tokens,
            request_id=request_id,
            max_new_tokens=max_new_tokens,
            streaming=True,
            eos_token_id=stop_tokens,
            sampling=sampling,
            visitor=visitor,
            adapter=adapter,
        )
        if accepted is None:
            self.output_router.forget(request_id)
        return accepted is not None

    def _create_batch_processor(self) -> ContinuousBatchProcessor:
        with heads_as_cached(self.model.config.get_text_config()):
            return self._made_processor()

    def _made_processor(self) -> ContinuousBatchProcessor:
        processor = super()._create_batch_processor()
        SaltedCache.adopt(processor.cache, lambda request_id: adapter_of(_state(processor, request_id)))
        runner = StepRunner(
            logit_processor=processor.logit_processor,
            cb_config=processor.cb_config,
            cache=processor.cache,
            inputs_and_outputs=processor.inputs_and_outputs,
            do_sample=True,
            return_logprobs=False,
        )
        runner.bank = self._bank
        runner.manager = self
        runner.threads = ThreadCount() if self.model.device.type == "cpu" else None
        if self._by_request:
            single = token_attention(self.model, find_head_dim(processor.cache.config))
            runner.plan = attention.StepPlan(processor.cache, self.model.dtype, single)
            runner.fused = fused_decoder(self.model) if single else None
            processor.cache.extend_read_and_write_indices = runner.plan.add_request  # type: ignore[method-assign]
        processor.model_runner = runner
        return processor


def _state(processor: ContinuousBatchProcessor, request_id: str) -> RequestState | None:
    scheduler = processor.scheduler
    return scheduler.active_requests.get(request_id) or scheduler.waiting_requests.get(request_id)


def can_batch(model: Any) -> bool:
    """Whether the batch can run this architecture: a decoder whose layers all attend, fully or in a window."""
    config = model.config.get_text_config()
    if model.config.is_encoder_decoder or not getattr(model, "_supports_attention_backend", False):
        return False
    try:
        kinds = list(group_layers_by_attn_type(config))
    except (ValueError, AttributeError):
        return False
    # a cap on the scores is known to our own attention alone, which takes full attention
    return kinds == [FULL_ATTENTION] or not getattr(config, "attn_logit_softcapping", None)


@contextmanager
def heads_as_cached(config: Any) -> Iterator[None]:
    """For MLA (DeepSeek) the config names the part of a head that positions turn; what is cached is each head whole,
    with keys wider than values."""
    plain, turned, values = (
        getattr(config, name, None) or 0 for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    )
    if not (plain and turned and values):
        yield
        return
    before = getattr(config, "head_dim", None), getattr(config, "num_key_value_heads", None)
    config.head_dim, config.num_key_value_heads = max(plain + turned, values), config.num_attention_heads
    try:
        yield
    finally:
        config.head_dim, config.num_key_value_heads = before


def batch_context(model: Any) -> int:
    """How many tokens a prompt and its answer may have in a batch: where positions stretch for long texts, the longest
    of a batch would stretch them for all, so there the batch takes what needs no stretching."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    original = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", 0)
    stretches = rope.get("rope_type") == "longrope"
    return int(original) if stretches and original else sys.maxsize


def _only_full_attention(model: Any) -> bool:
    return list(group_layers_by_attn_type(model.config.get_text_config())) == [FULL_ATTENTION]
