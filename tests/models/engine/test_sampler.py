"""Each request is sampled by its own temperature, top-k, top-p, min-p, penalties, bias and seed."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from app.models.engine.sampler import CANDIDATES, DRAW, RequestSampling, draw
from app.models.interface import Sampling, SamplingDefaults

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def drawn(sampling: Sampling, times: int, logits: torch.Tensor = LOGITS) -> list[int]:
    request = RequestSampling(sampling)
    rows = torch.tensor([request.row() for _ in range(times)]).T
    return draw(logits.repeat(times, 1), rows, [request] * times).tolist()


def shares(tokens: list[int]) -> list[float]:
    return (torch.bincount(torch.tensor(tokens), minlength=4) / len(tokens)).tolist()


def test_draws_follow_the_distribution() -> None:
    got = shares(drawn(Sampling(temperature=1, top_p=1, seed=1), 20_000))
    assert got == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)


def test_temperature_sharpens() -> None:
    weights = torch.softmax(LOGITS / 0.5, 0).tolist()
    got = shares(drawn(Sampling(temperature=0.5, top_p=1, seed=1), 20_000))
    assert got == pytest.approx(weights, abs=0.015)


def test_top_k_keeps_the_likeliest() -> None:
    got = shares(drawn(Sampling(temperature=1, top_p=1, top_k=2, seed=1), 20_000))
    assert got == pytest.approx([0.625, 0.375, 0, 0], abs=0.015)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    got = shares(drawn(Sampling(temperature=1, top_p=0.7, seed=1), 20_000))
    assert got == pytest.approx([0.625, 0.375, 0, 0], abs=0.015)


def test_a_nucleus_wider_than_the_candidates_is_drawn_from_all() -> None:
    flat = torch.zeros(2000)
    tokens = drawn(Sampling(temperature=1, top_p=1, seed=1), 4000, flat)
    assert len(set(tokens)) > 1500


def test_a_nucleus_among_more_of_the_likeliest_than_are_looked_at_first_is_theirs() -> None:
    """As transformers has it: top-p is a part of what top-k left."""
    slope = torch.linspace(0, -0.5, 600)
    tokens = drawn(Sampling(temperature=1.0, top_p=0.3, top_k=500, seed=1), 4000, slope)
    mass = slope[:500].softmax(0).cumsum(0)
    assert max(tokens) == int((mass < 0.3).sum())


def test_zero_temperature_is_greedy_beside_requests_that_draw() -> None:
    greedy, free = RequestSampling(Sampling(temperature=0)), RequestSampling(Sampling(temperature=5, top_p=1, seed=3))
    rows = torch.tensor([row for _ in range(200) for row in (greedy.row(), free.row())]).T
    tokens = draw(LOGITS.repeat(400, 1), rows, [greedy, free] * 200)
    assert set(tokens[::2].tolist()) == {0}
    assert set(tokens[1::2].tolist()) == {0, 1, 2, 3}


def test_min_p_keeps_what_is_near_the_most_likely() -> None:
    got = shares(drawn(Sampling(temperature=1, top_p=1, min_p=0.5, seed=1), 20_000))
    assert got == pytest.approx([0.625, 0.375, 0, 0], abs=0.015)


@pytest.mark.parametrize("size", [256, 384, 300])
def test_greedy_takes_the_first_of_equals_wherever_they_stand(size: int) -> None:
    logits = torch.randn(6, size, generator=torch.Generator().manual_seed(5)).to(torch.bfloat16)
    equals = [[0], [size - 1], [3, 4], [127, 128], [130, 7, size - 1], list(range(size))]
    for row, places in enumerate(equals):
        logits[row, places] = 9.0
    greedy = [RequestSampling(Sampling(temperature=0)) for _ in equals]
    rows = torch.tensor([request.row() for request in greedy]).T
    assert draw(logits, rows, greedy).tolist() == [min(places) for places in equals]


@pytest.mark.parametrize("size", [4, 2000])
def test_a_draw_that_rounds_to_one_takes_no_token_from_beyond_the_mass(size: int) -> None:
    logits = torch.full((1, size), -40.0)
    logits[0, :4] = LOGITS
    request = RequestSampling(Sampling(temperature=1, top_p=1, seed=1))
    row = request.row()
    row[DRAW] = 0.99999999  # 1 in float32
    assert draw(logits, torch.tensor([row]).T, [request]).item() == 3


def test_defaults_of_the_checkpoint_hold_where_nothing_was_chosen() -> None:
    defaults = SamplingDefaults(temperature=0.6, top_p=0.8, top_k=20, min_p=0.1, repetition_penalty=1.1)
    assert Sampling().resolved(defaults) == defaults
    chosen = Sampling(temperature=0, top_k=0, repetition_penalty=1.0).resolved(defaults)
    assert (chosen.temperature, chosen.top_p, chosen.top_k, chosen.repetition_penalty) == (0, 0.8, 0, 1.0)


def test_penalties_and_bias_change_what_is_likely() -> None:
    def after(sampling: Sampling, prompt: list[int], answer: list[int]) -> list[float]:
        logits = torch.tensor([2.0, -2.0, 1.0, 0.0])
        penalties = RequestSampling(sampling).penalties
        assert penalties is not None
        penalties.apply(logits, prompt, answer)
        return logits.tolist()

    assert RequestSampling(Sampling()).penalties is None
    assert after(Sampling(repetition_penalty=2), [0], [1, 1]) == [1, -4, 1, 0]
    assert after(Sampling(presence_penalty=1, frequency_penalty=0.5), [0], [2, 2]) == [2, -2, -1, 0]
    assert after(Sampling(logit_bias=((3, 5.0), (99, 1.0))), [], []) == [2, -2, 1, 5]
    assert after(Sampling(repetition_penalty=2), [0, 99, 0], [1, 1]) == [1, -4, 1, 0], "a token that has no logit"


def test_penalties_weigh_on_tokens_as_they_come_also_on_one_that_only_the_device_knows() -> None:
    sampling = Sampling(repetition_penalty=1.3, presence_penalty=0.7, frequency_penalty=0.4, logit_bias=((5, 2.0),))
    draws = torch.Generator().manual_seed(4)
    prompt, answer = [3, 1, 3], torch.randint(0, 40, (600,), generator=draws).tolist()

    def fresh(said: list[int]) -> torch.Tensor:
        logits = torch.linspace(-2, 2, 40)
        RequestSampling(sampling).adjust(logits, prompt, said)
        return logits

    growing, in_flight = RequestSampling(sampling), RequestSampling(sampling)
    for length in [*range(0, 600, 7), 300, 301]:  # in the end it is put back and begins again
        logits, ahead = torch.linspace(-2, 2, 40), torch.linspace(-2, 2, 40)
        growing.adjust(logits, prompt, answer[:length])
        in_flight.adjust(ahead, prompt, answer[:length], torch.tensor([answer[length]]))
        torch.testing.assert_close(logits, fresh(answer[:length]))
        torch.testing.assert_close(ahead, fresh(answer[: length + 1]))
        if length % 2:  # the next comes when the host knows it
            in_flight.adjust(torch.zeros(40), prompt, answer[: length + 1])


def test_a_seed_repeats_and_another_differs() -> None:
    once = drawn(Sampling(temperature=1, top_p=1, seed=5), 100)
    assert once == drawn(Sampling(temperature=1, top_p=1, seed=5), 100)
    assert once != drawn(Sampling(temperature=1, top_p=1, seed=6), 100)


class Operations(TorchDispatchMode):
    """Notes how many tokens are sorted at once, and what would make a host wait for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.sorted: list[int] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("topk", "sort"):
            self.sorted.append(args[1] if name == "topk" else args[0].shape[-1])
        if name in ("nonzero", "_local_scalar_dense", "masked_select"):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


