"""Quantise tensors for GGUF: f16, q8_0 and q4_k_m, the latter by ggml's own quantiser in the llama.cpp wheel."""

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize

from app.errors import StudioError

Format = Literal["f16", "q8_0", "q4_k_m"]
Kind = GGMLQuantizationType
FORMATS: tuple[Format, ...] = get_args(Format)  # the most precise first
FILE_TYPES: dict[Format, int] = {
    "f16": int(LlamaFileType.MOSTLY_F16),
    "q8_0": int(LlamaFileType.MOSTLY_Q8_0),
    "q4_k_m": int(LlamaFileType.MOSTLY_Q4_K_M),
}
_EMBEDDINGS = ("token_embd.weight", "output.weight")
# What takes a type's place where its blocks do not fit a row.
_NARROWER = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0, Kind.Q5_0: Kind.F16, Kind.Q8_0: Kind.F16}


class NoQuantiser(StudioError):
    zh = "这里安装的 llama.cpp 没有量化函数，不能写出 {wanted}。请用 q8_0。"
    en = "The llama.cpp that is installed here exports no quantiser, so {wanted} cannot be written. Use q8_0."


def formats() -> tuple[Format, ...]:
    """Those that can be written here."""
    return FORMATS if _quantiser() else FORMATS[:2]


def kind_of(name: str, shape: Sequence[int], wanted: Format, layers: int, *, tied: bool) -> Kind:
    """The type of a tensor in a file: as llama.cpp chooses it for dense models."""
    if len(shape) == 1:
        return Kind.F32
    kind = {"f16": Kind.F16, "q8_0": Kind.Q8_0, "q4_k_m": Kind.Q4_K}[wanted]
    if wanted == "q4_k_m" and _gets_more_bits(name, layers, tied):
        kind = Kind.Q6_K
    while kind in _NARROWER and shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = _NARROWER[kind]
    return kind


def _gets_more_bits(name: str, layers: int, tied: bool) -> bool:
    if name in _EMBEDDINGS:
        return tied or name == "output.weight"
    parts = name.split(".")
    if parts[0] != "blk" or parts[2] not in ("attn_v", "ffn_down"):
        return False
    layer, eighth = int(parts[1]), layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def packed(values: "numpy.ndarray[Any, Any]", kind: Kind) -> "numpy.ndarray[Any, Any]":
    """A float32 tensor as the file holds it."""
    if kind == Kind.F32:
        return values
    if kind == Kind.F16:
        return values.astype(numpy.float16)
    if not _quantiser():
        return quantize(values, kind)
    return _quantised(numpy.ascontiguousarray(values, dtype=numpy.float32), kind)


def _quantised(values: "numpy.ndarray[Any, Any]", kind: Kind) -> "numpy.ndarray[Any, Any]":
    block, size = GGML_QUANT_SIZES[kind]
    rows, width = values.shape
    out = numpy.empty((rows, width // block * size), dtype=numpy.uint8)
    run: Any = _quantiser()

    def rows_between(part: tuple[int, int]) -> None:
        first, last = part
        run(int(kind), values.ctypes.data, out.ctypes.data, first * width, last - first, width, None)

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:  # the call gives the interpreter's lock away
        list(pool.map(rows_between, pairwise(rows * part // threads for part in range(threads + 1))))
    return out


@lru_cache
def _quantiser() -> Any:
    """ggml's function, where the wheel exports it; else None."""
    try:
        import xllamacpp.xllamacpp as wheel

        run = ctypes.CDLL(wheel.__file__).ggml_quantize_chunk
    except (ImportError, OSError, AttributeError):
        return None
    number, address = ctypes.c_int64, ctypes.c_void_p
    run.argtypes = [ctypes.c_int, address, address, number, number, number, address]
    run.restype = ctypes.c_size_t
    return run
