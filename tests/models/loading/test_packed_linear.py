"""Packed linear layers: equal to the bit, given back whole, and none where a model reads its weights by itself."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from app.models.loading.packed_linear import PackedLinear, dense_weight, pack, unpack

SIZES = {"vocab_size": 70, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "head_dim": 6}


def llama(tied: bool = True, dtype: torch.dtype = torch.bfloat16) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2, attention_bias=True)
    config.tie_word_embeddings = tied
    return LlamaForCausalLM(config).to(dtype).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_packed_model_answers_to_the_bit_and_can_be_unpacked(tied: bool) -> None:
    model = llama(tied)
    ids = torch.randint(0, 70, (1, 33), generator=torch.Generator().manual_seed(1))
    head = model.lm_head.weight.detach().clone()
    with torch.inference_mode():
        plain = model(ids).logits
        pack(model)
        assert {type(module) for module in model.modules() if isinstance(module, nn.Linear)} == {PackedLinear}
        assert torch.equal(model(ids).logits, plain)
    assert torch.equal(dense_weight(model.lm_head), head)
    unpack(model)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, plain)


def test_a_model_that_reads_weights_by_itself_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    mlp: Any = model.model.layers[0].mlp
    monkeypatch.setattr(mlp, "forward", lambda x: mlp.down_proj(nn.functional.linear(x, mlp.up_proj.weight)))
    ids = torch.arange(7)[None]
    with torch.inference_mode():
        plain = model(ids).logits
        pack(model)
        assert torch.equal(model(ids).logits, plain)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())


def test_other_number_formats_are_left_alone() -> None:
    model = llama(dtype=torch.float32)
    pack(model)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
