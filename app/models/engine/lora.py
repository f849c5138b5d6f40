"""Multi-LoRA: many adapters and the bare base in one forward pass.

Each layer keeps the A matrices of all its adapters stacked along the rank, and the B matrices likewise:

    y = W x + ((x A^T) * mask) B^T      A: [sum of ranks, in]   B: [out, sum of ranks], scaled by alpha / rank
                                        mask: [tokens of the step, sum of ranks], 1 where the token's request
                                        uses that adapter

Two thin products, whatever the number of adapters; with DoRA one more for each such adapter. The engine calls
`set_step` before each forward pass, in the thread that runs it; another thread's forward pass is the bare model unless
it sets a step of its own.
Adapters come and go while steps run: a step keeps the stacks that it began with. Where steps are captured as CUDA
graphs, an adapter is put into free rows of the stacks, so that what was captured reads it, too. Inside, an adapter is
known by the number of its load, so that another one under an old name is never taken for it; 0 is the base.

Prompts and answers are read again (scores, receipts) by a twin of the model, which has the same weights and a config of
its own: the batch changes the attention of the model that it runs.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from app.models.engine.device_copy import to_device
from app.models.engine.lora_files import AdapterGone, AdapterNameTaken, LowRank, read_adapter
from app.models.engine.lora_stacks import Loaded, LoadedAdapter, Rows, Stack, Use, adapted
from app.models.interface import Inspection
from app.openmp_threads import all_cores

SHAPE_STEP = 64
BASE = 0


class AdapterBank:
    """The adapters of one base model. `generation` changes whenever captured CUDA graphs become void; whoever runs a
    step of the batch holds `step_lock` while it is begun."""

    def __init__(self) -> None:
        self.generation = 0
        self.step_lock = threading.Lock()
        self._change = threading.Lock()
        self._one_reading = threading.Lock()
        self._loaded = Loaded()
        self._last_number = BASE
        self._thread = threading.local()
        self._linears: dict[str, tuple[nn.Linear, ...]] = {}
        self._output = ""
        self._hooks: dict[str, list[RemovableHandle]] = {}
        self._graph_tokens = 0
        self._graph_masks: dict[str, Mask] = {}

    def install(self, model: nn.Module, graph_tokens: int = 0) -> None:
        """Take note of every linear layer of `model`, once, before the engine starts; its weights stay as they are.

        A layer is hooked only while an adapter has it: a hook costs time in each step, used or not.

        Where steps are replayed as CUDA graphs, `graph_tokens` is the longest step: the batch's masks then keep their
        address, `set_step` runs on the step's stream, and graphs are dropped once `generation` has changed.
        """
        self.reader = twin_of(model)
        self._config: Any = getattr(model, "config", None)
        self._device = next(model.parameters()).device
        self._graph_tokens = graph_tokens
        twins = dict(self.reader.named_modules())
        output = getattr(model, "get_output_embeddings", lambda: None)()
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                self._linears[name] = (module, cast(nn.Linear, twins[name]))
                self._output = name if module is output else self._output

    def names(self) -> tuple[str, ...]:
        return tuple(self._loaded.adapters)

    def number(self, name: str | None) -> int:
        """What requests carry for this adapter; 0 for the base. Raises AdapterGone."""
        if name is None:
            return BASE
        found = self._loaded.adapters.get(name)
        if found is None:
            raise AdapterGone(name=name)
        return found.number

    def add(self, name: str, folder: Path) -> None:
        """Read an adapter, check it, make it usable from the next step on. Raises AdapterError."""
        weights = read_adapter(name, folder, {layer: pair[0] for layer, pair in self._linears.items()}, self._config)
        with self._change:
            if name in self._loaded.adapters:
                raise AdapterNameTaken(name=name)
            self._last_number += 1
            number = self._last_number
            stacks = dict(self._loaded.stacks)
            for layer, pair in weights.layers.items():
                stacks[layer] = self._with(stacks.get(layer), number, pair)
            tensors = [tensor for pair in weights.layers.values() for tensor in pair.tensors]
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            loaded = LoadedAdapter(weights.sha256, number, tuple(weights.layers), size)
            self._switch(Loaded(stacks, {**self._loaded.adapters, name: loaded}))

    def remove(self, name: str) -> None:
        """Forget an adapter that no request uses; its memory is free once the step now running ends."""
        with self._change:
            gone = self._loaded.adapters[name]
            left = {key: value for key, value in self._loaded.adapters.items() if key != name}
            stacks = dict(self._loaded.stacks)
            for layer in gone.layers:
                below = stacks.pop(layer)
                rest = below.freed(gone.number) if self._graph_tokens and left else below.without(gone.number)
                if rest:
                    stacks[layer] = rest
            self._switch(Loaded(stacks if left else {}, left))

    def _with(self, below: Stack | None, number: int, pair: LowRank) -> Stack:
        """Where steps are captured, an adapter is put into free rows: what is captured reads it, too."""
        if self._graph_tokens and below and (placed := below.placed(number, pair)):
            return placed
        made = below.joined(number, pair) if below else Stack.single(number, pair)
        return made.with_room() if self._graph_tokens else made

    def _switch(self, loaded: Loaded) -> None:
        """At a pause of the batch. On a device that works beside us, new stacks are whole and old ones read to the end
        before they change place: they were made, and are freed, on another stream than the batch's."""
        for layer in loaded.stacks.keys() - self._hooks.keys():
            self._hooks[layer] = [module.register_forward_hook(self._hook(layer)) for module in self._linears[layer]]
        with self.step_lock:
            self._synchronise()
            masks = self._masks(loaded)
            if masks != self._graph_masks or not loaded.reads_as(self._loaded):
                self.generation += 1
            self._loaded, self._graph_masks = loaded, masks
        for layer in self._hooks.keys() - loaded.stacks.keys():
            for hook in self._hooks.pop(layer):
                hook.remove()

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @property
    def adapts_output(self) -> bool:
        """Whether an adapter changes the output layer, which then has to see all tokens of a step."""
        return self._output in self._loaded.stacks

    def loaded(self, name: str) -> LoadedAdapter:
        return self._loaded.adapters[name]

    def set_step(self, rows: Rows, padded_tokens: int, in_batch: bool = False) -> None:
        """Say which adapter serves which tokens of the next forward pass in this thread; padding comes last.

        With no rows the thread is back at the bare model and holds no adapter's memory. In the batch, an adapter that
        is gone is that of a cancelled request, of which nobody reads what its last step gives; elsewhere it raises
        AdapterGone.
        """
        loaded = self._loaded
        used = {number for number, _ in rows if number != BASE}
        if not in_batch and used - loaded.numbers():
            raise AdapterGone(name="")
        fixed = in_batch and bool(self._graph_tokens)
        if not rows or not (used or fixed):
            self._thread.step = None
            return
        step = {}
        for layers in loaded.layers_by_ranks.values():
            mask = self._graph_masks[layers[0]] if fixed else None
            use = self._use(loaded.stacks[layers[0]], rows, padded_tokens, mask)
            step.update({layer: (loaded.stacks[layer], use) for layer in layers})
        self._thread.step = step

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
        loaded = self._loaded.adapters[name] if self.number(name) and name is not None else None
        with self._one_reading:
            bare = self._logits(prompt, answer)
            with self.step([(self.number(name), len(prompt) + len(answer))], _round_up(len(prompt) + len(answer))):
                row = self._logits(prompt, answer)
        own, bare_own = row.argmax(-1)[:-1], bare.argmax(-1)[:-1]
        given = torch.tensor(answer, device=self._device)
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
            with self.step([(self.number(name), len(prompt) + len(answer))], _round_up(len(prompt) + len(answer))):
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
        places = torch.tensor(kept, device=self._device)
        selects = getattr(self.reader, "_supports_logits_to_keep", bool)() and not self.adapts_output
        with all_cores():
            output = self.reader(
                input_ids=torch.tensor([padded], device=self._device),
                use_cache=False,
                **({"logits_to_keep": places} if selects else {}),
            )
        logits = output.logits[0] if selects else output.logits[0, places]
        return logits[: len(answer) + 1].float()

    def _hook(self, layer: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor | None]:
        def add_adapters(module: Any, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor | None:
            used = (self.of_step() or {}).get(layer)
            return adapted(*used, args[0], out, module.bias) if used else None

        return add_adapters

    def of_step(self) -> Mapping[str, tuple[Stack, Use]] | None:
        """By a layer's name, what serves the next forward pass in this thread; None for the bare model."""
        return getattr(self._thread, "step", None)

    def _use(self, stack: Stack, rows: Rows, tokens: int, fixed: "Mask | None") -> Use:
        """A `fixed` mask stays where it is, as captured graphs need it; only the batch's thread may write there."""
        use = Use.of(stack, rows, tokens, has_spans=fixed is None)
        mask = to_device(use.mask, self._device)
        kept = mask if fixed is None else fixed.tensor[:tokens].copy_(mask)
        return replace(use, mask=kept)

    def _masks(self, loaded: Loaded) -> dict[str, "Mask"]:
        """By layer, where masks stay. Layers that had one in common, and still use the same columns, keep it."""
        masks: dict[str, Mask] = {}
        for layers in loaded.layers_by_ranks.values() if self._graph_tokens else ():
            columns = loaded.stacks[layers[0]].lora_a.shape[0]
            before = {self._graph_masks.get(layer) for layer in layers}
            known = before.pop() if len(before) == 1 else None
            if known is None or known.tensor.shape[1] != columns or known in masks.values():
                shape, dtype = (self._graph_tokens, columns), loaded.stacks[layers[0]].lora_a.dtype
                known = Mask(torch.zeros(shape, dtype=dtype, device=self._device))
            masks.update(dict.fromkeys(layers, known))
        return masks


@dataclass(eq=False)
class Mask:
    """Which tokens use which ranks, at one address for all steps."""

    tensor: torch.Tensor


def twin_of(model: nn.Module) -> nn.Module:
    """The same layers over the same weights, with a config of their own."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        state = getattr(module, "state", None)  # where bitsandbytes keeps weights in 8 bits
        if state is not None:
            shared[id(state)] = state
    return copy.deepcopy(model, shared)


def _round_up(length: int) -> int:
    return -(-length // SHAPE_STEP) * SHAPE_STEP
