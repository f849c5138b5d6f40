"""AWQ and GPTQ checkpoints, packed here number by number, give the logits of the weights that they stand for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import InternLM3Config, LlamaForCausalLM

from app.models.catalog import known_models
from app.models.loading.awq_gptq import packing_of
from app.models.loading.errors import UnknownQuantisation
from app.models.loading.loader import load
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.loading import original_internlm as original

GROUP = 16
IDS = torch.tensor([[1, 5, 9, 300, 7]])


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = InternLM3Config(
        vocab_size=520,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval()


def put(packed: list[list[int]], row: int, column: int, shift: int, number: int) -> None:
    packed[row][column] |= number << shift


def as_int32(packed: list[list[int]]) -> torch.Tensor:
    return torch.tensor([[n - 2**32 if n >= 2**31 else n for n in row] for row in packed], dtype=torch.int32)


def pack(weight: torch.Tensor, kind: str, bits: int, groups: list[int], offset: int) -> dict[str, torch.Tensor]:
    """One linear layer as its library writes it; `weight` becomes what was kept of it."""
    outputs, inputs = weight.shape
    each, top, many = 32 // bits, 2**bits - 1, max(groups) + 1
    scales = torch.rand(many, outputs) * 0.02 + 0.01
    zeros = torch.randint(1, top, (many, outputs))
    numbers = torch.randint(0, top + 1, (inputs, outputs))
    for i in range(inputs):
        weight[:, i] = (numbers[i] - zeros[groups[i]]) * scales[groups[i]]
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # AWQ: place i holds column order[i]
    by_rows = kind == "gptq"
    packed = [[0] * (outputs if by_rows else outputs // each) for _ in range(inputs // each if by_rows else inputs)]
    packed_zeros = [[0] * (outputs // each) for _ in range(many)]
    for i in range(inputs):
        for o in range(outputs):
            number = int(numbers[i, o])
            if by_rows:
                put(packed, i // each, o, bits * (i % each), number)
            else:
                put(packed, i, o // each, bits * order.index(o % each), number)
    for g in range(many):
        for o in range(outputs):
            place = o % each if by_rows else order.index(o % each)
            put(packed_zeros, g, o // each, bits * place, int(zeros[g, o]) - offset)
    found = {"qweight": as_int32(packed), "qzeros": as_int32(packed_zeros), "scales": scales}
    return found | ({"g_idx": torch.tensor(groups, dtype=torch.int32)} if by_rows else {})


def write(folder: Path, model: LlamaForCausalLM, about: dict[str, Any], bits: int, shuffled: bool, offset: int) -> None:
    """A checkpoint with packed layers; the model is left with the weights that it stands for."""
    kind, tensors = about["quant_method"], {}
    for name, weight in model.state_dict().items():
        if name.endswith("_proj.weight"):
            groups = [i // GROUP for i in range(weight.shape[1])]
            groups = groups[::-1] if shuffled else groups
            for part, tensor in pack(weight, kind, bits, groups, offset).items():
                tensors[f"{name.removesuffix('.weight')}.{part}"] = tensor
        else:
            tensors[name] = weight.clone()
    original.write_internlm2_tokenizer(folder)
    save_file(tensors, folder / "model.safetensors")
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": about}))


@pytest.mark.parametrize(
    ("about", "bits", "shuffled", "offset"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}, 4, False, 0),
        ({"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True}, 4, True, 1),
        ({"quant_method": "gptq", "bits": 8, "group_size": GROUP, "checkpoint_format": "gptq_v2"}, 8, False, 0),
    ],
    ids=["awq", "gptq", "gptq-v2-8bit"],
)
def test_packed_weights_are_the_ones_they_stand_for(
    tmp_path: Path, model: LlamaForCausalLM, about: dict[str, Any], bits: int, shuffled: bool, offset: int
) -> None:
    write(tmp_path, model, about, bits, shuffled, offset)
    card = known_models.find(str(tmp_path))
    assert card.parameters == sum(weight.numel() for weight in model.state_dict().values())
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, tmp_path), str(tmp_path))
    assert registry.fit(str(tmp_path)).unpacks and not registry.fit(f"{tmp_path}:4bit").unpacks
    loaded = load(tmp_path, card, "cpu", "float32", None, lambda *_: None)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(IDS).logits, model(IDS).logits, atol=1e-4, rtol=1e-4)


def test_other_widths_are_refused_and_other_methods_left_to_their_library() -> None:
    with pytest.raises(UnknownQuantisation, match="gptq 3 bits"):
        packing_of({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "x")
    with pytest.raises(UnknownQuantisation, match="marlin"):
        packing_of({"quantization_config": {"quant_method": "awq", "bits": 4, "version": "marlin"}}, "x")
    assert packing_of({"quantization_config": {"quant_method": "bitsandbytes"}}, "x") is None
    assert packing_of({}, "x") is None
