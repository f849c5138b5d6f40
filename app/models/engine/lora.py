"""Many LoRA adapters and the bare base in one forward pass.

Each layer keeps the A matrices of all its adapters stacked along the rank, and the B matrices likewise:

    y = W x + ((x A^T) * mask) B^T      A: [sum of ranks, in]   B: [out, sum of ranks], scaled by alpha / rank
                                        mask: [tokens of the step, sum of ranks], 1 where the token's request
                                        uses that adapter

Two thin products, whatever the number of adapters. The engine calls `set_step` before each forward pass, in
the thread that runs it; another thread's forward pass is the bare model unless it sets a step of its own.
Adapters come and go while steps run: a step keeps the stacks that it began with.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle

from app.models.engine.lora_files import AdapterError, LowRank, read_adapter
from app.models.interface import Inspection

Ranks = tuple[tuple[str, int], ...]  # (adapter, rank) in stacked order: layers with equal Ranks share one mask
SHAPE_STEP = 64
Rows = Sequence[tuple[str | None, int]]  # (adapter or None for the base, query length) in the packed order


@dataclass(frozen=True)
class LoadedAdapter:
    """What is known of one adapter besides its matrices. `number` is never used by another load."""

    sha256: str
    number: int
    layers: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Stack:
    """One layer's stacked matrices."""

    ranks: Ranks
    lora_a: torch.Tensor
    lora_b: torch.Tensor

    def columns(self) -> dict[str, slice]:
        """Each adapter's place in the stacked rank."""
        columns, left = {}, 0
        for name, rank in self.ranks:
            columns[name] = slice(left, left + rank)
            left += rank
        return columns

    def joined(self, name: str, pair: LowRank) -> "Stack":
        ranks = (*self.ranks, (name, pair.lora_a.shape[0]))
        return Stack(ranks, torch.cat([self.lora_a, pair.lora_a], 0), torch.cat([self.lora_b, pair.lora_b], 1))

    def without(self, name: str) -> "Stack | None":
        kept = [part for other, part in self.columns().items() if other != name]
        if not kept:
            return None
        return Stack(
            tuple(entry for entry in self.ranks if entry[0] != name),
            torch.cat([self.lora_a[part] for part in kept], 0),
            torch.cat([self.lora_b[:, part] for part in kept], 1),
        )


