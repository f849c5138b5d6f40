"""LoRA adapter files as PEFT writes them: safetensors only, every tensor accounted for, scales multiplied in."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from app.errors import ModelError
from app.models.loading.internlm import is_original, llama_adapter
from app.models.loading.packed_linear import dense_weight, device_of

CONFIG = "adapter_config.json"
USUAL = 8  # PEFT's rank and alpha where a config names none
WEIGHTS = "adapter_model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_TENSOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
_MAGNITUDE = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_magnitude_vector(?:\.default)?(?:\.weight)?$")
Pairs = dict[str, dict[str, torch.Tensor]]  # A and B by layer
# What changes the arithmetic of a LoRA layer in a way that the bank does not compute.
_UNSUPPORTED = (
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)


# Ways to start that subtract from the base what the adapter begins with.
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class AdapterError(ModelError):
    zh = "适配器 {name} 无法使用：{reason}"
    en = "The adapter {name} cannot be used: {reason}"


class AdapterNotSupported(AdapterError):
    zh = "适配器 {name} 用到了本程序不支持的内容：{what}。请用普通的 LoRA 重新训练，或先把它合并进基座模型。"
    en = (
        "The adapter {name} has what is not supported here: {what}. Train it as plain LoRA, or merge it into its base"
        " model first."
    )


class AdapterGone(AdapterError):
    zh = "适配器 {name} 已被删除或替换，本次回答没有生成。请重新选择模型。"
    en = "The adapter {name} was removed or replaced, so nothing was answered. Choose a model again."


class PickledAdapter(AdapterError):
    zh = "适配器 {name} 只有 pickle 格式的权重（{reason}），它可能执行任意代码，已拒绝。请转换为 safetensors。"
    en = (
        "The adapter {name} holds pickled weights ({reason}), which may run any code, and was refused."
        " Convert it to safetensors."
    )


class AdapterForAnotherBase(AdapterError):
    zh = "适配器 {name} 是为另一个基座模型训练的：这个基座里没有相同的 {reason}。请选择它对应的基座。"
    en = "The adapter {name} was trained for another base model: this one has no {reason}. Choose its own base."


class AdapterBroken(AdapterError):
    zh = "适配器 {name} 不完整或已损坏（{reason}）。请重新训练、转换或下载。"
    en = "The adapter {name} is incomplete or damaged ({reason}). Train, convert or download it again."


class AdapterNameTaken(AdapterError):
    zh = "名为 {name} 的适配器已经加载。请换一个名字。"
    en = "An adapter named {name} is loaded already. Choose another name."


@dataclass(frozen=True)
class LowRank:
    """One layer's pair: `lora_a` [rank, in], `lora_b` [out, rank] with the scale multiplied in.

    `gain` [out] is there with DoRA: what each output is multiplied with, less one.
    """

    lora_a: torch.Tensor
    lora_b: torch.Tensor
    gain: torch.Tensor | None = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [tensor for tensor in (self.lora_a, self.lora_b, self.gain) if tensor is not None]


@dataclass(frozen=True)
class AdapterWeights:
    """One adapter, checked against its base: layer name -> its pair."""

    sha256: str
    file_bytes: int
    layers: Mapping[str, LowRank]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_adapter(name: str, folder: Path, linears: Mapping[str, nn.Linear], base_config: Any = None) -> AdapterWeights:
    """The adapter in `folder`, for a model with these linear layers, on their devices and in their types.

    `base_config` tells how InternLM2's fused projections are split.
    """
    config = _read_config(name, folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise PickledAdapter(name=name, reason=", ".join(pickles))
        raise AdapterBroken(name=name, reason=WEIGHTS)
    try:
        with safe_open(weights, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise AdapterBroken(name=name, reason=WEIGHTS) from error
    magnitudes = {found["module"]: tensors.pop(key) for key in list(tensors) if (found := _MAGNITUDE.match(key))}
    pairs = _scaled(name, _pairs(name, tensors, linears), config)
    if is_original(module for module in pairs if module not in linears):
        pairs = llama_adapter(pairs, base_config)
    layers = {module: _layer(name, module, pair, linears) for module, pair in pairs.items()}
    if config.get("use_dora") or magnitudes:
        layers = _with_gains(name, layers, magnitudes, linears)
    return AdapterWeights(sha256_of(weights), weights.stat().st_size, layers)


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterBroken(name=name, reason=CONFIG) from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else CONFIG
        raise AdapterNotSupported(name=name, what=f"peft_type={kind}")
    unsupported = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        unsupported.append("bias")
    start = str(config.get("init_lora_weights", True))
    if start.startswith(_CHANGE_THE_BASE):  # its matrices belong to a base from which their start was taken away
        unsupported.append(f"init_lora_weights={start}")
    if unsupported:
        raise AdapterNotSupported(name=name, what=", ".join(unsupported))
    return config


def _pairs(name: str, tensors: Mapping[str, torch.Tensor], linears: Mapping[str, nn.Linear]) -> Pairs:
    pairs: Pairs = {}
    for key, tensor in tensors.items():
        match = _TENSOR.match(key)
        if match is not None:
            pairs.setdefault(match["module"], {})[match["side"]] = tensor
        elif not _is_base_weight(key, tensor, linears):
            raise AdapterNotSupported(name=name, what=key.removeprefix("base_model.model."))
    halves = [module for module, pair in pairs.items() if len(pair) != 2]
    if halves or not pairs:
        raise AdapterBroken(name=name, reason=halves[0] if halves else WEIGHTS)
    return pairs


def _is_base_weight(key: str, tensor: torch.Tensor, linears: Mapping[str, nn.Linear]) -> bool:
    """Whether it is only a copy of the base's own weight, which PEFT adds for an output layer."""
    module = key.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".base_layer")
    base = linears.get(module)
    if base is None or base.weight.shape != tensor.shape or not base.weight.is_floating_point():
        return False
    here = dense_weight(base).to("cpu", torch.float32)
    return torch.allclose(here, tensor.float(), rtol=1e-2, atol=1e-3)  # saved in another number format, perhaps


