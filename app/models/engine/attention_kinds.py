"""Which implementations of attention a batch may run for a model on its device, the fastest first.

The engine's proof tries them in this order: one that the model, the device or an installed package does not bear is
followed by the next.
"""

from typing import Any, Literal

import torch
from transformers.generation.continuous_batching.utils import find_head_dim
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from app.models.engine.batchable import heads_as_cached, only_full_attention
from app.models.engine.fused.available import token_attention

# fused: compiled kernels of ours on a processor; by request: each reads its own pages there; flash: paged flash
# attention of the package flash-attn, or from the hub by the package kernels; varlen: torch's own flash attention over
# gathered keys; library: transformers' packed row with a mask.
AttentionKind = Literal["fused", "by request", "flash", "varlen", "library"]
AMPERE = (8, 0)  # the first GPUs that flash attention runs on
WIDEST_HEAD = 256


def attention_kinds(model: Any) -> tuple[AttentionKind, ...]:
    if model.device.type == "cuda":
        return _on_cuda(model)
    if model.device.type != "cpu" or not only_full_attention(model):
        return ("library",)
    config = model.config.get_text_config()
    with heads_as_cached(config):
        compiled = token_attention(model, find_head_dim(config))
    return ("fused", "by request") if compiled else ("by request",)


def _on_cuda(model: Any) -> tuple[AttentionKind, ...]:
    halves = model.dtype in (torch.float16, torch.bfloat16)
    if not halves or torch.cuda.get_device_capability(model.device) < AMPERE:
        return ("library",)
    config = model.config.get_text_config()
    with heads_as_cached(config):
        width = find_head_dim(config)
    varlen: tuple[AttentionKind, ...] = ("varlen", "library") if width <= WIDEST_HEAD else ("library",)
    return ("flash", *varlen) if getattr(model, "_supports_flash_attn", False) and has_flash_attention() else varlen


def has_flash_attention() -> bool:
    """Whether transformers finds flash attention: as a package, or on the hub by the package `kernels`."""
    return bool(
        is_flash_attn_3_available(kernels_fallback_ok=True) or is_flash_attn_2_available(kernels_fallback_ok=True)
    )
