"""Each request is drawn by its own temperature, top-k, top-p and seed."""

import pytest
import torch

from app.models.engine.sampler import RequestSampling, draw
from app.models.interface import Sampling

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def drawn(sampling: Sampling, times: int, logits: torch.Tensor = LOGITS) -> list[int]:
    request = RequestSampling(sampling)
    rows = torch.tensor([request.row() for _ in range(times)]).T
    return draw(logits.repeat(times, 1), rows).tolist()


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


def test_zero_temperature_is_greedy_beside_requests_that_draw() -> None:
    greedy, free = RequestSampling(Sampling(temperature=0)), RequestSampling(Sampling(temperature=5, top_p=1, seed=3))
    rows = torch.tensor([row for _ in range(200) for row in (greedy.row(), free.row())]).T
    tokens = draw(LOGITS.repeat(400, 1), rows)
    assert set(tokens[::2].tolist()) == {0}
    assert set(tokens[1::2].tolist()) == {0, 1, 2, 3}


def test_a_seed_repeats_and_another_differs() -> None:
    once = drawn(Sampling(temperature=1, top_p=1, seed=5), 100)
    assert once == drawn(Sampling(temperature=1, top_p=1, seed=5), 100)
    assert once != drawn(Sampling(temperature=1, top_p=1, seed=6), 100)
