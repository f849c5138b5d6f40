"""LoRA by a compiled kernel: only tokens that use an adapter, and only its ranks."""

import weakref
from typing import Any

import torch

from app.models.engine.fused.bfloat16 import LANES
from app.models.engine.fused.kernels import HALF, LowRankArguments, add_low_rank
from app.models.engine.lora_stacks import Stack, Use, adapted
from app.openmp_threads import cores

ALONE = 1 << 17  # products of numbers that one thread has done before two have met


class Scratch:
    """Room for what a kernel's threads keep meanwhile, as large as the largest needed so far."""

    def __init__(self) -> None:
        self._room = torch.empty(0)

    def address(self, floats: int) -> int:
        if self._room.numel() < floats:
            self._room = torch.empty(floats)
        return self._room.data_ptr()


class LayerAdapters:
    """The adapters of one layer, prepared once for all steps until others take their place. Holds none in memory."""

    def __init__(self, stack: Stack) -> None:
        self.of = weakref.ref(stack)
        (ranks, inputs), outputs = stack.lora_a.shape, stack.lora_b.shape[1]
        fits = stack.lora_a.dtype == torch.bfloat16 and not inputs % LANES and not outputs % LANES
        self._compiled = fits and not stack.gains
        self._work = max(rank for _, rank in stack.ranks) * (inputs + outputs)  # of one token
        self._arguments = arguments = LowRankArguments(ranks=ranks, inputs=inputs, outputs=outputs)
        arguments.lora_a, arguments.lora_b = stack.lora_a.data_ptr(), stack.lora_b.data_ptr()
        self._floats = inputs + outputs + ranks

    def add(
        self, stack: Stack, use: Use, layer: Any, x: torch.Tensor, output: torch.Tensor, start: int, scratch: Scratch
    ) -> None:
        """x [tokens, in]; to the layer's columns of `output` [tokens, wide], which begin at `start`, in place."""
        if not self._compiled:
            part = output[:, start : start + layer.out_features]
            part.copy_(adapted(stack, use, x, part, layer.bias))
            return
        arguments, rows = self._arguments, use.spans.shape[0]
        arguments.rows, arguments.spans = rows, use.spans.data_ptr()
        arguments.states, arguments.output = x.data_ptr(), output.data_ptr() + start * HALF
        arguments.stride = output.stride(0)
        arguments.scratch, arguments.threads = scratch.address(cores() * self._floats), cores()
        add_low_rank(arguments, rows > 1 and rows * self._work > ALONE)
