"""Linear layers whose bfloat16 weights lie in oneDNN's blocked layout, as its kernels read them (processors only).

`F.linear` takes a weight row by row and arranges it anew at every call; here that is done once. Layers that read the
same input (queries, keys and values; gate and up) are one product. Results are equal to the bit. A layer keeps its
weight's shape and number format, but its values are read by `dense_weight` alone.
"""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

ROWS = 8  # the layout is chosen for products of about so many tokens, and serves any number
SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class Product:
    """One weight [out, in] in oneDNN's layout, and its bias."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self.bias = bias
        self._thread = threading.local()

    def __deepcopy__(self, _: dict[int, Any]) -> "Product":
        """A twin of the model reads the same weights."""
        return self

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")

    def part(self, x: torch.Tensor, place: slice) -> torch.Tensor:
        """The columns of one layer. Kept in this thread until all layers have read the same input."""
        known, output, left = getattr(self._thread, "kept", None) or (None, x, 0)
        if known is not x:
            output, left = self(x), self.weight.shape[0]
        left -= place.stop - place.start
        self._thread.kept = (x, output, left) if left > 0 else None
        return output[..., place]


class PackedLinear(nn.Linear):
    """A layer's rows of a product; `weight` is opaque."""

    product: Product
    place: slice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product.part(x, self.place)


def pack(model: nn.Module) -> None:
    """Pack every plain linear layer in bfloat16, in place; none where the model's code reads weights by itself.

    A weight that an embedding shares is there twice afterwards. What stays as it was is copied into memory, so that the
    checkpoint's file, of which it is a part, is no longer mapped beside the packed weights.
    """
    before = _logits(model)
    for parent in list(model.modules()):
        for names in SAME_INPUT:
            layers = [getattr(parent, name, None) for name in names]
            if all(_is_plain(layer) for layer in layers) and _can_join(layers):
                _join(layers)
    for module in model.modules():
        if _is_plain(module):
            _join([module])
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
            weight = dense_weight(module)
            module.__class__ = nn.Linear  # type: ignore[assignment]
            module.weight = nn.Parameter(weight, requires_grad=False)
            del module.product, module.place


def dense_weight(layer: nn.Linear) -> torch.Tensor:
    """The weight [out, in] of a layer, packed or not."""
    if not isinstance(layer, PackedLinear):
        return layer.weight.detach()
    return layer.product.weight.to_dense()[layer.place]


def device_of(layer: nn.Linear) -> torch.device:
    """Where a layer computes, packed or not."""
    return (layer.product if isinstance(layer, PackedLinear) else layer).weight.device


def _is_plain(layer: Any) -> bool:
    return type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16


def _can_join(layers: Sequence[Any]) -> bool:
    return len({(layer.in_features, layer.bias is None) for layer in layers}) == 1


def _join(layers: Sequence[Any]) -> None:
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers]).detach()
    product, start = Product(torch.cat([layer.weight for layer in layers]), bias), 0
    for layer in layers:
        layer.__class__ = PackedLinear
        layer.product, layer.place = product, slice(start, start + layer.out_features)
        # its shape and number format, for whoever counts; its values are the product's
        layer.weight = nn.Parameter(torch.empty_like(layer.weight, device="meta"), requires_grad=False)
        start += layer.out_features


def _copy_plain(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


@torch.inference_mode()
def _logits(model: Any) -> torch.Tensor:
    """Of a few tokens, [1, tokens, vocabulary]."""
    known = int(model.get_input_embeddings().weight.shape[0])
    return model(input_ids=torch.arange(9)[None] % known, use_cache=False).logits
