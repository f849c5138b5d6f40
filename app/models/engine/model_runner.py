"""Model runner: one forward pass of the batch with its adapters, attention plan, penalties and token draws."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers.generation.continuous_batching.input_outputs import ContinuousBatchingAsyncIOs, ContinuousBatchingIOs
from transformers.generation.continuous_batching.model_runner import ModelRunner
from transformers.generation.continuous_batching.requests import RequestState
from transformers.generation.continuous_batching.utils import CudaGraphBuffer, stream_context

from app.models.engine.attention import StepPlan
from app.models.engine.lora import AdapterBank
from app.models.engine.sampler import RequestSampling, draw, generated_by, sampling_of
from app.models.engine.thread_count import ThreadCount

if TYPE_CHECKING:
    from app.models.engine.fused.decoder import FusedDecoder

Row = tuple[int, RequestSampling, RequestState]  # row of the logits, and whose it is


class Watched(Protocol):
    """Who may want to see the logits of each step, with the ids of their requests."""

    watch: Callable[[list[str], torch.Tensor], None] | None


class StepRunner(ModelRunner):
    """transformers' model runner with adapters, per-request attention where `plan` is set, and per-request draws."""

    bank: AdapterBank
    manager: Watched
    plan: StepPlan | None = None
    threads: ThreadCount | None = None  # on processors
    fused: "FusedDecoder | None" = None  # where all between two products is one kernel
    _graphs_of = 0
    _logits: torch.Tensor | None = None  # of the step
    _captured: torch.Tensor | None = None  # [most requests, vocabulary], where captured steps leave theirs
    _is_captured = False

    def compute_batch(self, model: torch.nn.Module, batch_data: dict[str, Any]) -> None:
        if self.plan is not None:
            self.plan.make_groups()
            batch_data = {**batch_data, "plan": self.plan}
        stream = self.inputs_and_outputs.compute_stream
        requests = self._host_io().requests_in_batch
        drawn = [r.state for r in requests if r.has_new_token]
        try:
            with self.bank.step_lock:
                if self.bank.generation != self._graphs_of:
                    self._drop_graphs(stream)
                with stream_context(stream):
                    lengths = [(adapter_of(r.state), r.query_length) for r in requests]
                    self.bank.set_step(lengths, batch_data["input_ids"].shape[-1], in_batch=True)
                with (
                    self.threads.step(batch_data["input_ids"].shape[-1]) if self.threads else nullcontext(),
                    torch.inference_mode(),
                ):
                    super().compute_batch(model, batch_data)
                    with stream_context(stream):
                        self._draw(batch_data, [(row, sampling_of(state), state) for row, state in enumerate(drawn)])
        finally:
            self._logits = None
            self.bank.set_step((), 0)
            if self.plan is not None:
                self.plan.clear()

    def supports_logits_to_keep(self, model: torch.nn.Module) -> bool:
        return super().supports_logits_to_keep(model) and not self.bank.adapts_output

    def _get_forward_fn(self, use_block_table: bool) -> tuple[Callable[..., None], bool]:
        forward, self._is_captured = super()._get_forward_fn(use_block_table)
        return forward, self._is_captured

    def _host_io(self) -> ContinuousBatchingIOs:
        io = self.inputs_and_outputs
        return io.io_pairs[io.current_pair].host_io if isinstance(io, ContinuousBatchingAsyncIOs) else io

    def _drop_graphs(self, stream: Any) -> None:
        """Captured graphs hold the adapters of their time."""
        if stream is not None:
            stream.synchronize()
        io = self.inputs_and_outputs
        places = [p.device_io for p in io.io_pairs] if isinstance(io, ContinuousBatchingAsyncIOs) else [io]
        for place in places:
            place.graphs = CudaGraphBuffer()
        self._graphs_of = self.bank.generation

    def _forward_process_and_sample(
        self,
        model: torch.nn.Module,
        batch_data: dict[str, Any],
        carry_over_ids: torch.Tensor,
        prev_output_ids: torch.Tensor,
        output_ids: torch.Tensor,  # noqa: ARG002  tokens are drawn behind the captured part
    ) -> None:
        """Ends with the logits: each request draws its token as it wants."""
        self.inputs_and_outputs.carry_over_tokens(batch_data["input_ids"], carry_over_ids, prev_output_ids)
        logits = self._forward(model, batch_data)
        self._logits = self._kept(logits) if self._is_captured else logits

    def _kept(self, logits: torch.Tensor) -> torch.Tensor:
        """A copy where all captured steps leave their logits."""
        if self._captured is None:
            self._captured = logits.new_empty(int(self.cb_config.max_requests_per_batch or 0), logits.shape[-1])
        return self._captured[: len(logits)].copy_(logits)

    def _forward(self, model: torch.nn.Module, batch_data: dict[str, Any]) -> torch.Tensor:
        """[requests that draw, vocabulary]"""
        kept = batch_data["logits_indices"]
        if self.fused is not None and self.plan is not None:
            tokens, positions = batch_data["input_ids"], batch_data["position_ids"]
            places = batch_data["write_index"][0]
            return self.fused.logits(tokens, positions, places, kept, self.plan, self.bank.of_step())
        logits: torch.Tensor = model(**batch_data).logits
        return logits[0] if "logits_to_keep" in batch_data else logits[0, kept]

    def _draw(self, batch_data: dict[str, Any], rows: Sequence[Row]) -> None:
        arguments = batch_data["logits_processor_args"].view(torch.float32)
        replayed = None if self._captured is None else self._captured[: arguments.shape[-1]]
        logits = replayed if self._logits is None else self._logits
        if logits is None:
            raise RuntimeError("the step has left no logits")
        if self.manager.watch is not None:
            self.manager.watch([state.request_id for _, _, state in rows], logits)
        recorded = [row for row in rows if row[1].top_logprobs is not None]
        told = [logits[row].float().log_softmax(-1) for row, _, _ in recorded]
        adjusted = [row for row in rows if row[1].changes_logits]
        if adjusted:
            logits = self._adjust(logits, adjusted, batch_data)
        tokens = draw(logits, arguments, [sampling for _, sampling, _ in rows])
        for (row, sampling, _), logprobs in zip(recorded, told, strict=True):
            sampling.record(logprobs, int(tokens[row]))
        self.inputs_and_outputs.output_ids[0, : tokens.numel()].copy_(tokens)

    def _adjust(self, logits: torch.Tensor, rows: Sequence[Row], batch_data: dict[str, Any]) -> torch.Tensor:
        logits = logits.float()
        for row, sampling, state in rows:
            prompt = state.initial_tokens[: state._true_initial_tokens or None]
            newest = None
            if state.position_offset > len(state.initial_tokens) + len(state.generated_tokens):
                # two steps are under way: the newest token is known on the device only
                newest = batch_data["input_ids"][0].index_select(0, batch_data["logits_indices"][row : row + 1])
            sampling.adjust(logits[row], prompt, generated_by(state), newest)
        return logits


def adapter_of(state: RequestState | None) -> int:
    """The number of the adapter that a request asked for; 0 is the base."""
    return int(state.logit_processor_kwargs.get("adapter") or 0) if state else 0
