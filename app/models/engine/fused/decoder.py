"""Fused forward pass of Llama-like decoders on processors: four products and four compiled kernels a layer.

transformers' layers call some seventy small operations each; for one token these cost as much as the weights' products.
Here all that lies between two products is one kernel. What comes out is what the layers themselves compute, but for the
order of some sums; the engine's proof compares both at load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.models.engine.attention import StepPlan, attend_step
from app.models.engine.fused.kernels import (
    GateArguments,
    NormArguments,
    RotaryArguments,
    add_and_norm,
    gate,
    rotate_and_store,
)
from app.models.engine.fused.low_rank import LayerAdapters, Scratch
from app.models.engine.lora_stacks import Stack, Use
from app.models.loading.packed_linear import PackedLinear

KNOWN = ("llama", "mistral", "qwen2", "qwen3")  # what lies between their products is the same
SMALL = 8192  # numbers; on fewer, threads would wait for one another longer than they work
Adapters = Mapping[str, tuple[Stack, Use]]  # by the name of a linear layer


def can_fuse(model: Any) -> bool:
    """Whether this model is one of those that are known here, and packed."""
    config = model.config
    if config.model_type not in KNOWN or getattr(config, "hidden_act", "") != "silu" or not hasattr(model, "model"):
        return False
    if {weight.dtype for weight in model.parameters()} != {torch.bfloat16}:
        return False
    layers = [part for layer in model.model.layers for part in (layer.self_attn, layer.mlp)]
    linears = [module for part in layers for module in part.children() if isinstance(module, torch.nn.Linear)]
    turned = 2 * len(model.model.rotary_emb.inv_freq) == model.model.layers[0].self_attn.head_dim
    return turned and all(isinstance(module, PackedLinear) for module in (*linears, model.lm_head))


class FusedDecoder:
    """Runs the steps of a batch; one thread at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model.model
        make = _Maker(model)
        self._head = make(model.lm_head)
        self._layers = [_Layer(layer, make) for layer in self._model.layers]

    @torch.inference_mode()
    def logits(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        places: torch.Tensor,
        kept: torch.Tensor,
        plan: StepPlan,
        adapters: Adapters | None,
    ) -> torch.Tensor:
        """tokens and positions [1, tokens], places [tokens] of the cache that they are written to -> the logits
        [kept, vocabulary] of the tokens numbered by `kept`."""
        hidden = self._model.embed_tokens(tokens)
        cos, sin = self._model.rotary_emb(hidden, position_ids=positions)
        step = _Step(hidden[0].clone(), cos[0].contiguous(), sin[0].contiguous(), places.long(), plan, adapters)
        added: torch.Tensor | None = None
        for layer in self._layers:
            added = layer.run(step, added)
        step.hidden = step.hidden.index_select(0, kept)
        last = None if added is None else added.index_select(0, kept)
        hidden = _normed(self._model.norm, step.hidden, last)
        return self._head(hidden, adapters, kept)


@dataclass
class _Step:
    """What all layers of a step share."""

    hidden: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    places: torch.Tensor
    plan: StepPlan
    adapters: Adapters | None


class _Layer:
    def __init__(self, layer: Any, make: "_Maker") -> None:
        self._layer = layer
        self._attention = attention = layer.self_attn
        self._number = attention.layer_idx
        self._width = attention.head_dim
        self._norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        self._epsilon = getattr(self._norms[0], "variance_epsilon", 0.0)
        self._into = make(attention.q_proj, attention.k_proj, attention.v_proj)
        self._out = make(attention.o_proj)
        self._widen = make(layer.mlp.gate_proj, layer.mlp.up_proj)
        self._shrink = make(layer.mlp.down_proj)

    def run(self, step: _Step, added: torch.Tensor | None) -> torch.Tensor:
        """What the layer adds to `step.hidden`, to which it adds what the layer before gave."""
        adapters = step.adapters
        states = self._into(_normed(self._layer.input_layernorm, step.hidden, added), adapters)
        attended = self._out(self._attend(step, states), adapters)
        between = self._widen(_normed(self._layer.post_attention_layernorm, step.hidden, attended), adapters)
        return self._shrink(_gated(between), adapters)

    def _attend(self, step: _Step, states: torch.Tensor) -> torch.Tensor:
        width, plan = self._width, step.plan
        rows = len(states)
        key_pages, value_pages = plan.allocator.get_cache_for_block_table(self._number)
        key_heads = key_pages.shape[2]
        heads = states.shape[-1] // width - 2 * key_heads
        query_norm, key_norm = (norm.weight.data_ptr() if norm is not None else 0 for norm in self._norms)
        arguments = RotaryArguments(
            rows,
            heads,
            key_heads,
            width,
            states.data_ptr(),
            step.cos.data_ptr(),
            step.sin.data_ptr(),
            step.places.data_ptr(),
            key_pages.data_ptr(),
            value_pages.data_ptr(),
            query_norm,
            key_norm,
            self._epsilon,
        )
        rotate_and_store(arguments, states.numel() > SMALL)
        queries = states.view(rows, -1, width)[:, :heads]
        attended = attend_step(queries, key_pages, value_pages, plan, self._attention.scaling)
        return attended.reshape(rows, heads * width).contiguous()


class _Products:
    """Layers that read the same input, as one."""

    def __init__(self, layers: tuple[Any, ...], names: Sequence[str], scratch: Scratch) -> None:
        self._layers, self._names = layers, names
        self._scratch = scratch
        products = {id(layer.product): layer.product for layer in layers}
        self._product = next(iter(products.values())) if len(products) == 1 else None
        self._adapters: list[LayerAdapters | None] = [None] * len(layers)

    def __call__(self, x: torch.Tensor, adapters: Adapters | None, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """x [rows, in] -> [rows, out of all layers]. The rows are all tokens of the step, or those given."""
        if self._product is None:
            output = torch.cat([layer.product.part(x, layer.place) for layer in self._layers], -1)
        else:
            output = self._product(x)
        if adapters is not None:
            start = 0
            for number, (layer, name) in enumerate(zip(self._layers, self._names, strict=True)):
                if used := adapters.get(name):
                    stack, use = used
                    use = use if tokens is None else use.only(tokens)
                    self._prepared(number, stack).add(stack, use, layer, x, output, start, self._scratch)
                start += layer.out_features
        return output

    def _prepared(self, number: int, stack: Stack) -> LayerAdapters:
        known = self._adapters[number]
        if known is None or known.of() is not stack:
            known = self._adapters[number] = LayerAdapters(stack)
        return known


class _Maker:
    """Makes the products of one model, which share their scratch."""

    def __init__(self, model: Any) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}
        self._scratch = Scratch()

    def __call__(self, *layers: Any) -> _Products:
        return _Products(layers, [self._names[id(layer)] for layer in layers], self._scratch)


def _normed(norm: Any, hidden: torch.Tensor, added: torch.Tensor | None) -> torch.Tensor:
    """RMSNorm of hidden + added, which is what `hidden` is afterwards."""
    output = torch.empty_like(hidden)
    arguments = NormArguments(
        *hidden.shape,
        hidden.data_ptr(),
        0 if added is None else added.data_ptr(),
        norm.weight.data_ptr(),
        output.data_ptr(),
        norm.variance_epsilon,
    )
    add_and_norm(arguments, hidden.numel() > SMALL)
    return output


def _gated(states: torch.Tensor) -> torch.Tensor:
    rows, width = states.shape[0], states.shape[1] // 2
    output = states.new_empty(rows, width)
    gate(GateArguments(rows, width, states.data_ptr(), output.data_ptr()), output.numel() > SMALL)
    return output
