"""Which architectures the batch can run, how long their texts may be, and the shape of what their layers cache."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.generation.continuous_batching.cache import group_layers_by_attn_type
from transformers.generation.continuous_batching.cache_allocators import FULL_ATTENTION


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


def only_full_attention(model: Any) -> bool:
    return list(group_layers_by_attn_type(model.config.get_text_config())) == [FULL_ATTENTION]
