"""The size of a batch follows from the device and from the room that it is given."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from app.models.engine import attention_kinds
from app.models.engine.engine import LEAST_CACHE_TOKENS
from app.models.registry.engine_size import MOST_CACHE_TOKENS, engine_size, step_bytes

MIB = 2**20


def model(device: str) -> SimpleNamespace:
    """What is read of a model; 64 KiB of keys and values for a token."""
    config = LlamaConfig(num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=8, head_dim=128)
    return SimpleNamespace(config=config, device=torch.device(device), dtype=torch.bfloat16)


@pytest.mark.parametrize(("generation", "tokens"), [((9, 0), 57100), ((7, 5), 53900)])
def test_a_gpu_reads_and_writes_more_at_once_and_what_a_step_needs_is_no_cache(
    generation: tuple[int, int], tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without flash attention each token that is kept also has a place in a mask."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: generation)
    monkeypatch.setattr(attention_kinds, "has_flash_attention", lambda: False)
    size = engine_size(model("cuda"), 32768, 4096 * MIB)
    assert (size.options.max_batched_tokens, size.options.max_running_requests) == (2048, 256)
    assert 100 < step_bytes(model("cuda"), 2048, 256) // MIB < 1000
    assert size.mib(size.options.cache_tokens) == pytest.approx(4096, abs=2), "all of the room is booked"
    assert size.options.cache_tokens == pytest.approx(tokens, rel=0.02)
    assert size.gives_back and not engine_size(model("cpu"), 32768, 4096 * MIB).gives_back


def test_a_processor_keeps_small_steps_and_eight_conversations_at_most() -> None:
    size = engine_size(model("cpu"), 32768, 4096 * MIB)
    assert (size.options.max_batched_tokens, size.options.max_running_requests) == (256, 32)
    assert size.options.cache_tokens == MOST_CACHE_TOKENS and size.mib(MOST_CACHE_TOKENS) == 2048
    assert size.affordable == 65536
    assert engine_size(model("cpu"), 1024, 4096 * MIB).options.cache_tokens == 8 * 1024


def test_the_least_cache_is_there_in_the_smallest_room() -> None:
    assert engine_size(model("cpu"), 2048, 0).options.cache_tokens == LEAST_CACHE_TOKENS
