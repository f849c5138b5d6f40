"""Repetition, presence and frequency penalties and logit bias, applied to the logits of one request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from app.models.engine.device_copy import to_device
from app.models.interface import Sampling, SamplingDefaults

ROOM = 256  # tokens of an answer before their place grows


@dataclass(frozen=True)
class Penalties:
    """`repetition` weighs on every token of prompt and answer (as in transformers), `presence` and `frequency` on those
    of the answer (as in OpenAI's API); `bias` is added to token ids."""

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, sampling: Sampling, chosen: SamplingDefaults) -> Self | None:
        """None where a request asks for none of them."""
        made = cls(
            chosen.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty, sampling.logit_bias
        )
        return None if made == cls() else made


class PenalizedTokens:
    """The tokens of one request that its penalties weigh on, kept on the device of its logits and added to as they
    come: the prompt's once each, then the answer's."""

    def __init__(self, penalties: Penalties) -> None:
        self._penalties = penalties
        self._tokens = torch.empty(0, dtype=torch.int64)
        self._prompt = self._answer = 0  # how many of each are there
        self._bias: tuple[torch.Tensor, torch.Tensor] | None = None

    def apply(
        self,
        logits: torch.Tensor,
        prompt: Sequence[int],
        answer: Sequence[int],
        newest: torch.Tensor | None = None,
    ) -> None:
        """Change `logits` [vocabulary] in place. `newest` [1] is a token behind the answer that only the device
        knows."""
        if not self._prompt or len(answer) < self._answer:
            self._begin(prompt, logits)
        self._add(answer[self._answer :], newest, logits)
        own = self._penalties
        end = self._prompt + self._answer
        if own.repetition != 1:
            seen = self._tokens[:end]
            old = logits[seen]
            logits[seen] = torch.where(old < 0, old * own.repetition, old / own.repetition)
        said = self._tokens[self._prompt : end]
        if own.frequency:
            logits.index_add_(0, said, torch.full(said.shape, -own.frequency, dtype=logits.dtype, device=logits.device))
        if own.presence:
            logits -= torch.zeros_like(logits).index_fill_(0, said, own.presence)
        if self._bias is not None:
            logits.index_add_(0, *self._bias)

    def _begin(self, prompt: Sequence[int], logits: torch.Tensor) -> None:
        size, device = logits.shape[-1], logits.device
        known = sorted({token for token in prompt if token < size})
        self._tokens = torch.zeros(len(known) + ROOM, dtype=torch.int64, device=device)
        self._tokens[: len(known)] = to_device(torch.tensor(known, dtype=torch.int64), device)
        self._prompt, self._answer = len(known), 0
        bias = [(token, more) for token, more in self._penalties.bias if 0 <= token < size]
        if bias:
            tokens, values = zip(*bias, strict=True)
            self._bias = (
                to_device(torch.tensor(tokens), device),
                to_device(torch.tensor(values, dtype=logits.dtype), device),
            )

    def _add(self, more: Sequence[int], newest: torch.Tensor | None, logits: torch.Tensor) -> None:
        count = len(more) + (newest is not None)
        start = self._prompt + self._answer
        if start + count > len(self._tokens):
            grown = torch.zeros(2 * (start + count), dtype=torch.int64, device=logits.device)
            grown[:start] = self._tokens[:start]
            self._tokens = grown
        if more:
            self._tokens[start : start + len(more)] = to_device(torch.tensor(more), logits.device)
        if newest is not None:
            self._tokens[start + len(more) : start + count] = newest
        self._answer += count
