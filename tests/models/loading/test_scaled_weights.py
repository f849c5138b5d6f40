"""FP8 and INT8 checkpoints: read as the full weights, in whatever number format the model is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.models.catalog import known_models
from app.models.loading.checkpoint import Weight, is_scaled
from app.models.loading.loader import load
from app.models.loading.scaled_weights import unscaled
from bench.tiny_checkpoints import save_tiny

FINE_GRAINED: dict[str, Any] = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def of_compressed_tensors(form: str = "float-quantized", **weights: object) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": {"weights": {"num_bits": 8, "symmetric": True, **weights}}},
    }


def kept(tensor: torch.Tensor) -> Weight:
    return Weight(lambda: tensor, tuple(tensor.shape), "F8_E4M3")


@pytest.mark.parametrize(
    ("about", "name", "scale"),
    [
        (FINE_GRAINED, "weight_scale_inv", torch.rand(3, 2) + 0.5),  # of blocks, the last ones smaller
        (of_compressed_tensors(), "weight_scale", torch.rand(300, 1) + 0.5),  # of each output
        (of_compressed_tensors(), "weight_scale", torch.tensor([0.5])),
        (of_compressed_tensors("int-quantized", strategy="group"), "weight_scale", torch.rand(300, 4) + 0.5),
        (of_compressed_tensors(block_structure=[128, 128]), "weight_scale", torch.rand(3, 2) + 0.5),
    ],
)
def test_each_number_is_multiplied_by_its_scale(about: dict[str, Any], name: str, scale: torch.Tensor) -> None:
    assert is_scaled(about)
    packed = torch.randn(300, 200).to(torch.float8_e4m3fn)
    found = unscaled({"a.weight": kept(packed), f"a.{name}": kept(scale), "a.input_scale": kept(scale)}, about)
    weight = found["a.weight"][...]
    assert set(found) == {"a.weight"} and weight.shape == (300, 200)
    for row, column in ((0, 0), (127, 127), (128, 128), (299, 199)):
        if scale.numel() == 1:
            factor = scale[0]
        elif scale.shape == (3, 2):
            factor = scale[row // 128, column // 128]
        else:
            factor = scale[row, column // (200 // scale.shape[1])]
        assert weight[row, column] == packed[row, column].float() * factor


@pytest.mark.parametrize(
    "about", [of_compressed_tensors("pack-quantized", num_bits=4), of_compressed_tensors(symmetric=False), {}]
)
def test_other_packings_are_none_of_these(about: dict[str, Any]) -> None:
    assert not is_scaled(about)


def test_an_fp8_checkpoint_answers_as_its_full_weights_do(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    full = dict(tensors)
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = tensors[name].abs().max() / 448
        tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale.view(1, 1)
        full[name] = tensors[name].float() * scale
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": FINE_GRAINED}))
    loaded = load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
    assert all(torch.equal(loaded.model.state_dict()[name], weight) for name, weight in full.items())
