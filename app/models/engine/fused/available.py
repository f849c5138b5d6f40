"""Whether compiled kernels run here, and for what. Imports them late: their compiler takes a second."""

import logging
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from app.models.engine.fused.decoder import FusedDecoder
    from app.models.engine.fused.paged_attention import TokenAttention

log = logging.getLogger(__name__)


def token_attention(model: Any, width: int) -> "type[TokenAttention] | None":
    """For models in bfloat16 with heads of `width` numbers, where torch's threads are GCC's OpenMP."""
    capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    if model.dtype != torch.bfloat16 or capped:
        return None
    try:
        from app.models.engine.fused.bfloat16 import LANES
        from app.models.engine.fused.paged_attention import TokenAttention
    except (OSError, ImportError) as error:
        log.info("no compiled kernels here: %s", error)
        return None
    return None if width % LANES else TokenAttention


def fused_decoder(model: Any) -> "FusedDecoder | None":
    """For models that it knows, where `token_attention` is there."""
    from app.models.engine.fused.decoder import FusedDecoder, can_fuse

    return FusedDecoder(model) if can_fuse(model) else None
