"""Compiled kernels of a decoder layer on processors: RMSNorm, rotary positions, paged attention, SwiGLU.

All numbers are bfloat16 in memory and float32 in between, rounded where transformers' layers round. Each kernel shares
its rows among the OpenMP threads that run it. Addresses are int64; arrays lie without gaps unless a stride is given.
"""

from ctypes import Structure, c_float, c_int64
from typing import Any

import numpy as np
from numba import carray, njit

from app.models.engine.fused.bfloat16 import add_weighted, dot, exp, f32, narrow, pointer, rounded, widen
from app.models.engine.fused.openmp import kernel, thread_count, thread_number

FLOAT, HALF = 4, 2  # bytes


class NormArguments(Structure):
    """`hidden` and `added` [rows, width], `weight` [width] -> `output` [rows, width]; `added` may be 0."""

    _fields_ = [(name, c_int64) for name in ("rows", "width", "hidden", "added", "weight", "output")] + [
        ("epsilon", c_float)
    ]


class RotaryArguments(Structure):
    """`states` [rows, heads + 2 key heads, width]: queries, keys and values of a token; `cos`, `sin` [rows, width],
    `places` int64 [rows] in `keys` and `values` [places, key heads, width]; `query_norm`, `key_norm` [width] or 0."""

    _fields_ = [
        (name, c_int64)
        for name in (
            *("rows", "heads", "key_heads", "width", "states", "cos", "sin"),
            *("places", "keys", "values", "query_norm", "key_norm"),
        )
    ] + [("epsilon", c_float)]


class AttentionArguments(Structure):
    """`reads` int64 [rows, 3]: a token, the place of its first page in `pages`, how many keys it reads; `queries`
    [tokens, heads, width], `stride` numbers from token to token; `keys` and `values` [pages, page, key heads, width]
    -> `output` [tokens, heads, width]. `scratch` has `scratch_floats` for each of `threads`, the most that take
    part."""

    _fields_ = [
        (name, c_int64)
        for name in (
            *("rows", "share", "key_heads", "width", "page", "stride", "reads", "pages"),
            *("queries", "keys", "values", "output", "scratch", "threads"),
        )
    ] + [("scale", c_float)]


class GateArguments(Structure):
    """`states` [rows, 2 width]: gates, then what they let through -> `output` [rows, width]."""

    _fields_ = [(name, c_int64) for name in ("rows", "width", "states", "output")]


class LowRankArguments(Structure):
    """`spans` int64 [rows, 3]: a token, its first rank, the one after its last; `states` [tokens, inputs], `lora_a`
    [ranks, inputs], `lora_b` [ranks, outputs] -> added to `output` [tokens, outputs], `stride` numbers from token to
    token. `scratch` has inputs + outputs + ranks floats for each of `threads`."""

    _fields_ = [
        (name, c_int64)
        for name in (
            *("rows", "ranks", "inputs", "outputs", "stride", "spans"),
            *("states", "lora_a", "lora_b", "output", "scratch", "threads"),
        )
    ]


NORM, ROTARY, ATTENTION, GATE, LOW_RANK = (
    np.dtype(kind) for kind in (NormArguments, RotaryArguments, AttentionArguments, GateArguments, LowRankArguments)
)


def scratch_floats(share: int, width: int, page: int) -> int:
    """What attention needs in each thread, for `share` query heads to a key head."""
    return share * (2 * width + page + 2)


@njit(inline="always")
def numbers(address: Any, length: Any) -> Any:
    return carray(pointer(address), (length,), np.uint16)


@njit(inline="always")
def own_part(total: Any, most: Any = 1 << 30) -> Any:
    """Begin and end of what this thread does, where the first `most` take part."""
    threads = min(np.int64(thread_count()), most)
    number = min(np.int64(thread_number()), threads)
    return total * number // threads, total * min(number + 1, threads) // threads


