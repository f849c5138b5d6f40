"""AWQ and GPTQ dequantisation: packed integers become ordinary weights while a checkpoint is read.

transformers runs these by `gptqmodel`, which comes as source only and wants a CUDA compiler. Without it the model is as
large in memory as its full version; `quantise` makes it small again in its own way. Both formats keep eight 4-bit (or
four 8-bit) numbers in an int32, and a scale and a zero for each group of inputs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from app.models.loading.checkpoint import PACKED_PARTS, Weight, is_scaled, is_unpacked, quantisation
from app.models.loading.errors import UnknownQuantisation

AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # where output n of eight stands in its int32


# What transformers reads a method with, where that is a library of its own.
LIBRARIES = {
    "aqlm": "aqlm",
    "auto-round": "auto_round",
    "awq": "gptqmodel",
    "compressed-tensors": "compressed_tensors",
    "eetq": "eetq",
    "gptq": "gptqmodel",
    "higgs": "flute",
    "hqq": "hqq",
    "quanto": "optimum",
    "quark": "quark",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
}


@dataclass(frozen=True)
class Packing:
    """`offset` is what a stored zero lacks: the first GPTQ format stores them one too low."""

    kind: str
    bits: int
    group: int
    offset: int


def packing_of(raw: dict[str, Any], name: str) -> Packing | None:
    """How the checkpoint's weights are packed; None where they are not, or where their own library is there.

    Raises UnknownQuantisation for AWQ and GPTQ of other widths.
    """
    about = quantisation(raw)
    if not is_unpacked(raw) or is_scaled(about):
        return None
    kind = about["quant_method"]
    bits = int(about.get("bits") or about.get("w_bit") or 4)
    group = int(about.get("group_size") or about.get("q_group_size") or 128)
    version = str(about.get("version") or "gemm").lower()
    if bits not in (4, 8) or (kind == "awq" and (bits != 4 or version != "gemm")):
        raise UnknownQuantisation(name=name, kind=f"{kind} {bits} bits {version if kind == 'awq' else ''}".strip())
    second = str(about.get("checkpoint_format") or "gptq") == "gptq_v2"
    return Packing(kind, bits, group, 0 if kind == "awq" or second else 1)


def refuse_unknown_quantisation(raw: dict[str, Any], name: str) -> None:
    """For a checkpoint whose method needs a library that is not there. Raises UnknownQuantisation."""
    about = quantisation(raw)
    kind = str(about.get("quant_method", ""))
    library = None if is_unpacked(raw) else LIBRARIES.get(kind)
    if library and find_spec(library) is None:
        raise UnknownQuantisation(name=name, kind=kind)


def unpacked(weights: Mapping[str, Weight], packing: Packing) -> dict[str, Weight]:
    """The same checkpoint with ordinary weights, each unpacked when it is read."""
    found = {key: weight for key, weight in weights.items() if not key.endswith(PACKED_PARTS)}
    for key in weights:
        if key.endswith(".qweight"):
            stem = key.removesuffix(".qweight")
            parts = {part[1:]: weights[stem + part] for part in PACKED_PARTS if stem + part in weights}
            shape = _shape(parts["qweight"].shape, packing)
            found[f"{stem}.weight"] = Weight(partial(_read, parts, packing), shape, parts["scales"].dtype)
    return found


def _shape(packed: Iterable[int], packing: Packing) -> tuple[int, int]:
    """(outputs, inputs)."""
    rows, columns = packed
    each = 32 // packing.bits
    return (columns * each, rows) if packing.kind == "awq" else (columns, rows * each)


def _read(parts: Mapping[str, Weight], packing: Packing) -> torch.Tensor:
    numbers = parts["qweight"][...]
    zeros = _columns(parts["qzeros"][...], packing) + packing.offset
    scales = parts["scales"][...].float()
    values = _columns(numbers, packing) if packing.kind == "awq" else _bits(numbers.t(), packing.bits).flatten(1).t()
    inputs = values.shape[0]
    if "g_idx" in parts:
        groups = parts["g_idx"][...].long()
    else:
        groups = torch.arange(inputs) // (packing.group if packing.group > 0 else inputs)
    weight = (values - zeros[groups]).float() * scales[groups]
    return weight.t().to(parts["scales"][...].dtype).contiguous()


def _columns(packed: torch.Tensor, packing: Packing) -> torch.Tensor:
    """[rows, columns / 8] of int32 as [rows, columns]."""
    values = _bits(packed, packing.bits)
    if packing.kind == "awq":
        values = values[..., list(AWQ_ORDER)]
    return values.flatten(1)


def _bits(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """One more dimension: the numbers in each int32, lowest bits first."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return (packed[..., None] >> shifts) & (2**bits - 1)
