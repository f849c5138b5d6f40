"""Paged attention by a compiled kernel: each token reads its request's pages where they lie, nothing is gathered."""

from collections.abc import Sequence

import torch

from app.models.engine.fused.kernels import AttentionArguments, attend, scratch_floats
from app.openmp_threads import cores

ALONE = 64  # pairs of a token and a key that one thread has read before two have met


class TokenAttention:
    """What the tokens of a step read. For each in turn: its place in the batch, its request's pages, how many keys."""

    def __init__(self, tokens: Sequence[int], pages: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
        starts: dict[int, int] = {}
        flat: list[int] = []
        reads = []
        for token, own, length in zip(tokens, pages, lengths, strict=True):
            start = starts.setdefault(id(own), len(flat))
            if start == len(flat):
                flat.extend(own)
            reads.append((token, start, length))
        self._reads, self._pages = torch.tensor(reads), torch.tensor(flat)
        self._parallel = sum(lengths) > ALONE
        self._threads = cores()

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, output: torch.Tensor, scaling: float
    ) -> None:
        """queries [tokens, heads, width], keys and values [pages, page, key heads, width] -> output, like queries. Only
        the rows of these tokens are written."""
        _, page, key_heads, width = keys.shape
        share = queries.shape[1] // key_heads
        scratch = torch.empty(self._threads * scratch_floats(share, width, page))
        arguments = AttentionArguments(
            len(self._reads),
            share,
            key_heads,
            width,
            page,
            queries.stride(0),
            self._reads.data_ptr(),
            self._pages.data_ptr(),
            queries.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            output.data_ptr(),
            scratch.data_ptr(),
            self._threads,
            scaling,
        )
        attend(arguments, self._parallel)