def _layer(
    name: str,
    module: str,
    pair: Mapping[str, torch.Tensor],
    linears: Mapping[str, nn.Linear],
) -> LowRank:
    base = linears.get(module)
    if base is None:
        raise AdapterForAnotherBase(name=name, reason=module)
    lora_a, lora_b = pair["A"], pair["B"]
    fits = lora_a.ndim == lora_b.ndim == 2 and lora_a.shape[0] == lora_b.shape[1]
    if not fits or (lora_a.shape[1], lora_b.shape[0]) != (base.in_features, base.out_features):
        raise AdapterForAnotherBase(name=name, reason=f"{module} {lora_a.shape[-1]}→{lora_b.shape[0]}")
    if not (torch.isfinite(lora_a).all() and torch.isfinite(lora_b).all()):
        raise AdapterBroken(name=name, reason=f"{module}: NaN")
    # A quantised layer stores bytes; its activations have the type that the norms around it keep.
    dtype = base.weight.dtype if base.weight.is_floating_point() else getattr(base, "compute_dtype", torch.bfloat16)
    device = device_of(base)
    return LowRank(lora_a.to(device, dtype).contiguous(), lora_b.to(device, dtype).contiguous())


def _with_gains(
    name: str, layers: Mapping[str, LowRank], magnitudes: Mapping[str, torch.Tensor], linears: Mapping[str, nn.Linear]
) -> dict[str, LowRank]:
    """DoRA: each output of the adapted weight has a length of its own."""
    if missing := layers.keys() ^ magnitudes.keys():
        raise AdapterNotSupported(name=name, what=f"DoRA {sorted(missing)[0]}")
    made = {}
    for module, pair in layers.items():
        if not linears[module].weight.is_floating_point():  # its length is that of the full weight
            raise AdapterNotSupported(name=name, what="DoRA 4bit/8bit")
        adapted = dense_weight(linears[module]).float() + pair.lora_b.float() @ pair.lora_a.float()
        gain = magnitudes[module].flatten().to(adapted) / torch.linalg.norm(adapted, dim=1) - 1
        made[module] = replace(pair, gain=gain.to(pair.lora_b.dtype))
    return made


def _scaled(name: str, pairs: Mapping[str, Mapping[str, torch.Tensor]], config: Mapping[str, Any]) -> Pairs:
    """The pairs with their scales multiplied in, by the names that the config's patterns know. Raises AdapterBroken."""
    made = {}
    for module, pair in pairs.items():
        rank = pair["A"].shape[0] if pair["A"].ndim == 2 else 0
        if rank != (told := _by_pattern(name, config, "rank_pattern", "r", module)):
            raise AdapterBroken(name=name, reason=f"{module}: r={told:g}, {rank}")
        alpha = _by_pattern(name, config, "alpha_pattern", "lora_alpha", module)
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        made[module] = {"A": pair["A"], "B": pair["B"].float() * scale}
    return made


def _by_pattern(name: str, config: Mapping[str, Any], patterns: str, usual: str, module: str) -> float:
    """What a config says of a layer, as PEFT reads it. Raises AdapterBroken."""
    try:
        known = (config.get(patterns) or {}).items()
        value = next((value for key, value in known if re.match(rf"(.*\.)?({key})$", module)), config.get(usual, USUAL))
    except (AttributeError, re.error) as error:
        raise AdapterBroken(name=name, reason=f"{CONFIG}: {patterns}") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterBroken(name=name, reason=f"{CONFIG}: {usual}")
    return value
