"""Continuous batching of transformers with our own attention, sampler, scheduler and delivery of outputs."""

import queue
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.continuous_api import (
    ContinuousBatchingManager,
    ContinuousBatchProcessor,
    OutputRouter,
)
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestState
from transformers.generation.continuous_batching.utils import find_head_dim

from app.models.engine import attention, scheduler, varlen_attention
from app.models.engine.attention_kinds import AttentionKind, attention_kinds
from app.models.engine.batchable import heads_as_cached
from app.models.engine.fused.available import fused_decoder, token_attention
from app.models.engine.lora import AdapterBank
from app.models.engine.model_runner import StepRunner, adapter_of
from app.models.engine.prefix_cache import SaltedCache
from app.models.engine.sampler import RequestSampling, SamplingRows
from app.models.engine.thread_count import ThreadCount

FLASH_PAGE = 256  # flash attention reads a cache in pages of so many tokens
MOST_PAGES = 512  # of one request that it reads by their numbers; a longer one is gathered first
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
        attention_kind: AttentionKind | None = None,
    ) -> None:
        self._bank = bank
        scheduler.register()
        attention.register()
        varlen_attention.register()
        self._kind = attention_kind or attention_kinds(model)[0]
        if self._kind == "flash":
            page_size = max(page_size, FLASH_PAGE)
        pages = -(-cache_tokens // page_size)
        config = ContinuousBatchingConfig(
            page_size=page_size,
            num_blocks=pages,
            max_batch_tokens=max_batched_tokens,
            max_requests_per_batch=max_running_requests,
            max_blocks_per_request=min(pages, MOST_PAGES) if self._kind == "flash" else 0,
            allow_block_sharing=prefix_sharing,
            scheduler_type=scheduler.NAME,
        )
        if self._kind == "varlen":  # as transformers has it for flash attention
            config.use_cuda_graph = True
            config.use_async_batching = model.device.type == "cuda"
        super().__init__(model, GenerationConfig(eos_token_id=-1, do_sample=True), config)
        # a simple queue may be filled from a finalizer, whichever thread the garbage collector runs in
        self.cancel_queue = queue.SimpleQueue()  # type: ignore[assignment]
        self.output_router: DirectRouter = DirectRouter()
        self.logit_processor = SamplingRows()

    def switch_to_cb_friendly_attn(self, model: Any, auto_switch_to_flash: bool = True) -> None:
        name = {"fused": attention.NAME, "by request": attention.NAME, "varlen": varlen_attention.NAME}.get(self._kind)
        if name is None:
            super().switch_to_cb_friendly_attn(model, auto_switch_to_flash and self._kind == "flash")
            return
        self._original_attn_impl = model.config._attn_implementation
        model.set_attn_implementation(name)

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
        if self._kind in ("fused", "by request"):
            width = find_head_dim(processor.cache.config)
            single = token_attention(self.model, width) if self._kind == "fused" else None
            runner.plan = attention.StepPlan(processor.cache, self.model.dtype, single)
            runner.fused = fused_decoder(self.model) if single else None
            processor.cache.extend_read_and_write_indices = runner.plan.add_request  # type: ignore[method-assign]
        processor.model_runner = runner
        runner.warmup(self.model)  # captures what is replayed later, where steps are captured
        return processor


def _state(processor: ContinuousBatchProcessor, request_id: str) -> RequestState | None:
    scheduler = processor.scheduler
    return scheduler.active_requests.get(request_id) or scheduler.waiting_requests.get(request_id)
