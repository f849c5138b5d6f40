"""A LoRA adapter's folder as PEFT writes it: safetensors only, every tensor accounted for."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from app.errors import ModelError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_TENSOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
# What changes the arithmetic of a LoRA layer in a way that the bank does not compute.
_UNSUPPORTED = (
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
)


class AdapterError(ModelError):
    zh = "适配器 {name} 无法使用：{reason}"
    en = "The adapter {name} cannot be used: {reason}"


class PickledAdapter(AdapterError):
    zh = "适配器 {name} 只有 pickle 格式的权重（{reason}），它可能执行任意代码，已拒绝。请转换为 safetensors。"
    en = (
        "The adapter {name} holds pickled weights ({reason}), which may run any code, and was refused."
        " Convert it to safetensors."
    )


class AdapterForAnotherBase(AdapterError):
    zh = "适配器 {name} 是为另一个基座模型训练的：{reason}。请选择它对应的基座。"
    en = "The adapter {name} was trained for another base model: {reason}. Choose the base it belongs to."


class AdapterBroken(AdapterError):
    zh = "适配器 {name} 的文件不完整或已损坏：{reason}。请重新训练、转换或下载。"
    en = "The adapter {name} is incomplete or damaged: {reason}. Train, convert or download it again."


@dataclass(frozen=True)
class LowRank:
    """One layer's pair: `lora_a` [rank, in], `lora_b` [out, rank] with the scale multiplied in."""

    lora_a: torch.Tensor
    lora_b: torch.Tensor


@dataclass(frozen=True)
class AdapterWeights:
    """One adapter, checked against its base: layer name -> its pair."""

    sha256: str
    file_bytes: int
    layers: Mapping[str, LowRank]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_adapter(name: str, folder: Path, linears: Mapping[str, nn.Linear]) -> AdapterWeights:
    """The adapter in `folder`, for a model with these linear layers, on their devices and in their types."""
    config = _read_config(name, folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise PickledAdapter(name=name, reason=", ".join(pickles))
        raise AdapterBroken(name=name, reason=f"{WEIGHTS} is missing")
    try:
        with safe_open(weights, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise AdapterBroken(name=name, reason=str(error)) from error
    layers = {module: _layer(name, module, pair, linears, config) for module, pair in _pairs(name, tensors).items()}
    return AdapterWeights(sha256_of(weights), weights.stat().st_size, layers)


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterBroken(name=name, reason=f"{CONFIG}: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError(name=name, reason="only LoRA adapters are supported")
    unsupported = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        unsupported.append("bias")
    if unsupported:
        raise AdapterError(name=name, reason=f"not supported: {', '.join(unsupported)}")
    return config


def _pairs(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _TENSOR.match(key)
        if match is None:
            raise AdapterError(name=name, reason=f"not supported: tensor {key}")
        pairs.setdefault(match["module"], {})[match["side"]] = tensor
    halves = [module for module, pair in pairs.items() if len(pair) != 2]
    if halves or not pairs:
        raise AdapterBroken(name=name, reason=f"half a layer: {halves[0]}" if halves else "no tensors")
    return pairs


def _layer(
    name: str,
    module: str,
    pair: Mapping[str, torch.Tensor],
    linears: Mapping[str, nn.Linear],
    config: Mapping[str, Any],
) -> LowRank:
    base = linears.get(module)
    if base is None:
        raise AdapterForAnotherBase(name=name, reason=f"this base has no layer {module}")
    lora_a, lora_b = pair["A"], pair["B"]
    fits = lora_a.ndim == lora_b.ndim == 2 and lora_a.shape[0] == lora_b.shape[1]
    if not fits or (lora_a.shape[1], lora_b.shape[0]) != (base.in_features, base.out_features):
        here, there = f"{base.in_features} to {base.out_features}", f"{lora_a.shape[-1]} to {lora_b.shape[0]}"
        raise AdapterForAnotherBase(name=name, reason=f"{module} is {here} here, not {there}")
    if not (torch.isfinite(lora_a).all() and torch.isfinite(lora_b).all()):
        raise AdapterBroken(name=name, reason=f"{module} holds values that are not numbers")
    # A quantised layer stores bytes; its activations have the type that the norms around it keep.
    dtype = base.weight.dtype if base.weight.is_floating_point() else getattr(base, "compute_dtype", torch.bfloat16)
    scaled = lora_b.float() * _scale(module, lora_a.shape[0], config)
    device = base.weight.device
    return LowRank(lora_a.to(device, dtype).contiguous(), scaled.to(device, dtype).contiguous())


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    alpha = float(config.get("lora_alpha", rank))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
