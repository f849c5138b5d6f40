"""Compiled kernels give what torch gives, alone and in a team of threads."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from app.models.engine.fused.kernels import (
    GateArguments,
    NormArguments,
    RotaryArguments,
    add_and_norm,
    gate,
    rotate_and_store,
)
from app.models.engine.fused.low_rank import LayerAdapters, Scratch
from app.models.engine.fused.paged_attention import TokenAttention
from app.models.engine.lora_files import LowRank
from app.models.engine.lora_stacks import Stack, Use, adapted
from app.openmp_threads import give_back, set_threads

TEAMS = (1, 3)


@pytest.fixture(params=TEAMS, autouse=True)
def team(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.manual_seed(0)
    set_threads(request.param)
    yield request.param
    set_threads(before)
    give_back()


def halves(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).bfloat16()


@pytest.mark.parametrize("rows", [1, 2, 37])
@pytest.mark.parametrize("adds", [True, False])
def test_norm_is_that_of_transformers_to_the_bit(team: int, rows: int, adds: bool) -> None:
    norm = LlamaRMSNorm(48, eps=1e-5).bfloat16()
    norm.weight.data = halves(48)
    hidden, added, output = halves(rows, 48), halves(rows, 48), halves(rows, 48)
    summed = hidden + added if adds else hidden.clone()
    with torch.inference_mode():
        expected = norm(summed)
    addresses = hidden.data_ptr(), added.data_ptr() if adds else 0, norm.weight.data_ptr(), output.data_ptr()
    add_and_norm(NormArguments(rows, 48, *addresses, 1e-5), team > 1)
    assert torch.equal(hidden, summed)
    assert torch.allclose(output.float(), expected.float(), rtol=1e-2)
    assert (output != expected).float().mean() < 0.01, "but for the order of a sum"


@pytest.mark.parametrize("rows", [1, 5])
def test_gates_are_those_of_transformers_to_the_bit(team: int, rows: int) -> None:
    states, output = 30 * halves(rows, 2 * 80), halves(rows, 80)
    gate(GateArguments(rows, 80, states.data_ptr(), output.data_ptr()), team > 1)
    assert torch.equal(output, silu(states[:, :80]) * states[:, 80:])


@pytest.mark.parametrize("normed", [False, True])
def test_heads_are_turned_as_by_transformers_and_stored(team: int, normed: bool) -> None:
    rows, heads, key_heads, width = 7, 6, 2, 32
    states = halves(rows, heads + 2 * key_heads, width)
    angles = torch.rand(rows, width // 2).repeat(1, 2) * 50
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    norms = [LlamaRMSNorm(width, eps=1e-6).bfloat16() for _ in range(2)]
    for norm in norms:
        norm.weight.data = halves(width)
    places = torch.tensor([3, 1, 20, 0, 4, 19, 7])
    keys, values = torch.zeros(21, key_heads, width).bfloat16(), torch.zeros(21, key_heads, width).bfloat16()
    queries, given, kept = states.clone().split([heads, key_heads, key_heads], 1)
    with torch.inference_mode():
        if normed:
            queries, given = norms[0](queries), norms[1](given)
        turned = apply_rotary_pos_emb(queries, given, cos, sin)
    addresses = [tensor.data_ptr() for tensor in (states, cos, sin, places, keys, values)]
    scales = [norm.weight.data_ptr() if normed else 0 for norm in norms]
    rotate_and_store(RotaryArguments(rows, heads, key_heads, width, *addresses, *scales, 1e-6), team > 1)
    for found, expected in ((states[:, :heads], turned[0]), (keys[places], turned[1])):
        assert torch.allclose(found.float(), expected.float(), atol=0.05) if normed else torch.equal(found, expected)
    assert torch.equal(values[places], kept)
    assert keys[[2, 5, 18]].abs().sum() == 0


@pytest.mark.parametrize(("heads", "key_heads", "width"), [(9, 3, 64), (4, 4, 16), (8, 1, 80)])
def test_each_token_attends_to_the_pages_of_its_request(heads: int, key_heads: int, width: int) -> None:
    page, lengths = 8, [1, 7, 8, 9, 16, 61]
    keys, values = halves(40, page, key_heads, width), halves(40, page, key_heads, width)
    pages = [torch.randperm(40)[: -(-length // page)].tolist() for length in lengths]
    queries, output = (
        halves(len(lengths) + 1, heads, width),
        torch.full((len(lengths) + 1, heads, width), 7.0).bfloat16(),
    )
    reads = TokenAttention(list(range(1, len(lengths) + 1)), pages, lengths)
    reads.attend(queries, keys, values, output, 0.3)
    assert bool((output[0] == 7).all()), "a token that is not among them"
    for number, (own, length) in enumerate(zip(pages, lengths, strict=True), 1):
        read = [pool[own].flatten(0, 1)[:length].transpose(0, 1).float() for pool in (keys, values)]
        shared = [states.repeat_interleave(heads // key_heads, 0) for states in read]
        expected = scaled_dot_product_attention(queries[number, :, None].float(), *shared, scale=0.3)[:, 0]
        assert torch.allclose(output[number].float(), expected, atol=0.02), number


def test_adapters_add_to_their_own_tokens_what_torch_adds() -> None:
    pairs = [LowRank(halves(rank, 32), halves(48, rank)) for rank in (4, 16)]
    stack = Stack.single(1, pairs[0]).joined(2, pairs[1])
    rows = [(2, 3), (0, 2), (1, 1), (2, 40)]
    use = Use.of(stack, rows, 46)
    x, wide = halves(46, 32), halves(46, 100)
    before = wide.clone()
    with torch.inference_mode():
        expected = adapted(stack, use, x, before[:, 16:64], None)
    LayerAdapters(stack).add(stack, use, torch.nn.Linear(32, 48), x, wide, 16, Scratch())
    assert torch.allclose(wide[:, 16:64].float(), expected.float(), rtol=0.02, atol=0.3)
    assert torch.equal(wide[3:5], before[3:5]), "the base's tokens"
    assert torch.equal(wide[:, :16], before[:, :16]) and torch.equal(wide[:, 64:], before[:, 64:])
