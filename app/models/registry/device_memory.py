"""Device memory: default budget, bytes of KV cache per token, bfloat16 support, and returning freed memory."""

import gc
from typing import Any

import psutil
import torch
from transformers.generation.continuous_batching.utils import find_head_dim, find_num_key_value_heads

from app.allocator import return_freed_memory
from app.models.catalog.known_models import WORKING_MIB
from app.models.engine.batchable import heads_as_cached

SHARE = {"cuda": 0.92, "mps": 0.6, "cpu": 0.6}  # of what is free at start; the rest is for everything else


def budget_mib(device: str) -> int:
    """The default budget: a share of what the device has free now."""
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    return int(free * SHARE[device] / 2**20)


def working_mib(budget: int) -> int:
    """Room beside weights for keys, values and what a step needs, the least for a model to answer well."""
    return min(WORKING_MIB, budget // 4)


def has_bfloat16() -> bool:
    """Whether the processor's kernels calculate in bfloat16; where they do not, float32 is several times as fast."""
    return torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def cache_bytes_per_token(model: Any) -> int:
    """Keys and values of all layers for one token; 0 for an architecture that keeps none, such as Mamba."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0) or 0
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    if not all(isinstance(number, int) and number for number in (heads, key_heads)):
        return 0
    with heads_as_cached(config):
        numbers = find_num_key_value_heads(config) * find_head_dim(config)
    return int(2 * config.num_hidden_layers * numbers * model.dtype.itemsize)


def release() -> None:
    """Return freed memory to the device and the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    return_freed_memory()
