"""Stacked LoRA matrices of one layer: all adapters along the rank, immutable, so that a running step keeps its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from app.models.engine.lora_files import LowRank

Ranks = tuple[tuple[int, int], ...]  # (adapter, rank) in stacked order: layers with equal Ranks share one mask


@dataclass(frozen=True)
class LoadedAdapter:
    """What is known of one adapter besides its matrices. `number` is never used by another load of this bank."""

    sha256: str
    number: int
    layers: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Stack:
    """One layer's stacked matrices, and the gains of those adapters that are DoRA."""

    ranks: Ranks
    lora_a: torch.Tensor
    lora_b: torch.Tensor
    gains: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def columns(self) -> dict[int, slice]:
        """Each adapter's place in the stacked rank."""
        columns: dict[int, slice] = {}
        left = 0
        for number, rank in self.ranks:
            columns[number] = slice(left, left + rank)
            left += rank
        return columns

    def joined(self, number: int, pair: LowRank) -> "Stack":
        other = Stack.single(number, pair)
        lora_a, lora_b = torch.cat([self.lora_a, pair.lora_a], 0), torch.cat([self.lora_b, pair.lora_b], 1)
        return Stack((*self.ranks, *other.ranks), lora_a, lora_b, {**self.gains, **other.gains})

    @classmethod
    def single(cls, number: int, pair: LowRank) -> "Stack":
        gains = {} if pair.gain is None else {number: pair.gain}
        return cls(((number, pair.lora_a.shape[0]),), pair.lora_a, pair.lora_b, gains)

    def without(self, number: int) -> "Stack | None":
        kept = [part for other, part in self.columns().items() if other != number]
        if not kept:
            return None
        return Stack(
            tuple(entry for entry in self.ranks if entry[0] != number),
            torch.cat([self.lora_a[part] for part in kept], 0),
            torch.cat([self.lora_b[:, part] for part in kept], 1),
            {other: gain for other, gain in self.gains.items() if other != number},
        )


@dataclass(frozen=True)
class Loaded:
    """All adapters of a bank at one moment."""

    stacks: Mapping[str, Stack] = field(default_factory=dict)
    adapters: Mapping[str, LoadedAdapter] = field(default_factory=dict)

    def numbers(self) -> set[int]:
        return {adapter.number for adapter in self.adapters.values()}
