"""Linear layers whose bfloat16 weights lie in oneDNN's blocked layout, as its kernels read them (processors only).

`F.linear` takes a weight row by row and arranges it anew at every call; here that is done once. Results are equal to
the bit. The weight is still one tensor with its shape and number format, but only oneDNN can read its values.
"""

from typing import Any

import torch
from torch import nn

ROWS = 8  # the layout is chosen for products of about so many tokens, and serves any number


class PackedLinear(nn.Linear):
    """`weight` is opaque; `dense_weight` gives it back."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def pack(model: nn.Module) -> None:
    """Pack every plain linear layer in bfloat16, in place; none where the model's code reads weights by itself.

    A weight that an embedding shares is there twice afterwards. What stays as it was is copied into memory, so that the
    checkpoint's file, of which it is a part, is no longer mapped beside the packed weights.
    """
    before = _logits(model)
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype == torch.bfloat16:
            _exchange(module, PackedLinear, torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), ROWS))
    try:
        same = torch.equal(before, _logits(model))
    except Exception:  # whatever a layer raises that was given a weight it cannot read
        same = False
    if same:
        _copy_plain(model)
    else:
        unpack(model)


def unpack(model: nn.Module) -> None:
    """Back to plain layers."""
    for module in model.modules():
        if type(module) is PackedLinear:
            _exchange(module, nn.Linear, dense_weight(module))


def dense_weight(layer: nn.Linear) -> torch.Tensor:
    """The weight [out, in] of a layer, packed or not."""
    weight = layer.weight.detach()
    return weight.to_dense() if isinstance(layer, PackedLinear) else weight


def _copy_plain(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.layout == torch.strided:
            parameter.data = parameter.data.clone()


def _exchange(layer: nn.Linear, kind: type[nn.Linear], weight: torch.Tensor) -> None:
    layer.__class__ = kind
    layer.weight = nn.Parameter(weight, requires_grad=False)


@torch.inference_mode()
def _logits(model: Any) -> torch.Tensor:
    """Of a few tokens, [1, tokens, vocabulary]."""
    known = int(model.get_input_embeddings().weight.shape[0])
    return model(input_ids=torch.arange(9)[None] % known, use_cache=False).logits
