"""Token sampler: temperature, top-k, top-p, min-p, penalties and logit bias, each request by its own and its own seed.

A request's draw needs one number in [0, 1) a token, from the request's own generator; the token is found by inverting
the cumulative distribution. So the same seed gives the same text whoever else is in the batch, with no random state
on the device.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState
from transformers.generation.logits_process import LogitsProcessorList

from app.models.engine.device_copy import to_device
from app.models.engine.grammar import TokenConstraint
from app.models.engine.penalties import PenalizedTokens, Penalties
from app.models.engine.reasoning_budget import ReasoningBudget
from app.models.interface import Sampling, SamplingDefaults

CANDIDATES = 256  # enough for nearly every nucleus; a wider one takes the full sort
BLOCK = 128  # divides the vocabularies of nearly all models
GREEDY, TEMPERATURE, TOP_K, TOP_P, MIN_P, DRAW, FORCED = range(7)
NOT_FORCED = -1
RecordedToken = tuple[int, float, tuple[tuple[int, float], ...]]  # token, log-probability, likeliest with theirs
COLDEST = 1e-2  # a lower temperature would overflow and is the most likely token all the same


class RequestSampling:
    """The sampling of one request and its stream of draws. `budget` ends its reasoning, `constraint` says what may
    come next in its answer, which `reasons_first` or begins at once; `recorded` are the log-probabilities of what was
    drawn, where they are wanted."""

    def __init__(
        self,
        sampling: Sampling,
        defaults: SamplingDefaults | None = None,
        budget: ReasoningBudget | None = None,
        constraint: TokenConstraint | None = None,
        reasons_first: bool = False,
    ) -> None:
        self.chosen = chosen = sampling.resolved(defaults or SamplingDefaults())
        greedy = chosen.temperature <= 0
        temperature = 1.0 if greedy else max(chosen.temperature, COLDEST)
        self._fixed = [float(greedy), temperature, float(chosen.top_k), chosen.top_p, chosen.min_p]
        penalties = Penalties.of(sampling, chosen)
        self.penalties = PenalizedTokens(penalties) if penalties else None
        self.constraint = constraint
        self.top_logprobs = sampling.top_logprobs
        self.recorded: list[RecordedToken] = []
        self._budget = budget
        self._reasons_first = reasons_first and budget is not None
        self.seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(48)
        self._draws = random.Random(self.seed)

    def __deepcopy__(self, _: dict[int, Any]) -> "RequestSampling":
        """A request that is put off and begins again goes on with the same draws."""
        return self

    def row(self, generated: list[int] | None = None) -> list[float]:
        """The values for the token after the `generated` ones, in the order of the constants above."""
        forced = self.forced(generated or [])
        return [*self._fixed, self._draws.random(), float(NOT_FORCED if forced is None else forced)]

    @property
    def draws(self) -> bool:
        """Whether it takes more than the most likely token."""
        return not self._fixed[GREEDY]

    @property
    def draws_among_few(self) -> bool:
        return 0 < self._fixed[TOP_K] <= CANDIDATES

    @property
    def changes_logits(self) -> bool:
        return self.penalties is not None or self.constraint is not None

    def adjust(
        self,
        logits: torch.Tensor,
        prompt: Sequence[int],
        answer: Sequence[int],
        newest: torch.Tensor | None = None,
    ) -> None:
        """Change the logits [vocabulary] of the next token in place: that after `answer`, or after `newest` [1] behind
        it, which only the device knows as yet. A constraint waits for it."""
        if self.penalties is not None:
            self.penalties.apply(logits, prompt, answer, newest)
        if self.constraint is None:
            return
        answer = answer if newest is None else [*answer, int(newest)]
        start = self._budget.answer_start if self._reasons_first and self._budget else 0
        if start is None or len(answer) < start:
            self.constraint.forbid_end(logits)
        else:
            self.constraint.apply(logits, answer[start:])

    def record(self, logprobs: torch.Tensor, token: int) -> None:
        """Keep how likely the drawn token was, and the most likely ones."""
        tops = logprobs.topk(self.top_logprobs or 0)
        pairs = tuple(zip(tops.indices.tolist(), tops.values.tolist(), strict=True))
        self.recorded.append((token, float(logprobs[token]), pairs))

    def forced(self, generated: Sequence[int]) -> int | None:
        """The token that must come next whatever the model says; asked once for each token."""
        return self._budget.next(generated) if self._budget else None


class SamplingRows(ContinuousBatchingLogitsProcessorList):
    """Carries each request's sampling to the device beside its tokens: float rows, viewed as int32."""

    def __init__(self) -> None:
        super().__init__(LogitsProcessorList())
        self.tensors_required = FORCED + 1
        self.do_processing = False  # all of it happens in the draw

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        if not isinstance(kwargs.get("sampling"), RequestSampling):
            raise TypeError("every request needs its sampling")

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        defaults = torch.tensor(WARM_UP.row())[:, None]
        int32_tensor.copy_(defaults.view(torch.int32))

    def prepare_tensor_args(
        self, requests_in_batch: list[FutureRequestState], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        rows = [sampling_of(r.state).row(generated_by(r.state)) for r in requests_in_batch if r.has_new_token]
        if rows:
            values = torch.tensor(rows, dtype=torch.float32).T.contiguous().view(torch.int32)
            arg_storage[:, : len(rows)] = values.to(arg_storage.device)
        return arg_storage


WARM_UP = RequestSampling(Sampling(temperature=0, seed=0))


def sampling_of(state: RequestState) -> RequestSampling:
    """The request's sampling; warm-up requests have none and are greedy."""
    return state.logit_processor_kwargs.get("sampling") or WARM_UP


def generated_by(state: RequestState) -> list[int]:
    """What the request has generated, also before it was put off and began again with it as a prompt."""
    if not state._true_initial_tokens:
        return state.generated_tokens
    return state.initial_tokens[state._true_initial_tokens :] + state.generated_tokens


def draw(logits: torch.Tensor, rows: torch.Tensor, samplings: Sequence[RequestSampling]) -> torch.Tensor:
    """logits [requests, vocabulary], rows [FORCED + 1, requests] -> token ids [requests].

    `samplings` say on the host what each request needs; further rows are padding. So nothing is asked of the device,
    and the vocabulary is sorted for those alone that may take any token of it.
    """
    tokens = _likeliest(logits)
    few = [place for place, sampling in enumerate(samplings) if sampling.draws and sampling.draws_among_few]
    many = [place for place, sampling in enumerate(samplings) if sampling.draws and not sampling.draws_among_few]
    for places, draw_among in ((few, _draw_among_few), (many, _draw_among_many)):
        if places:
            index = to_device(torch.tensor(places), logits.device)
            tokens[index] = draw_among(logits[index].float(), rows[:, index])
    return torch.where(rows[FORCED] > NOT_FORCED, rows[FORCED].long(), tokens)


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    """`argmax`: processors find the largest of a block many values at a time, but its place value by value."""
    if logits.is_cuda or logits.shape[-1] % BLOCK:
        return logits.argmax(-1)
    blocks = logits.unflatten(-1, (-1, BLOCK))
    best = blocks.amax(-1).argmax(-1)
    return best * BLOCK + blocks[torch.arange(len(best)), best].argmax(-1)


def _draw_among_few(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Among the CANDIDATES most likely tokens, where top-k takes no others."""
    return _draw_sorted(logits, rows, min(CANDIDATES, logits.shape[-1]))


def _draw_among_many(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A processor sorts the whole vocabulary only where the most likely tokens do not hold the nucleus; to look would
    make a device wait."""
    if logits.is_cuda:
        return _draw_sorted(logits, rows, logits.shape[-1])
    scaled = logits / rows[TEMPERATURE][:, None]
    count, log_total = min(CANDIDATES, logits.shape[-1]), scaled.logsumexp(-1, keepdim=True)
    tops = scaled.topk(count, dim=-1)
    mass = (tops.values - log_total).exp().sum(-1)
    if bool(((rows[TOP_K] == 0) & (mass >= rows[TOP_P])).all()):
        return _invert(tops.values, tops.indices, log_total, rows)
    return _draw_sorted(logits, rows, logits.shape[-1])


def _draw_sorted(logits: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    scaled = logits / rows[TEMPERATURE][:, None]
    tops = scaled.topk(count, dim=-1)
    return _invert(tops.values, tops.indices, scaled.logsumexp(-1, keepdim=True), rows)


def _invert(values: torch.Tensor, indices: torch.Tensor, log_total: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """values [requests, n] falling, indices their tokens: top-k, then the nucleus (Holtzman et al. 2020), then min-p,
    then the token at which the kept mass reaches the draw."""
    place = torch.arange(values.shape[-1], device=values.device)
    top_k = rows[TOP_K][:, None]
    kept_by_k = (top_k == 0) | (place < top_k)
    weights = (values - log_total).exp() * kept_by_k
    weights = weights / torch.where(top_k > 0, weights.sum(-1, keepdim=True), torch.ones_like(top_k))
    before = weights.cumsum(-1) - weights
    likely = weights >= rows[MIN_P][:, None] * weights[:, :1]
    weights = weights * (((before < rows[TOP_P][:, None]) & likely) | (place == 0))
    reached = weights.cumsum(-1)
    total = reached[:, -1:]
    chosen = (reached <= rows[DRAW][:, None] * total).sum(-1, keepdim=True)
    # a draw that rounds to 1 takes the token that completes the mass, never one behind it
    return indices.gather(-1, torch.minimum(chosen, (reached < total).sum(-1, keepdim=True)))[:, 0]