class AdapterBank:
    """The adapters of one base model. `generation` changes whenever captured CUDA graphs become void."""

    def __init__(self) -> None:
        self.generation = 0
        self._change = threading.Lock()
        self._one_reading = threading.Lock()
        self._adapters: Mapping[str, LoadedAdapter] = {}
        self._last_number = 0
        self._stacks: Mapping[str, Stack] = {}
        self._thread = threading.local()
        self._linears: dict[str, nn.Linear] = {}
        self._hooks: dict[str, RemovableHandle] = {}
        self._graph_tokens = 0
        self._graph_masks: dict[Ranks, torch.Tensor] = {}

    def install(self, model: nn.Module, graph_tokens: int = 0) -> None:
        """Take note of every linear layer of `model`, once, before the engine starts; its weights stay as they are.

        A layer is hooked only while an adapter has it: a hook costs time in each step, used or not.

        Where steps are replayed as CUDA graphs, `graph_tokens` is the longest step: masks then keep their
        address, `set_step` runs on the step's stream, and graphs are dropped once `generation` has changed.
        """
        self._model = model
        self._device = next(model.parameters()).device
        self._graph_tokens = graph_tokens
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                self._linears[name] = module

    def names(self) -> tuple[str, ...]:
        return tuple(self._adapters)

    def add(self, name: str, folder: Path) -> None:
        """Read an adapter, check it, make it usable from the next step on. Raises AdapterError."""
        weights = read_adapter(name, folder, self._linears)
        with self._change:
            if name in self._adapters:
                raise AdapterError(name=name, reason="an adapter of this name is loaded already")
            stacks = dict(self._stacks)
            for layer, pair in weights.layers.items():
                below = stacks.get(layer)
                single = Stack(((name, pair.lora_a.shape[0]),), pair.lora_a, pair.lora_b)
                stacks[layer] = below.joined(name, pair) if below else single
            self._last_number += 1
            tensors = [tensor for pair in weights.layers.values() for tensor in (pair.lora_a, pair.lora_b)]
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            loaded = LoadedAdapter(weights.sha256, self._last_number, tuple(weights.layers), size)
            self._switch(stacks, {**self._adapters, name: loaded})

    def remove(self, name: str) -> None:
        """Forget an adapter that no request uses; its memory is free once the step now running ends."""
        with self._change:
            stacks = dict(self._stacks)
            for layer in self._adapters[name].layers:
                rest = stacks.pop(layer).without(name)
                if rest:
                    stacks[layer] = rest
            self._switch(stacks, {key: value for key, value in self._adapters.items() if key != name})

    def _switch(self, stacks: Mapping[str, Stack], adapters: Mapping[str, LoadedAdapter]) -> None:
        """Running steps keep the stacks that they began with."""
        for layer in stacks.keys() - self._hooks.keys():
            self._hooks[layer] = self._linears[layer].register_forward_hook(self._hook(layer))
        for layer in self._hooks.keys() - stacks.keys():
            self._hooks.pop(layer).remove()
        self._stacks, self._adapters = stacks, adapters
        self._graph_masks = {}
        self.generation += 1

    def loaded(self, name: str) -> LoadedAdapter:
        return self._adapters[name]

    def salt(self, name: str | None) -> int:
        """What the prefix cache tells adapters apart by: 0 for the base, else a number of this load alone."""
        return 0 if name is None else self._adapters[name].number

    def set_step(self, rows: Rows, padded_tokens: int) -> None:
        """Say which adapter serves which tokens of the next forward pass in this thread; padding comes last.

        With no rows the thread is back at the bare model and holds no adapter's memory.
        """
        stacks = self._stacks
        used = {name for name, _ in rows if name is not None}
        for name in used - self._adapters.keys():
            raise AdapterError(name=name, reason="it is not loaded")
        if not used and not (self._graph_tokens and rows):
            self._thread.step = None
            return
        kinds = {stack.ranks: stack for stack in stacks.values()}
        masks = {ranks: self._mask(stack, rows, padded_tokens) for ranks, stack in kinds.items()}
        self._thread.step = {layer: (stack, masks[stack.ranks]) for layer, stack in stacks.items()}

    @contextmanager
    def step(self, rows: Rows, padded_tokens: int) -> Iterator[None]:
        """`set_step` for one forward pass, and the bare model again afterwards."""
        self.set_step(rows, padded_tokens)
        try:
            yield
        finally:
            self.set_step((), 0)

    def inspect(self, name: str | None, prompt: Sequence[int], answer: Sequence[int]) -> Inspection:
        """Run the prompt and its answer through the row and the bare model, beside the engine's own steps."""
        bare = self._logits(prompt, answer)
        with self.step([(name, len(prompt) + len(answer))], _round_up(len(prompt) + len(answer))):
            row = self._logits(prompt, answer)
        own, bare_own = row.argmax(-1)[:-1], bare.argmax(-1)[:-1]
        given = torch.tensor(answer, device=self._device)
        loaded = self._adapters[name] if name is not None else None
        return Inspection(
            adapter=name,
            sha256=loaded.sha256 if loaded else "",
            active_layers=len(loaded.layers) if loaded else 0,
            gap=float((row[0] - bare[0]).abs().max()),
            agreement=float((own == bare_own).float().mean()) if answer else 1.0,
            explained=float((own == given).float().mean()) if answer else 1.0,
        )

    def scores(
        self, name: str | None, prompt: Sequence[int], answer: Sequence[int], top_logprobs: int
    ) -> list[tuple[float, list[tuple[int, float]]]]:
        """For each token of the answer its log-probability, and the most likely tokens with theirs."""
        with self._one_reading:  # the logits of a long answer are large
            with self.step([(name, len(prompt) + len(answer))], _round_up(len(prompt) + len(answer))):
                logs = self._logits(prompt, answer)[:-1].log_softmax(-1)
            given = logs.gather(-1, torch.tensor(answer, device=logs.device)[:, None])[:, 0].tolist()
            tops = logs.topk(top_logprobs)
        pairs = zip(tops.indices.tolist(), tops.values.tolist(), strict=True)
        return [
            (own, list(zip(tokens, values, strict=True))) for own, (tokens, values) in zip(given, pairs, strict=True)
        ]

    @torch.inference_mode()
    def _logits(self, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        """[answer tokens + 1, vocabulary], from the last prompt token on.

        What follows the answer changes nothing before it, and few distinct lengths spare processors from building
        a kernel for each.
        """
        tokens = [*prompt, *answer]
        padded = tokens + [0] * (_round_up(len(tokens)) - len(tokens))
        kept = list(range(len(prompt) - 1, len(tokens)))
        kept += kept[-1:] * (_round_up(len(kept)) - len(kept))
        output = self._model(
            input_ids=torch.tensor([padded], device=self._device),
            use_cache=False,
            logits_to_keep=torch.tensor(kept, device=self._device),
        )
        return output.logits[0, : len(answer) + 1].float()

    def _hook(self, layer: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor | None]:
        def add_adapters(_: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor | None:
            step = getattr(self._thread, "step", None)
            entry = step.get(layer) if step else None
            if entry is None:
                return None
            stack, mask = entry
            x = args[0].to(stack.lora_a.dtype)
            return out + linear(linear(x, stack.lora_a) * mask, stack.lora_b).to(out.dtype)

        return add_adapters

    def _mask(self, stack: Stack, rows: Rows, tokens: int) -> torch.Tensor:
        columns = stack.columns()
        mask = torch.zeros(tokens, stack.lora_a.shape[0], dtype=stack.lora_a.dtype)
        start = 0
        for name, length in rows:
            if name in columns:
                mask[start : start + length, columns[name]] = 1
            start += length
        if not self._graph_tokens:
            return mask.to(self._device)
        if stack.ranks not in self._graph_masks:
            shape = (self._graph_tokens, stack.lora_a.shape[0])
            self._graph_masks[stack.ranks] = torch.zeros(shape, dtype=mask.dtype, device=self._device)
        return self._graph_masks[stack.ranks][:tokens].copy_(mask)


def _round_up(length: int) -> int:
    return -(-length // SHAPE_STEP) * SHAPE_STEP
