"""Attention over requests of different length as torch's kernel for GPUs computes it, one request after the other."""

from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention


def by_request(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    **options: Any,
) -> torch.Tensor:
    """Stands in for `varlen_attn`, which must accept the same tensors, types and options."""
    halves = [states.to("meta", torch.bfloat16) for states in (query, key, value)]
    accepted = varlen_attn(*halves, cu_seq_q.to("meta"), cu_seq_k.to("meta"), max_q, max_k, **options)
    assert accepted.shape == query.shape and {cu_seq_q.dtype, cu_seq_k.dtype} == {torch.int32}
    window, output = options["window_size"][0], torch.zeros_like(query)
    for start, end, first, last in zip(cu_seq_q[:-1], cu_seq_q[1:], cu_seq_k[:-1], cu_seq_k[1:], strict=True):
        queries, keys = int(end - start), int(last - first)
        assert queries <= max_q and keys <= max_k
        if queries == 0:
            continue
        behind = (torch.arange(queries)[:, None] + keys - queries) - torch.arange(keys)
        seen = (behind >= 0) & (behind <= window) if window >= 0 else behind >= 0
        states = (tensor.transpose(0, 1) for tensor in (query[start:end], key[first:last], value[first:last]))
        attended = scaled_dot_product_attention(*states, attn_mask=seen, scale=options["scale"], enable_gqa=True)
        output[start:end] = attended.transpose(0, 1)
    return output