def test_without_a_wide_nucleus_nothing_is_sorted_in_full_and_no_device_is_waited_for() -> None:
    few, wide = Sampling(temperature=1, top_k=20, seed=1), Sampling(temperature=1, top_p=1, seed=1)
    logits = torch.randn(3, 4096, generator=torch.Generator().manual_seed(2))

    def operations(*samplings: Sampling) -> Operations:
        requests = [RequestSampling(sampling) for sampling in samplings]
        rows = torch.tensor([request.row() for request in requests]).T
        with Operations() as noted:
            draw(logits, rows, requests)
        return noted

    greedy = Sampling(temperature=0)
    assert operations(greedy, greedy, greedy).sorted == []
    among_few = operations(greedy, few, few)
    assert among_few.sorted == [CANDIDATES] and among_few.waits == []
    assert operations(greedy, few, wide).sorted == [CANDIDATES, CANDIDATES, 4096], "one alone, after a first look"


def test_a_draw_is_the_same_whatever_else_is_in_the_batch() -> None:
    few, wide = Sampling(temperature=2, top_k=20, seed=1), Sampling(temperature=2, top_p=1, seed=1)
    logits = torch.randn(3, 4096, generator=torch.Generator().manual_seed(2))
    requests = [RequestSampling(sampling) for sampling in (few, wide, Sampling(temperature=0))]
    rows = torch.tensor([request.row() for request in requests]).T
    together = draw(logits, rows, requests).tolist()
    each = [int(draw(logits[[n]], rows[:, [n]], [request])) for n, request in enumerate(requests)]
    assert together == each
