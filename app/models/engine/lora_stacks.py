"""Stacked LoRA matrices of one layer: all adapters along the rank, immutable but for rows that no step reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch.nn.functional import linear

from app.models.engine.lora_files import LowRank

Rows = Sequence[tuple[int, int]]  # (adapter's number, query length) in the packed order
Ranks = tuple[tuple[int, int], ...]  # (adapter, rank) in stacked order: layers with equal Ranks share one mask
FREE = -1  # in the place of an adapter: rows that nobody uses


@dataclass(frozen=True)
class LoadedAdapter:
    """What is known of one adapter besides its matrices. `number` is never used by another load of this bank."""

    sha256: str
    number: int
    layers: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Stack:
    """One layer's stacked matrices, `lora_a` [ranks, in] and `lora_b` [ranks, out], and the gains of those adapters
    that are DoRA."""

    ranks: Ranks
    lora_a: torch.Tensor
    lora_b: torch.Tensor
    gains: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def columns(self) -> dict[int, slice]:
        """Each adapter's place in the stacked rank."""
        columns: dict[int, slice] = {}
        left = 0
        for number, rank in self.ranks:
            if number != FREE:
                columns[number] = slice(left, left + rank)
            left += rank
        return columns

    def joined(self, number: int, pair: LowRank) -> "Stack":
        other = Stack.single(number, pair)
        lora_a, lora_b = torch.cat([self.lora_a, other.lora_a]), torch.cat([self.lora_b, other.lora_b])
        return Stack((*self.ranks, *other.ranks), lora_a, lora_b, {**self.gains, **other.gains})

    @classmethod
    def single(cls, number: int, pair: LowRank) -> "Stack":
        gains = {} if pair.gain is None else {number: pair.gain}
        return cls(((number, pair.lora_a.shape[0]),), pair.lora_a, pair.lora_b.T.contiguous(), gains)

    def with_room(self) -> "Stack":
        """With as many free rows as there are rows."""
        rows = self.lora_a.shape[0]
        lora_a, lora_b = (torch.cat([weight, torch.zeros_like(weight)]) for weight in (self.lora_a, self.lora_b))
        return Stack((*self.ranks, (FREE, rows)), lora_a, lora_b, self.gains)

    def placed(self, number: int, pair: LowRank) -> "Stack | None":
        """With one more adapter in free rows of the same tensors; None where too few lie together, and for DoRA."""
        rank, start = pair.lora_a.shape[0], 0
        for place, (owner, rows) in enumerate(self.ranks):
            if owner == FREE and rows >= rank and pair.gain is None:
                self.lora_a[start : start + rank].copy_(pair.lora_a, non_blocking=True)
                self.lora_b[start : start + rank].copy_(pair.lora_b.T, non_blocking=True)
                rest = ((FREE, rows - rank),) if rows > rank else ()
                ranks = (*self.ranks[:place], (number, rank), *rest, *self.ranks[place + 1 :])
                return Stack(ranks, self.lora_a, self.lora_b, self.gains)
            start += rows
        return None

    def freed(self, number: int) -> "Stack":
        """The same tensors, with the rows of an adapter free."""
        ranks: list[tuple[int, int]] = []
        for owner, rows in self.ranks:
            owner = FREE if owner == number else owner
            if ranks and owner == FREE == ranks[-1][0]:
                rows += ranks.pop()[1]
            ranks.append((owner, rows))
        gains = {other: gain for other, gain in self.gains.items() if other != number}
        return Stack(tuple(ranks), self.lora_a, self.lora_b, gains)

    def without(self, number: int) -> "Stack | None":
        kept = [part for other, part in self.columns().items() if other != number]
        if not kept:
            return None
        return Stack(
            tuple(entry for entry in self.ranks if entry[0] != number),
            torch.cat([self.lora_a[part] for part in kept]),
            torch.cat([self.lora_b[part] for part in kept]),
            {other: gain for other, gain in self.gains.items() if other != number},
        )


@dataclass(frozen=True)
class Use:
    """Which tokens of a step use which ranks: as a mask [tokens, ranks] of ones and zeros, and as int64 [uses, 3], a
    token, its first rank, the one after its last."""

    mask: torch.Tensor
    spans: torch.Tensor

    @classmethod
    def of(cls, stack: Stack, rows: Rows, tokens: int, has_spans: bool = True) -> "Use":
        columns, start = stack.columns(), 0
        mask = torch.zeros(tokens, stack.lora_a.shape[0], dtype=stack.lora_a.dtype)
        spans = []
        for number, length in rows:
            if number in columns:
                part = columns[number]
                mask[start : start + length, part] = 1
                if has_spans:
                    spans += [(token, part.start, part.stop) for token in range(start, start + length)]
            start += length
        return cls(mask, torch.tensor(spans, dtype=torch.int64).view(-1, 3))

    def only(self, tokens: torch.Tensor) -> "Use":
        """Of some tokens, numbered in their order."""
        places = {token: place for place, token in enumerate(tokens.tolist())}
        spans = [(places[token], first, last) for token, first, last in self.spans.tolist() if token in places]
        return Use(self.mask[tokens], torch.tensor(spans, dtype=torch.int64).view(-1, 3))


def adapted(stack: Stack, use: Use, x: torch.Tensor, out: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What the adapters make of a layer's output for x [..., in]."""
    out = out + ((linear(x.to(stack.lora_a.dtype), stack.lora_a) * use.mask) @ stack.lora_b).to(out.dtype)
    for number, gain in stack.gains.items():
        own = use.mask[:, stack.columns()[number]][:, :1]  # 1 where the token's request uses this adapter
        out = out + (out if bias is None else out - bias) * (own * gain).to(out.dtype)
    return out


@dataclass(frozen=True)
class Loaded:
    """All adapters of a bank at one moment."""

    stacks: Mapping[str, Stack] = field(default_factory=dict)
    adapters: Mapping[str, LoadedAdapter] = field(default_factory=dict)

    @cached_property
    def layers_by_ranks(self) -> Mapping[Ranks, Sequence[str]]:
        """Layers whose tokens use the same columns."""
        found: dict[Ranks, list[str]] = {}
        for layer, stack in self.stacks.items():
            found.setdefault(stack.ranks, []).append(layer)
        return found

    def reads_as(self, other: "Loaded") -> bool:
        """Whether a step that was captured with the other one's tensors reads these: same layers, same addresses."""
        return self.stacks.keys() == other.stacks.keys() and all(
            stack.lora_a is other.stacks[layer].lora_a and stack.gains == other.stacks[layer].gains == {}
            for layer, stack in self.stacks.items()
        )

    def numbers(self) -> set[int]:
        return {adapter.number for adapter in self.adapters.values()}
