"""Load-time verification: the continuous batch gives the logits of the plain forward pass.

A prompt longer than a page and a few decoding steps go through the batch beside a neighbour, with fixed tokens; the
same tokens are read in one pass by a twin of the model. What differs by more than the number format explains is an
architecture that the batch does not know.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation.continuous_batching.requests import GenerationOutput

from app.models.engine.batch_manager import BatchManager
from app.models.engine.sampler import RequestSampling
from app.models.interface import Sampling
from app.models.loading.errors import CannotAnswer, ReadsAhead, WeightsAreNotNumbers, first_line

log = logging.getLogger(__name__)
STEPS = 4  # decoding steps
BEYOND = 24  # tokens behind the first page or the sliding window
NEIGHBOUR = 21
WIDEST_WINDOW = 512  # a wider one is not crossed: reading it would take too long
PADDING = 7
SECONDS = 300.0
# The mean difference that a number format explains, in standard deviations of the logits, beside that of padding.
EXPLAINED = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
NOISE = 4


@dataclass(frozen=True)
class Sequences:
    """Prompts and the tokens that each goes on with."""

    prompts: tuple[list[int], ...]
    answers: tuple[list[int], ...]


class FixedTokens(RequestSampling):
    """Goes on with given tokens, whatever the model says."""

    def __init__(self, tokens: Sequence[int]) -> None:
        super().__init__(Sampling(temperature=0, seed=0))
        self._tokens = list(tokens)

    def forced(self, generated: Sequence[int]) -> int | None:
        return self._tokens[min(len(generated), len(self._tokens) - 1)]


def check_plain(model: Any, name: str) -> None:
    """That one pass gives numbers, and reads no token before its turn. Raises WeightsAreNotNumbers, ReadsAhead,
    CannotAnswer."""
    tokens = _tokens(model, NEIGHBOUR, 1)
    try:
        alone, padded = _plain(model, tokens), _plain(model, tokens + _tokens(model, PADDING, 2))[: len(tokens)]
    except Exception as error:  # whatever an architecture raises
        log.warning("%s cannot answer", name, exc_info=True)
        raise CannotAnswer(name=name, kind=type(model).__name__) from error
    if not bool(torch.isfinite(alone).all()):
        raise WeightsAreNotNumbers(name=name)
    if _gap(padded, alone) > 2 * EXPLAINED[torch.bfloat16]:
        raise ReadsAhead(name=name, kind=type(model).__name__)


def check_generate(model: Any, name: str) -> None:
    """That transformers' `generate` runs. Raises CannotAnswer."""
    tokens = torch.tensor([_tokens(model, NEIGHBOUR, 1)], device=model.device)
    try:
        with torch.inference_mode():
            model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=2, do_sample=False, pad_token_id=0
            )
    except Exception as error:  # as above
        log.warning("%s cannot answer", name, exc_info=True)
        raise CannotAnswer(name=name, kind=type(model).__name__) from error


def batch_fault(manager: BatchManager, reader: Any, page_size: int) -> str:
    """Why the batch must not run this model; empty where it may. `reader` is a twin of its model."""
    sequences = _sequences(reader, page_size)
    expected: list[torch.Tensor] = []
    noise = 0.0
    for prompt, answer in zip(sequences.prompts, sequences.answers, strict=True):
        whole = prompt + answer[:-1]
        logits = _plain(reader, whole)
        padded = _plain(reader, whole + _tokens(reader, PADDING, 3))[: len(whole)]
        expected.append(logits[len(prompt) - 1 :])
        noise = max(noise, _gap(padded[len(prompt) - 1 :], expected[-1]))
    try:
        found = _run(manager, sequences)
    except Exception as error:  # as above
        log.info("the batch cannot run the model", exc_info=True)
        return first_line(error)
    gap = max(_gap(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    explained = EXPLAINED.get(reader.dtype, EXPLAINED[torch.bfloat16]) + NOISE * noise
    return "" if gap <= explained else f"its logits differ by {gap:.2g} of their spread"


def _sequences(model: Any, page_size: int) -> Sequences:
    window = getattr(model.config.get_text_config(), "sliding_window", None) or 0
    longest = max(page_size, window if window <= WIDEST_WINDOW else 0) + BEYOND
    return Sequences(
        (_tokens(model, longest, 4), _tokens(model, NEIGHBOUR, 5)),
        (_tokens(model, STEPS, 6), _tokens(model, STEPS, 7)),
    )


def _run(manager: BatchManager, sequences: Sequences) -> list[torch.Tensor]:
    """The logits of each request's steps, as the batch has them."""
    seen: Mapping[str, list[torch.Tensor]] = defaultdict(list)
    ended, faults = threading.Semaphore(0), list[str]()

    def watch(ids: list[str], logits: torch.Tensor) -> None:
        for request_id, row in zip(ids, logits, strict=False):
            seen[request_id].append(row.detach().float().cpu())

    def deliver(output: GenerationOutput) -> None:
        if output.is_finished():
            faults.extend([output.error] if output.error else [])
            ended.release()

    manager.watch = watch
    try:
        for number, (prompt, answer) in enumerate(zip(sequences.prompts, sequences.answers, strict=True)):
            manager.submit(f"proof-{number}", prompt, STEPS, [], FixedTokens(answer), f"{number}", 0, deliver)
        for _ in sequences.prompts:
            _wait(manager, ended)
    finally:
        manager.watch = None
    if faults:
        raise RuntimeError(faults[0])
    return [torch.stack(seen[f"proof-{number}"][:STEPS]) for number in range(len(sequences.prompts))]


def _wait(manager: BatchManager, ended: threading.Semaphore) -> None:
    waited = 0.0
    while not ended.acquire(timeout=0.1):
        waited += 0.1
        fault = manager.background_thread_status.fatal_error
        if fault is not None:
            raise fault
        if waited > SECONDS or not manager.is_running():
            raise RuntimeError("the batch gave no answer")


@torch.inference_mode()
def _plain(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """[tokens, vocabulary] of one pass without a cache."""
    output = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False)
    return output.logits[0].float().cpu()


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest over all places of the mean difference, in standard deviations."""
    return float(((ours - theirs).abs().mean(-1) / theirs.std(-1).clamp(min=1e-6)).max())


def _tokens(model: Any, count: int, seed: int) -> list[int]:
    known = int(model.get_input_embeddings().weight.shape[0])
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(min(10, known - 1), known, (count,), generator=draw).tolist()
