"""Repetition, presence and frequency penalties and logit bias, applied to the logits of one request."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from app.models.interface import Sampling, SamplingDefaults


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

    def apply(self, logits: torch.Tensor, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Change `logits` [vocabulary] in place."""
        size, device = logits.shape[-1], logits.device
        if self.repetition != 1:
            seen = torch.tensor(sorted({token for token in (*prompt, *answer) if token < size}), device=device)
            old = logits[seen]
            logits[seen] = torch.where(old < 0, old * self.repetition, old / self.repetition)
        if answer and (self.presence or self.frequency):
            counts = Counter(token for token in answer if token < size)
            repeated = torch.tensor(list(counts), device=device)
            times = torch.tensor(list(counts.values()), device=device, dtype=logits.dtype)
            logits[repeated] -= self.presence + self.frequency * times
        for token, more in self.bias:
            if 0 <= token < size:
                logits[token] += more
