"""A batch of a model with an adapter bank, asked directly: prompts as tokens in, tokens out."""

import threading
from collections.abc import Sequence
from typing import Any

from transformers import LlamaForCausalLM

from app.models.engine.attention_kinds import AttentionKind
from app.models.engine.batch_manager import BatchManager
from app.models.engine.lora import AdapterBank
from app.models.engine.sampler import RequestSampling
from app.models.interface import Sampling

Asked = tuple[list[int], Sampling, str | None]  # prompt, sampling, adapter


class RunningBatch:
    """With `graph_tokens` its adapters lie as where steps are captured."""

    def __init__(
        self, model: LlamaForCausalLM, graph_tokens: int = 0, attention_kind: AttentionKind | None = None
    ) -> None:
        self.bank = AdapterBank()
        self.bank.install(model, graph_tokens)
        self._manager = BatchManager(
            model,
            self.bank,
            cache_tokens=2048,
            page_size=16,
            max_batched_tokens=64,
            max_running_requests=10,
            prefix_sharing=True,
            attention_kind=attention_kind,
        )
        self._manager.start()

    def answers(self, tokens: int, requests: Sequence[Asked]) -> list[list[int]]:
        """So many tokens for each request, all submitted together."""
        finished: dict[int, list[int]] = {}
        done = threading.Event()

        def receive(number: int, output: Any) -> None:
            if output.is_finished():
                finished[number] = output.generated_tokens
                if len(finished) == len(requests):
                    done.set()

        for number, (prompt, sampling, adapter) in enumerate(requests):
            self._manager.submit(
                f"{number} {id(requests)}",
                prompt,
                tokens,
                [-1],
                RequestSampling(sampling),
                f"v{number}",
                self.bank.number(adapter),
                lambda output, n=number: receive(n, output),
            )
        assert done.wait(120)
        return [finished[number] for number in range(len(requests))]

    def close(self) -> None:
        self._manager.stop(hard_stop=True)
