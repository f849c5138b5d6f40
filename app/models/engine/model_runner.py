"""One forward pass of the batch: which adapter serves which token, whose pages are read, which token comes next."""

from typing import Any

import torch
from transformers.generation.continuous_batching.input_outputs import ContinuousBatchingAsyncIOs, ContinuousBatchingIOs
from transformers.generation.continuous_batching.model_runner import ModelRunner
from transformers.generation.continuous_batching.requests import RequestState
from transformers.generation.continuous_batching.utils import CudaGraphBuffer, stream_context

from app.models.engine.attention import StepPlan
from app.models.engine.lora import AdapterBank
from app.models.engine.sampler import draw


class StepRunner(ModelRunner):
    """transformers' model runner with adapters, per-request attention where `plan` is set, and per-request draws."""

    bank: AdapterBank
    plan: StepPlan | None = None
    _graphs_of = 0

    def compute_batch(self, model: torch.nn.Module, batch_data: dict[str, Any]) -> None:
        if self.plan is not None:
            self.plan.make_groups()
            batch_data = {**batch_data, "plan": self.plan}
        stream = self.inputs_and_outputs.compute_stream
        if self.bank.generation != self._graphs_of:
            self._drop_graphs(stream)
        there = {None, *self.bank.names()}
        named = [(adapter_of(r.state), r.query_length) for r in self._host_io().requests_in_batch]
        # an adapter removed since is that of a cancelled request: nobody reads what its last step gives
        rows = [(name if name in there else None, length) for name, length in named]
        try:
            with stream_context(stream):
                self.bank.set_step(rows, batch_data["input_ids"].shape[-1])
            super().compute_batch(model, batch_data)
        finally:
            self.bank.set_step((), 0)
            if self.plan is not None:
                self.plan.clear()

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
        output_ids: torch.Tensor,
    ) -> None:
        self.inputs_and_outputs.carry_over_tokens(batch_data["input_ids"], carry_over_ids, prev_output_ids)
        arguments = batch_data["logits_processor_args"]
        logits = model(**batch_data).logits
        if "logits_to_keep" not in batch_data:
            logits = logits[:, batch_data["logits_indices"], :]
        tokens = draw(logits[0], arguments.view(torch.float32))
        output_ids[0, : tokens.numel()].copy_(tokens)


def adapter_of(state: RequestState | None) -> str | None:
    """The adapter a request asked for; None is the base."""
    return state.logit_processor_kwargs.get("adapter") if state else None