@njit(inline="always")
def normalise(row: Any, weight: Any, output: Any, width: Any, epsilon: Any) -> None:
    """RMSNorm (Zhang and Sennrich 2019) of one row."""
    squares = f32(0.0)
    for i in range(width):
        squares += widen(row[i]) * widen(row[i])
    factor = f32(1.0) / np.sqrt(squares / f32(width) + epsilon)
    for i in range(width):
        output[i] = narrow(rounded(widen(row[i]) * factor) * widen(weight[i]))


@njit(inline="always")
def rotate(head: Any, cos: Any, sin: Any, output: Any, half: Any) -> None:
    """Rotary positions (Su et al. 2021) of one head; `output` may be the head itself."""
    for i in range(half):
        left, right = widen(head[i]), widen(head[half + i])
        one = rounded(left * widen(cos[i])) + rounded(-right * widen(sin[i]))
        other = rounded(right * widen(cos[half + i])) + rounded(left * widen(sin[half + i]))
        output[i], output[half + i] = narrow(one), narrow(other)


@kernel
def add_and_norm(p: Any) -> None:
    """hidden += added; output = RMSNorm(hidden)"""
    a = carray(p, 1, NORM)[0]
    width = a.width
    weight = numbers(a.weight, width)
    begin, end = own_part(a.rows)
    for row in range(begin, end):
        hidden = numbers(a.hidden + row * width * HALF, width)
        if a.added != 0:
            added = numbers(a.added + row * width * HALF, width)
            for i in range(width):
                hidden[i] = narrow(widen(hidden[i]) + widen(added[i]))
        normalise(hidden, weight, numbers(a.output + row * width * HALF, width), width, a.epsilon)


@kernel
def rotate_and_store(p: Any) -> None:
    """Turn queries and keys, in place, and copy keys and values into the cache."""
    a = carray(p, 1, ROTARY)[0]
    width, half, heads = a.width, a.width // 2, a.heads
    places = carray(pointer(a.places), (a.rows,), np.int64)
    begin, end = own_part(a.rows)
    for row in range(begin, end):
        cos = numbers(a.cos + row * width * HALF, width)
        sin = numbers(a.sin + row * width * HALF, width)
        token = a.states + row * (heads + 2 * a.key_heads) * width * HALF
        stored = places[row] * a.key_heads * width * HALF
        for number in range(heads + a.key_heads):
            head = numbers(token + number * width * HALF, width)
            norm = a.query_norm if number < heads else a.key_norm
            if norm != 0:
                normalise(head, numbers(norm, width), head, width, a.epsilon)
            if number < heads:
                rotate(head, cos, sin, head, half)
            else:
                rotate(head, cos, sin, numbers(a.keys + stored + (number - heads) * width * HALF, width), half)
        values = numbers(token + (heads + a.key_heads) * width * HALF, a.key_heads * width)
        kept = numbers(a.values + stored, a.key_heads * width)
        for i in range(a.key_heads * width):
            kept[i] = values[i]


