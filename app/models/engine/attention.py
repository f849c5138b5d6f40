"""Paged attention for CPUs: each request reads its own pages only, by a compiled kernel or grouped by shape.

transformers' batching without flash attention packs all requests into one row and masks what is not theirs, so the
work grows with the square of the users. Here the requests of a step are put into groups of equal shape (equal query
length, equal number of pages after rounding up) and each group is one scaled-dot-product call over just its pages.
Shapes repeat from step to step, which also keeps oneDNN from building a kernel for every new length.

Where its compiled kernel can run, tokens that read little (those that decode, short prompts) are not grouped: the
kernel takes each by itself and copies no page.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.cache_allocators import FULL_ATTENTION
from transformers.generation.continuous_batching.utils import find_head_dim, find_num_key_value_heads

if TYPE_CHECKING:
    from app.models.engine.fused.paged_attention import TokenAttention

NAME = "paged_by_request"
SHORT = 4096  # pairs of query and key of a prompt below which the kernel is faster than a product of matrices
CHANGES_SCORES = ("s_aux", "position_bias", "indices", "sinks")  # what some layers hand over beside their states


class UnknownAttention(Exception):
    """A layer that attends in a way of its own."""


@dataclass
class Row:
    """One request of a step: where its queries lie in the packed batch, and what it may read. Lengths in tokens."""

    start: int
    queries: int
    past: int
    pages: list[int]


@dataclass(frozen=True)
class Group:
    """Requests with equal query length and equal (rounded) page count, attended in one call."""

    tokens: torch.Tensor  # [requests * queries] places in the packed batch
    pages: torch.Tensor  # [requests * pages] rows of the page view
    mask: torch.Tensor  # [requests, 1, share * queries, pages * page size], added to the scores
    requests: int
    queries: int


class StepPlan:
    """What one forward pass attends to. Filled while the batch is prepared, read by every layer."""

    def __init__(
        self, cache: PagedAttentionCache, dtype: torch.dtype, token_attention: "type[TokenAttention] | None" = None
    ) -> None:
        self.allocator = cache.cache_allocators[FULL_ATTENTION]
        self.share = cache.config.num_attention_heads // find_num_key_value_heads(cache.config)
        self.width = find_head_dim(cache.config)
        self.dtype = dtype
        self._token_attention = token_attention
        self.rows: list[Row] = []
        self.groups: list[Group] = []
        self.single: TokenAttention | None = None

    def clear(self) -> None:
        self.rows, self.groups, self.single = [], [], None

    def add_request(
        self,
        request_id: str,
        past_length: int,
        query_length: int,
        read_index: list[list[int]] | None,
        write_index: list[list[int]],
    ) -> None:
        """Stands in for the cache's own index building: no list of every token read is made."""
        del read_index
        write_index[0].extend(self.allocator.get_write_indices(request_id, past_length, query_length))
        start = self.rows[-1].start + self.rows[-1].queries if self.rows else 0
        self.rows.append(Row(start, query_length, past_length, list(self.allocator.block_table[request_id])))

    def make_groups(self) -> None:
        page_size = self.allocator.tokens_per_page
        stride = self.allocator.block_physical_stride // page_size
        short, rest = self._divided()
        if self._token_attention is not None and short:
            self.single = self._token_attention(*_tokens(short, stride))
        by_shape: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for row in rest:
            used = -(-(row.past + row.queries) // page_size)
            by_shape[row.queries, round_up_pages(used)].append(row)
        self.groups = [self._group(rows, queries, pages, stride) for (queries, pages), rows in by_shape.items()]

    def _divided(self) -> tuple[list[Row], list[Row]]:
        """Requests for the compiled kernel, and those to group."""
        if self._token_attention is None:
            return [], self.rows
        short = [row for row in self.rows if row.queries == 1 or row.queries * (row.past + row.queries) <= SHORT]
        return short, [row for row in self.rows if row not in short] if len(short) < len(self.rows) else []

    def _group(self, rows: list[Row], queries: int, pages: int, stride: int) -> Group:
        tokens = [t for row in rows for t in range(row.start, row.start + queries)]
        # page 0 belongs to the cache's trash sector: always there, never valid, hidden by the mask
        page_rows = [p * stride for row in rows for p in (row.pages[:pages] + [0] * (pages - len(row.pages)))]
        last_seen = torch.tensor([row.past for row in rows])[:, None] + torch.arange(queries)
        places = torch.arange(pages * self.allocator.tokens_per_page)
        hidden = places > last_seen[:, None, :, None]
        mask = torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(hidden, float("-inf"))
        if queries > 1:
            mask = mask.repeat(1, 1, self.share, 1)
        return Group(torch.tensor(tokens), torch.tensor(page_rows), mask, len(rows), queries)


def _tokens(rows: Sequence[Row], stride: int) -> tuple[list[int], list[list[int]], list[int]]:
    """Each token of the requests: its place in the batch, its pages, how many keys it reads."""
    tokens, pages, lengths = [], [], []
    for row in rows:
        own = [page * stride for page in row.pages]
        for number in range(row.queries):
            tokens.append(row.start + number)
            pages.append(own)
            lengths.append(row.past + number + 1)
    return tokens, pages, lengths


def round_up_pages(pages: int) -> int:
    """Few distinct shapes: exact up to 4 pages, then steps of a quarter of the next power of two."""
    step = max(1, (1 << (pages - 1).bit_length()) // 4)
    return -(-pages // step) * step


def attend_by_request(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  the plan has masks of its own
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001
    *,
    plan: StepPlan | None = None,
    write_index: Sequence[torch.Tensor] = (),
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """query [1, heads, tokens, size], key and value [1, key heads, tokens, size] -> [1, tokens, heads, size].

    A layer that does not pass on what the batch gives it cannot be batched: its tokens would see one another's.
    """
    unknown = [name for name in CHANGES_SCORES if kwargs.get(name) is not None]
    if plan is not None and plan.single is not None and (softcap or query.dtype != plan.dtype):
        unknown.append("numbers that the compiled kernel does not know")
    if plan is None or unknown:
        raise UnknownAttention(f"{type(module).__name__} {' '.join(unknown) or 'drops keyword arguments'}")
    value_width, width = value.shape[-1], plan.width
    query, key, value = (_widened(states, width) for states in (query, key, value))
    layer = module.layer_idx
    nothing_to_read = write_index[0][:0]
    plan.allocator.update(key[0].transpose(0, 1), value[0].transpose(0, 1), layer, nothing_to_read, write_index[0])
    key_pages, value_pages = plan.allocator.get_cache_for_block_table(layer)
    packed = query[0].transpose(0, 1).contiguous()  # [tokens, heads, size]
    attended = attend_step(packed, key_pages, value_pages, plan, scaling, softcap)
    return attended[None, ..., :value_width], None


def attend_step(
    queries: torch.Tensor,
    key_pages: torch.Tensor,
    value_pages: torch.Tensor,
    plan: StepPlan,
    scaling: float | None,
    softcap: float | None = None,
) -> torch.Tensor:
    """queries [tokens, heads, size], whose keys and values are in the cache already -> like queries."""
    if plan.single is None and len(plan.groups) == 1:  # all tokens in their order
        return _attend(queries, key_pages, value_pages, plan.groups[0], scaling, softcap)
    output = queries.new_empty(queries.shape)
    if plan.single is not None:
        scale = plan.width**-0.5 if scaling is None else scaling
        plan.single.attend(queries, key_pages, value_pages, output, scale)
    for group in plan.groups:
        own = queries.index_select(0, group.tokens)
        output.index_copy_(0, group.tokens, _attend(own, key_pages, value_pages, group, scaling, softcap))
    return output


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    """Zeros behind each head, as far as the cache is wider: with MLA keys and values differ."""
    missing = width - states.shape[-1]
    return torch.nn.functional.pad(states, (0, missing)) if missing else states


def _attend(
    packed: torch.Tensor,
    key_pages: torch.Tensor,
    value_pages: torch.Tensor,
    group: Group,
    scaling: float | None,
    softcap: float | None = None,
) -> torch.Tensor:
    """packed [requests * queries, heads, size], pages [rows, page size, key heads, size] -> like packed.

    Query heads that share a key head become further query rows, so keys are never repeated.
    """
    _, heads, size = packed.shape
    key_heads = key_pages.shape[2]
    share = heads // key_heads
    pages = (group.requests, -1, key_heads, size)
    keys = key_pages.index_select(0, group.pages).view(pages).transpose(1, 2)
    values = value_pages.index_select(0, group.pages).view(pages).transpose(1, 2)
    folded = packed.reshape(group.requests, group.queries, key_heads, share, size).permute(0, 2, 3, 1, 4)
    folded = folded.reshape(group.requests, key_heads, share * group.queries, size)
    if softcap:
        scores = folded @ keys.transpose(-1, -2) * (size**-0.5 if scaling is None else scaling)
        capped = softcap * torch.tanh(scores / softcap) + group.mask
        attended = capped.softmax(-1, dtype=torch.float32).to(values.dtype) @ values
    else:
        attended = scaled_dot_product_attention(folded, keys, values, attn_mask=group.mask, scale=scaling)
    attended = attended.view(group.requests, key_heads, share, group.queries, size).permute(0, 3, 1, 2, 4)
    return attended.reshape(-1, heads, size)


def register() -> None:
    """Make the function known to transformers under NAME."""
    AttentionInterface.register(NAME, attend_by_request)
