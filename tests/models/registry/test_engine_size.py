"""The size of a batch follows from the device and from the room that it is given."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from app.models.registry.engine_size import LEAST_CACHE_TOKENS, MOST_CACHE_TOKENS, engine_size, step_bytes

MIB = 2**20


def model(device: str) -> SimpleNamespace:
    """What is read of a model; 64 KiB of keys and values for a token."""
    config = LlamaConfig(num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=8, head_dim=128)
    return SimpleNamespace(config=config, device=torch.device(device), dtype=torch.bfloat16)


def test_a_gpu_reads_and_writes_more_at_once_and_what_a_step_needs_is_no_cache() -> None:
    size = engine_size(model("cuda"), 32768, 4096 * MIB)
    assert (size.options.max_batched_tokens, size.options.max_running_requests) == (2048, 256)
    needed = step_bytes(model("cuda"), 2048, 256) // MIB
    assert 100 < needed < 1000
    assert size.mib(size.options.cache_tokens) + needed == pytest.approx(4096, abs=2)
    assert size.options.cache_tokens > MOST_CACHE_TOKENS


def test_a_processor_keeps_small_steps_and_eight_conversations_at_most() -> None:
    size = engine_size(model("cpu"), 32768, 4096 * MIB)
    assert (size.options.max_batched_tokens, size.options.max_running_requests) == (256, 32)
    assert size.options.cache_tokens == MOST_CACHE_TOKENS and size.mib(MOST_CACHE_TOKENS) == 2048
    assert size.affordable == 65536
    assert engine_size(model("cpu"), 1024, 4096 * MIB).options.cache_tokens == 8 * 1024


def test_the_least_cache_is_there_in_the_smallest_room() -> None:
    for device in ("cpu", "cuda"):
        assert engine_size(model(device), 2048, 0).options.cache_tokens == LEAST_CACHE_TOKENS
