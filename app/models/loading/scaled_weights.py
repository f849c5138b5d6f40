"""FP8 and INT8 dequantisation (fine-grained FP8, compressed-tensors): weights times their scales while they are read.

Their own kernels want a recent GPU and further libraries. Unpacked they are as large in memory as the full version.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from app.models.loading.checkpoint import Weight

SCALES = (".weight_scale_inv", ".weight_scale")
OF_ACTIVATIONS = (".input_scale", ".output_scale", ".activation_scale", ".k_scale", ".v_scale", ".weight_shape")


def unscaled(weights: Mapping[str, Weight], about: dict[str, Any]) -> dict[str, Weight]:
    """The same checkpoint with ordinary weights, each multiplied when it is read."""
    groups = (about.get("config_groups") or {}).values()
    block = about.get("weight_block_size") or next(
        (group["weights"]["block_structure"] for group in groups if group["weights"].get("block_structure")), None
    )
    found = {key: weight for key, weight in weights.items() if not key.endswith((*SCALES, *OF_ACTIVATIONS))}
    for key, scale in weights.items():
        name = f"{key.rpartition('.weight_scale')[0]}.weight"
        if key.endswith(SCALES) and name in weights:
            packed = weights[name]
            found[name] = Weight(partial(_read, packed, scale, block), packed.shape, "BF16")
    return found


def _read(packed: Weight, scale: Weight, block: list[int] | None) -> torch.Tensor:
    weight, factors = packed[...].float(), scale[...].float()
    if factors.numel() == 1:
        return weight * factors.flatten()[0]
    factors = factors.view(len(factors), -1)
    rows, columns = weight.shape
    height = block[0] if block else -(-rows // factors.shape[0])
    width = block[1] if block else -(-columns // factors.shape[1])
    if factors.shape[1] > 1 or block:
        factors = factors.repeat_interleave(width, 1)[:, :columns]
    return weight * factors.repeat_interleave(height, 0)[:rows]