@kernel
def attend(p: Any) -> None:
    """Attention over pages with a running softmax (Milakov and Gimelshein 2018): each page is read once."""
    a = carray(p, 1, ATTENTION)[0]
    width, share, page = a.width, a.share, a.page
    size = share * (2 * width + page + 2)
    own = a.scratch + min(np.int64(thread_number()), a.threads - 1) * size * FLOAT
    scratch = carray(pointer(own), (size,), np.float32)
    queries, sums = scratch[: share * width], scratch[share * width : 2 * share * width]
    scores = scratch[2 * share * width : share * (2 * width + page)]
    highest, totals = scratch[size - 2 * share : size - share], scratch[size - share :]
    sums_at, scores_at = own + share * width * FLOAT, own + 2 * share * width * FLOAT
    stride = a.key_heads * width * HALF
    reads = carray(pointer(a.reads), (a.rows, 3), np.int64)
    begin, end = own_part(a.rows * a.key_heads, a.threads)
    for item in range(begin, end):
        token, first, length = reads[item // a.key_heads]
        head = item % a.key_heads
        states = numbers(a.queries + (token * a.stride + head * share * width) * HALF, share * width)
        for i in range(share * width):
            queries[i] = widen(states[i]) * a.scale
            sums[i] = f32(0.0)
        for g in range(share):
            highest[g] = f32(-1e30)
            totals[g] = f32(0.0)
        pages = carray(pointer(a.pages + first * 8), ((length + page - 1) // page,), np.int64)
        for number in range(len(pages)):
            count = min(page, length - number * page)
            offset = pages[number] * page * stride + head * width * HALF
            for j in range(count):
                for g in range(share):
                    scores[g * page + j] = dot(own + g * width * FLOAT, a.keys + offset + j * stride, width)
            for g in range(share):
                before = highest[g]
                top = before
                for j in range(count):
                    top = max(top, scores[g * page + j])
                shrink, total = exp(before - top), f32(0.0)
                for j in range(count):
                    weight = exp(scores[g * page + j] - top)
                    scores[g * page + j] = weight
                    total += weight
                highest[g] = top
                totals[g] = totals[g] * shrink + total
                for i in range(width):
                    sums[g * width + i] *= shrink
                add_weighted(
                    sums_at + g * width * FLOAT,
                    scores_at + g * page * FLOAT,
                    a.values + offset,
                    stride,
                    count,
                    width,
                )
        output = numbers(a.output + (token * a.key_heads + head) * share * width * HALF, share * width)
        for g in range(share):
            factor = f32(1.0) / totals[g]
            for i in range(width):
                output[g * width + i] = narrow(sums[g * width + i] * factor)


@kernel
def gate(p: Any) -> None:
    """SwiGLU (Shazeer 2020): silu(gate) * up"""
    a = carray(p, 1, GATE)[0]
    width = a.width
    begin, end = own_part(a.rows)
    for row in range(begin, end):
        gates = numbers(a.states + row * 2 * width * HALF, width)
        through = numbers(a.states + (row * 2 + 1) * width * HALF, width)
        output = numbers(a.output + row * width * HALF, width)
        for i in range(width):
            x = widen(gates[i])
            output[i] = narrow(rounded(x / (f32(1.0) + exp(-x))) * widen(through[i]))


@kernel
def add_low_rank(p: Any) -> None:
    """LoRA (Hu et al. 2021): output += B (A x), each token by its own adapter's ranks"""
    a = carray(p, 1, LOW_RANK)[0]
    size = a.inputs + a.outputs + a.ranks
    own = a.scratch + min(np.int64(thread_number()), a.threads - 1) * size * FLOAT
    scratch = carray(pointer(own), (size,), np.float32)
    states, sums = scratch[: a.inputs], scratch[a.inputs : a.inputs + a.outputs]
    between = scratch[a.inputs + a.outputs :]
    sums_at, between_at = own + a.inputs * FLOAT, own + (a.inputs + a.outputs) * FLOAT
    spans = carray(pointer(a.spans), (a.rows, 3), np.int64)
    begin, end = own_part(a.rows, a.threads)
    for row in range(begin, end):
        token, first, last = spans[row]
        x = numbers(a.states + token * a.inputs * HALF, a.inputs)
        for i in range(a.inputs):
            states[i] = widen(x[i])
        for rank in range(last - first):
            between[rank] = rounded(dot(own, a.lora_a + (first + rank) * a.inputs * HALF, a.inputs))
        for i in range(a.outputs):
            sums[i] = f32(0.0)
        rows = a.lora_b + first * a.outputs * HALF
        add_weighted(sums_at, between_at, rows, a.outputs * HALF, last - first, a.outputs)
        output = numbers(a.output + token * a.stride * HALF, a.outputs)
        for i in range(a.outputs):
            output[i] = narrow(widen(output[i]) + rounded(sums[i]))
