"""A small continuous batch with an adapter bank in it, as the engine has one, and adapters to put there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor

from app.models.engine.lora import AdapterBank
from app.models.engine.prefix_cache import SaltedCache

Request = tuple[str | None, list[int]]


class Batching(ContinuousBatchingManager):
    """Serves requests whose id starts with the adapter's name: `name/number`, or `/number` for the base."""

    bank: AdapterBank
    steps: list[list[tuple[str | None, int]]]

    def _create_batch_processor(self) -> ContinuousBatchProcessor:
        processor = super()._create_batch_processor()
        SaltedCache.adopt(processor.cache, lambda request: self.bank.number(adapter_of(request)))
        return processor

    def _generation_step(self) -> None:
        step = self.batch_processor.inputs_and_outputs
        rows = [(adapter_of(r.state.request_id), r.query_length) for r in step.requests_in_batch]
        self.steps.append(rows)
        self.bank.set_step([(self.bank.number(name), length) for name, length in rows], step.num_q_tokens)
        super()._generation_step()


def adapter_of(request: str) -> str | None:
    return request.split("/")[0] or None


@contextmanager
def batching(model: torch.nn.Module, bank: AdapterBank, page: int = 16) -> Iterator[Batching]:
    config = ContinuousBatchingConfig(
        page_size=page, num_blocks=64, max_batch_tokens=256, use_async_batching=False, use_cuda_graph=False
    )
    manager = Batching(model, GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0), config)
    manager.bank, manager.steps = bank, []
    manager.start()
    try:
        yield manager
    finally:
        manager.stop(block=True, timeout=120)


def answers(manager: Batching, requests: list[Request], tokens: int) -> list[list[int]]:
    """Greedy tokens of all requests, submitted together."""
    first = len(manager.output_router.result_handlers) + len(manager.steps) * 1000
    ids = [f"{name or ''}/{first + number}" for number, (name, _) in enumerate(requests)]
    for request, (_, prompt) in zip(ids, requests, strict=True):
        manager.add_request(prompt, request, max_new_tokens=tokens)
    done: dict[str, list[int]] = {}
    while len(done) < len(ids):
        result = manager.get_result(timeout=120)
        assert result is not None and result.error is None
        done[result.request_id] = result.generated_tokens
    return [done[request] for request in ids]


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def save_adapter(base: torch.nn.Module, folder: Path, seed: int, strength: float = 0.3, **lora: object) -> Path:
    """A PEFT adapter with random weights, strong enough to change answers; `base` is left as it was."""
    torch.manual_seed(seed)
    tuned = get_peft_model(base, LoraConfig(**{"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **lora}))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=strength)
    tuned.save_pretrained(folder)
    tuned.unload()
    return folder


def alone(base: torch.nn.Module, folder: Path | None, prompt: list[int], tokens: int) -> list[int]:
    """What PEFT itself answers, one request at a time."""
    tuned = PeftModel.from_pretrained(base, folder).eval() if folder else None
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = (tuned or base).generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=-1,
        )
    if tuned:
        tuned.unload()
    return out[0, len(prompt) :].tolist()
