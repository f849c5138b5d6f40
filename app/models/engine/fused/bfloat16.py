"""bfloat16 for compiled kernels: single numbers, and vectors of them read as float32.

A bfloat16 is the upper half of a float32. Numba knows neither it nor vectors, so what is here is written in LLVM's
terms.
Addresses are int64, in bytes.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic

LANES = 16  # numbers of a vector; the length of what is read so divides by it
I16, I32, I64, F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
F32S = ir.VectorType(F32, LANES)
FAST = ("contract", "reassoc")
f32 = np.float32


@intrinsic
def pointer(context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), code


@intrinsic
def widen(context: Any, bits: Any) -> Any:
    """uint16 -> float32"""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(values[0], I32), I32(16)), F32)

    return types.float32(types.uint16), code


@intrinsic
def narrow(context: Any, number: Any) -> Any:
    """float32 -> uint16, to the nearest, halves to the even one"""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.bitcast(values[0], I32)
        odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
        return builder.trunc(builder.lshr(builder.add(bits, builder.add(odd, I32(0x7FFF))), I32(16)), I16)

    return types.uint16(types.float32), code


@njit(inline="always")
def rounded(number: Any) -> Any:
    """float32 -> the float32 that bfloat16 makes of it"""
    return widen(narrow(number))


@intrinsic
def power_of_two(context: Any, exponent: Any) -> Any:
    """2 to the power of a whole float32"""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.shl(builder.add(builder.fptosi(values[0], I32), I32(127)), I32(23)), F32)

    return types.float32(types.float32), code


@njit(inline="always")
def exp(x: Any) -> Any:
    """e to the power of x within float32's precision, by operations that run on vectors (Cephes' `expf`)."""
    x = min(max(x, f32(-87.0)), f32(88.0))
    n = np.floor(x * f32(1.44269504088896341) + f32(0.5))
    r = x - n * f32(0.693359375) + n * f32(2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r * r + r + f32(1.0)) * power_of_two(n)


@intrinsic
def dot(context: Any, left: Any, right: Any, length: Any) -> Any:
    """The sum of products of float32 at `left` and bfloat16 at `right`."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        left, right, length = values
        total = cgutils.alloca_once_value(builder, ir.Constant(F32S, [0.0] * LANES))
        with cgutils.for_range(builder, builder.udiv(length, I64(LANES))) as loop:
            products = builder.fmul(_floats(builder, left, loop.index), _halves(builder, right, loop.index), FAST)
            builder.store(builder.fadd(builder.load(total), products, FAST), total)
        kind = ir.FunctionType(F32, [F32, F32S])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(reduce, [F32(-0.0), builder.load(total)], fastmath=("reassoc",))

    return types.float32(types.int64, types.int64, types.int64), code


@intrinsic
def add_weighted(
    context: Any,
    total: Any,
    weights: Any,
    rows: Any,
    stride: Any,
    count: Any,
    length: Any,
) -> Any:
    """Add to the float32 at `total` the `count` rows of bfloat16 at `rows`, `stride` bytes apart, each times its
    float32 of `weights`."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        total, weights, rows, stride, count, length = values
        with cgutils.for_range(builder, builder.udiv(length, I64(LANES))) as block:
            sums = cgutils.alloca_once(builder, F32S)
            builder.store(_floats(builder, total, block.index), sums)
            with cgutils.for_range(builder, count) as row:
                address = builder.add(weights, builder.mul(row.index, I64(4)))
                weight = _repeated(builder, builder.load(builder.inttoptr(address, F32.as_pointer())))
                halves = _halves(builder, builder.add(rows, builder.mul(row.index, stride)), block.index)
                builder.store(builder.fadd(builder.load(sums), builder.fmul(weight, halves, FAST), FAST), sums)
            builder.store(builder.load(sums), _place(builder, total, block.index, F32), align=4)
        return context.get_dummy_value()

    return types.none(*[types.int64] * 6), code


def _place(builder: Any, address: Any, block: Any, kind: Any) -> Any:
    size = 4 if kind is F32 else 2
    place = builder.add(address, builder.mul(block, I64(LANES * size)))
    return builder.inttoptr(place, ir.VectorType(kind, LANES).as_pointer())


def _floats(builder: Any, address: Any, block: Any) -> Any:
    return builder.load(_place(builder, address, block, F32), align=4)


def _halves(builder: Any, address: Any, block: Any) -> Any:
    """Vector number `block` of the bfloat16 at `address`, as float32."""
    wide = ir.VectorType(I32, LANES)
    bits = builder.zext(builder.load(_place(builder, address, block, I16), align=2), wide)
    return builder.bitcast(builder.shl(bits, ir.Constant(wide, [16] * LANES)), F32S)


def _repeated(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(F32S, ir.Undefined)
    first = builder.insert_element(nothing, number, I32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))
