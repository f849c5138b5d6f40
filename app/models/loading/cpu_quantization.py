"""Linear layers whose weights stay in 8 or 4 bits on a processor, multiplied by torch's own kernels for that.

8 bits: a scale for each output. 4 bits: a scale and a middle for each GROUP inputs of an output. Each layer is narrowed
while the checkpoint is read, so the whole is never held. Products are taken in bfloat16, where the kernels are fast.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

METHOD = "narrow"
GROUP = 32
COLUMNS = 16  # outputs are packed by so many


class QuantizedLinear(nn.Linear):
    """`weight` is [out, in] of int8, or the kernel's own packing of 4 bits; `scales` say what its numbers mean."""

    scales: nn.Parameter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, self.in_features).to(torch.bfloat16)
        if self.weight.dtype == torch.int8:
            out = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scales)
        else:
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.weight, GROUP, self.scales)
        out = out.to(x.dtype).view(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias


def narrow(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [out, in] as the kernels take it, and its scales."""
    wide = weight.float()
    if bits == 8:
        scales = (wide.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
        return (wide / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8), scales
    groups = wide.view(wide.shape[0], -1, GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    steps = ((high - low) / 15).clamp(min=1e-12).bfloat16().float()
    zero_points = (low + 8 * steps).bfloat16().float()
    numbers = ((groups - zero_points) / steps + 8).round().clamp(0, 15).int().view_as(wide)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
    return packed, torch.cat([steps, zero_points], -1).transpose(0, 1).contiguous().bfloat16()


def narrow_config(bits: int) -> QuantizationConfigMixin:
    """What `from_pretrained` takes as its quantization_config."""
    return _Config(bits)


@register_quantization_config(METHOD)
class _Config(QuantizationConfigMixin):
    def __init__(self, bits: int) -> None:
        self.quant_method: Any = METHOD
        self.bits = bits


@register_quantizer(METHOD)
class _Quantizer(HfQuantizer):
    quantization_config: _Config

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        kept = set(self.get_modules_to_not_convert(model))
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear and name not in kept and _fits(module):
                model.set_submodule(name, _empty(module))

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: Any) -> bool:
        layer, _dot, part = param_name.rpartition(".")
        return part != "bias" and isinstance(model.get_submodule(layer), QuantizedLinear)

    def get_quantize_ops(self) -> ConversionOps:
        return _QuantizeOnLoad(self.quantization_config.bits)

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


class _QuantizeOnLoad(ConversionOps):
    """What transformers does with a weight between reading and keeping it."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def convert(self, input_dict: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        made: dict[str, torch.Tensor] = {}
        for name, value in input_dict.items():
            weight, scales = narrow(value[0] if isinstance(value, list) else value, self.bits)
            made |= {name: weight, f"{name.removesuffix('weight')}scales": scales}
        return made


def _fits(layer: nn.Linear) -> bool:
    return layer.in_features % GROUP == 0 and layer.out_features % COLUMNS == 0


def _empty(layer: nn.Linear) -> QuantizedLinear:
    made = QuantizedLinear(
        layer.in_features, layer.out_features, layer.bias is not None, device="meta", dtype=layer.weight.dtype
    )
    made.scales = nn.Parameter(torch.empty(0, device="meta"), requires_grad=False)
    return made
