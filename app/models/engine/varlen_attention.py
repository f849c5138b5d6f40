"""Flash attention over requests of different length with torch's own kernel, for GPUs without the package flash-attn.

Each layer's keys and values are gathered from their pages first: the kernel that ships with torch reads no pages.
"""

from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.cache_allocators.full_attention import FullAttentionCacheAllocator

from app.models.engine.attention import CHANGES_SCORES, UnknownAttention

NAME = "gathered_varlen"


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  none is needed
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001
    *,
    cache: PagedAttentionCache | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **step: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, tokens, size], key and value [1, key heads, tokens, size] -> [1, tokens, heads, size].

    `step` is what transformers' batch tells each layer: where keys are written and read, how long requests are.
    """
    unknown = [name for name in CHANGES_SCORES if step.get(name) is not None]
    if cache is None or softcap or unknown:
        raise UnknownAttention(
            f"{type(module).__name__} {' '.join(unknown) or 'drops keyword arguments or caps scores'}"
        )
    layer = module.layer_idx
    allocator = cache.layer_to_allocator[layer]
    if not isinstance(allocator, FullAttentionCacheAllocator):
        raise UnknownAttention(f"{type(module).__name__} caches something of its own")
    width, value_width, cached = query.shape[-1], value.shape[-1], allocator.head_dim
    query, key, value = (pad(states, (0, cached - states.shape[-1])) for states in (query, key, value))
    key, value = cache.update(key, value, layer, step)
    attended: torch.Tensor = varlen_attn(  # type: ignore[assignment]  # one tensor where nothing else is asked for
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        step["cu_seq_lens_q"],
        step["cu_seq_lens_k"],
        step["max_length_q"],
        step["max_length_k"],
        scale=width**-0.5 if scaling is None else scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0),
        enable_gqa=True,
    )
    return attended[None, ..., :value_width], None


def register() -> None:
    """Make the function known to transformers under NAME."""
    AttentionInterface.register(NAME, attend)
