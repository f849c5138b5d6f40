"""Convert InternLM 1, 2 and 2.5 checkpoints and adapters to Llama: configs, weight names, fused projections."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import Tensor
from transformers import LlamaConfig

from app.errors import NotAModel
from app.models.loading.checkpoint import Weight

KINDS = ("internlm", "internlm2")
FUSED = ".attention.wqkv"

_INTERNLM2_NAMES = (
    (re.compile(r"^model\.tok_embeddings\."), "model.embed_tokens."),
    (re.compile(r"^output\."), "lm_head."),
    (re.compile(r"\.attention\.wo\."), ".self_attn.o_proj."),
    (re.compile(r"\.feed_forward\.w1\."), ".mlp.gate_proj."),
    (re.compile(r"\.feed_forward\.w3\."), ".mlp.up_proj."),
    (re.compile(r"\.feed_forward\.w2\."), ".mlp.down_proj."),
    (re.compile(r"\.attention_norm\."), ".input_layernorm."),
    (re.compile(r"\.ffn_norm\."), ".post_attention_layernorm."),
)
_SAME_NAME = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
)


class UnknownRope(NotAModel):
    zh = "模型 {name} 的位置编码 {kind} 不受支持。请换一个模型。"
    en = "The model {name} uses the position encoding {kind}, which is not supported. Choose another model."


def llama_config(raw: dict[str, Any], name: str) -> LlamaConfig:
    """The Llama config that computes what this InternLM config.json describes."""
    shared = {key: raw[key] for key in _SAME_NAME if key in raw}
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        attention_bias=bool(raw.get("bias", raw["model_type"] == "internlm")),
        mlp_bias=False,
        rope_parameters=_rope(raw, name),
        **shared,
    )


def llama_weights(raw: dict[str, Any], weights: dict[str, Weight]) -> dict[str, Weight]:
    """The same tensors under Llama's names, still unread; fused projections become three."""
    renamed: dict[str, Weight] = {}
    for key, weight in weights.items():
        if key.endswith("rotary_emb.inv_freq"):
            continue  # computed from the config
        if ".attention.wqkv." in key:
            for part, projection in enumerate(("q_proj", "k_proj", "v_proj")):
                split = _fused_part(raw, weight, part)
                renamed[key.replace(".attention.wqkv.", f".self_attn.{projection}.")] = split
        else:
            renamed[_renamed(key)] = weight
    return renamed


def is_original(modules: Iterable[str]) -> bool:
    """Whether some of these layers are named as the original InternLM2 code names them."""
    return any(module != _renamed(f"{module}.").removesuffix(".") or module.endswith(FUSED) for module in modules)


def llama_adapter(pairs: Mapping[str, Mapping[str, Tensor]], config: Any) -> dict[str, dict[str, Tensor]]:
    """LoRA pairs (`A` and `B` by layer) of an adapter that was trained on the original InternLM2 code, by Llama's
    names: what was added to a fused projection is added to its three parts."""
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    layout = (key_heads, heads // key_heads + 2, config.hidden_size // heads)
    renamed: dict[str, dict[str, Tensor]] = {}
    for module, pair in pairs.items():
        if module.endswith(FUSED):
            for part, projection in enumerate(("q_proj", "k_proj", "v_proj")):
                own = _split(pair["B"], layout, part)
                renamed[module.replace(FUSED, f".self_attn.{projection}")] = {"A": pair["A"], "B": own}
        else:
            renamed[_renamed(f"{module}.").removesuffix(".")] = dict(pair)
    return renamed


def _renamed(key: str) -> str:
    for pattern, replacement in _INTERNLM2_NAMES:
        key = pattern.sub(replacement, key)
    return key


def _rope(raw: dict[str, Any], name: str) -> dict[str, Any]:
    if raw["model_type"] == "internlm":
        # The first generation says it in `rotary`; "dynamic" there stretches with factor 1 unless told otherwise.
        rotary = raw.get("rotary") or {}
        theta, kind, factor = rotary.get("base", 10000), rotary.get("type", "origin"), rotary.get("scaling_factor", 1.0)
    else:
        scaling = raw.get("rope_scaling") or {}
        theta, kind, factor = raw.get("rope_theta", 10000), scaling.get("type", "origin"), scaling.get("factor", 1.0)
    if kind == "origin":
        return {"rope_type": "default", "rope_theta": float(theta)}
    if kind not in ("dynamic", "linear"):
        raise UnknownRope(name=name, kind=kind)
    return {"rope_type": kind, "rope_theta": float(theta), "factor": float(factor)}


def _fused_part(raw: dict[str, Any], fused: Weight, part: int) -> Weight:
    """Query, key or value (`part` 0, 1, 2) of a wqkv whose rows run: per key head its queries, the key, the value."""
    heads, key_heads = raw["num_attention_heads"], raw.get("num_key_value_heads") or raw["num_attention_heads"]
    group = heads // key_heads
    size = raw["hidden_size"] // heads
    rows = key_heads * size * (group if part == 0 else 1)
    take: Callable[[], Tensor] = partial(_take, fused, (key_heads, group + 2, size), part)
    return Weight(take, (rows, *fused.shape[1:]), fused.dtype)


def _take(fused: Weight, layout: tuple[int, int, int], part: int) -> Tensor:
    return _split(fused[...], layout, part)


def _split(whole: Tensor, layout: tuple[int, int, int], part: int) -> Tensor:
    """`layout` is (key heads, their queries and 2, head size)."""
    tail = whole.shape[1:]
    grouped = whole.view(*layout, *tail)
    taken = grouped[:, :-2] if part == 0 else grouped[:, part - 3]
    return taken.reshape(-1, *tail)
