"""Drawing the next token, each request by its own temperature, top-k, top-p and seed.

A request's draw needs one number in [0, 1) a token, from the request's own generator; the token is found by inverting
the cumulative distribution. So the same seed gives the same text whoever else is in the batch, with no random state
on the device, and the step can be captured in a CUDA graph.
"""

import random
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState
from transformers.generation.logits_process import LogitsProcessorList

from app.models.interface import Sampling

CANDIDATES = 256  # enough for nearly every nucleus; a wider one takes the full sort
GREEDY, TEMPERATURE, TOP_K, TOP_P, DRAW = range(5)


class RequestSampling:
    """The sampling of one request and its stream of draws."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self.top_k = sampling.top_k
        self.top_p = sampling.top_p
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(48)
        self._draws = random.Random(seed)

    def row(self) -> list[float]:
        """The values for the next token, in the order of the constants above."""
        greedy = self.temperature <= 0
        temperature = 1.0 if greedy else max(self.temperature, 1e-2)
        return [float(greedy), temperature, float(self.top_k), self.top_p, self._draws.random()]


class SamplingRows(ContinuousBatchingLogitsProcessorList):
    """Carries each request's sampling to the device beside its tokens: 5 float rows, viewed as int32."""

    def __init__(self) -> None:
        super().__init__(LogitsProcessorList())
        self.tensors_required = 5
        self.do_processing = False  # all of it happens in the draw

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        if not isinstance(kwargs.get("sampling"), RequestSampling):
            raise TypeError("every request needs its sampling")

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        defaults = torch.tensor([[1.0], [1.0], [0.0], [1.0], [0.0]])
        int32_tensor.copy_(defaults.view(torch.int32))

    def prepare_tensor_args(
        self, requests_in_batch: list[FutureRequestState], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        rows = [sampling_of(r.state).row() for r in requests_in_batch if r.has_new_token]
        if rows:
            values = torch.tensor(rows, dtype=torch.float32).T.contiguous().view(torch.int32)
            arg_storage[:, : len(rows)] = values.to(arg_storage.device)
        return arg_storage


def sampling_of(state: RequestState) -> RequestSampling:
    """The request's sampling; warm-up requests have none and are greedy."""
    return state.logit_processor_kwargs.get("sampling") or RequestSampling(Sampling(temperature=0, seed=0))


def draw(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """logits [requests, vocabulary], rows [5, requests] -> token ids [requests]."""
    greedy_tokens = logits.argmax(-1)
    if logits.is_cuda:  # no branch on values inside a captured graph
        return torch.where(rows[GREEDY] > 0, greedy_tokens, _draw_sorted(logits.float(), rows, logits.shape[-1]))
    drawn = (rows[GREEDY] == 0).nonzero()[:, 0]
    if drawn.numel():
        greedy_tokens[drawn] = _draw_on_host(logits[drawn].float(), rows[:, drawn])
    return greedy_tokens


def _draw_on_host(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The full vocabulary is sorted only where the most likely CANDIDATES do not hold the nucleus."""
    count = min(CANDIDATES, logits.shape[-1])
    scaled = logits / rows[TEMPERATURE][:, None]
    tops = scaled.topk(count, dim=-1)
    mass = (tops.values - scaled.logsumexp(-1, keepdim=True)).exp().sum(-1)
    by_k = (rows[TOP_K] > 0) & (rows[TOP_K] <= count)
    if bool((by_k | (mass >= rows[TOP_P])).all()):
        return _invert(tops.values, tops.indices, scaled.logsumexp(-1, keepdim=True), rows)
    return _draw_sorted(logits, rows, logits.shape[-1])


def _draw_sorted(logits: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    scaled = logits / rows[TEMPERATURE][:, None]
    tops = scaled.topk(count, dim=-1)
    return _invert(tops.values, tops.indices, scaled.logsumexp(-1, keepdim=True), rows)


def _invert(values: torch.Tensor, indices: torch.Tensor, log_total: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """values [requests, n] falling, indices their tokens: top-k, then the nucleus (Holtzman et al. 2020), then the
    token at which the kept mass reaches the draw."""
    place = torch.arange(values.shape[-1], device=values.device)
    top_k = rows[TOP_K][:, None]
    kept_by_k = (top_k == 0) | (place < top_k)
    weights = (values - log_total).exp() * kept_by_k
    weights = weights / torch.where(top_k > 0, weights.sum(-1, keepdim=True), torch.ones_like(top_k))
    before = weights.cumsum(-1) - weights
    weights = weights * ((before < rows[TOP_P][:, None]) | (place == 0))
    reached = weights.cumsum(-1)
    target = rows[DRAW][:, None] * reached[:, -1:]
    chosen = (reached <= target).sum(-1, keepdim=True).clamp(max=values.shape[-1] - 1)
    return indices.gather(-1, chosen)[:, 0]
