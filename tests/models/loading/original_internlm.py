"""InternLM written down from its published description, in plain torch, and tiny checkpoints in its own layout.

Deliberately shares nothing with the application: activations are grouped here, where the application regroups weights.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHARED = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
SPECIAL = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")


def internlm2_config(vocabulary: int, **changes: Any) -> dict[str, Any]:
    published = {
        "model_type": "internlm2",
        "auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
        "bias": False,
        "max_position_embeddings": 64,
        "num_key_value_heads": 2,
        "rope_theta": 1000000,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "tie_word_embeddings": False,
    }
    return {**SHARED, **SMALL, **published, "vocab_size": vocabulary, **changes}


def internlm_config(vocabulary: int, **changes: Any) -> dict[str, Any]:
    published = {
        "model_type": "internlm",
        "auto_map": {"AutoModelForCausalLM": "modeling_internlm.InternLMForCausalLM"},
        "bias": True,
        "max_position_embeddings": 64,
        "rotary": {"base": 10000, "type": "dynamic"},
        "tie_word_embeddings": False,
    }
    return {**SHARED, **SMALL, **published, "vocab_size": vocabulary, **changes}


def random_weights(config: dict[str, Any], seed: int = 0) -> Weights:
    make = internlm2_weights if config["model_type"] == "internlm2" else internlm_weights
    generator = torch.Generator().manual_seed(seed)
    shapes = make(config)
    weights = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        weights[key] = 1 + 0.2 * noise if "norm" in key else 0.2 * noise
    return weights


def internlm2_weights(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    size = width // config["num_attention_heads"]
    fused = size * (config["num_attention_heads"] + 2 * config["num_key_value_heads"])
    shapes: dict[str, tuple[int, ...]] = {"model.tok_embeddings.weight": (vocabulary, width)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}attention.wqkv.weight": (fused, width), f"{at}attention.wo.weight": (width, width)}
        if config["bias"]:
            shapes |= {f"{at}attention.wqkv.bias": (fused,), f"{at}attention.wo.bias": (width,)}
        shapes |= {f"{at}feed_forward.w1.weight": (inner, width), f"{at}feed_forward.w3.weight": (inner, width)}
        shapes |= {f"{at}feed_forward.w2.weight": (width, inner)}
        shapes |= {f"{at}attention_norm.weight": (width,), f"{at}ffn_norm.weight": (width,)}
    return shapes | {"model.norm.weight": (width,), "output.weight": (vocabulary, width)}


def internlm_weights(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{at}self_attn.{name}.weight"] = (width, width)
            if config["bias"]:
                shapes[f"{at}self_attn.{name}.bias"] = (width,)
        shapes[f"{at}self_attn.rotary_emb.inv_freq"] = (width // config["num_attention_heads"] // 2,)
        shapes |= {f"{at}mlp.gate_proj.weight": (inner, width), f"{at}mlp.up_proj.weight": (inner, width)}
        shapes |= {f"{at}mlp.down_proj.weight": (width, inner)}
        shapes |= {f"{at}input_layernorm.weight": (width,), f"{at}post_attention_layernorm.weight": (width,)}
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def logits(config: dict[str, Any], weights: Weights, ids: Sequence[int]) -> torch.Tensor:
    """What the published model says after each of `ids`."""
    first = config["model_type"] == "internlm"
    names = FIRST_NAMES if first else SECOND_NAMES
    x = weights[names["embed"]][list(ids)]
    for layer in range(config["num_hidden_layers"]):
        mine = {key.removeprefix(f"model.layers.{layer}."): value for key, value in weights.items()}
        normed = rms(x, mine[names["before_attention"]], config["rms_norm_eps"])
        x = x + (first_attention if first else second_attention)(config, mine, normed)
        normed = rms(x, mine[names["before_mlp"]], config["rms_norm_eps"])
        gate = torch.nn.functional.silu(normed @ mine[names["gate"]].T)
        x = x + (gate * (normed @ mine[names["up"]].T)) @ mine[names["down"]].T
    return rms(x, weights["model.norm.weight"], config["rms_norm_eps"]) @ weights[names["head"]].T


FIRST_NAMES = {
    "embed": "model.embed_tokens.weight",
    "before_attention": "input_layernorm.weight",
    "before_mlp": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
    "head": "lm_head.weight",
}
SECOND_NAMES = {
    "embed": "model.tok_embeddings.weight",
    "before_attention": "attention_norm.weight",
    "before_mlp": "ffn_norm.weight",
    "gate": "feed_forward.w1.weight",
    "up": "feed_forward.w3.weight",
    "down": "feed_forward.w2.weight",
    "head": "output.weight",
}


def rms(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + epsilon)


def first_attention(config: dict[str, Any], mine: Weights, x: torch.Tensor) -> torch.Tensor:
    heads = config["num_attention_heads"]
    parts = []
    for name in ("q_proj", "k_proj", "v_proj"):
        out = x @ mine[f"self_attn.{name}.weight"].T + mine.get(f"self_attn.{name}.bias", torch.zeros(()))
        parts.append(out.view(len(x), heads, -1))
    rotary = config["rotary"]
    base, factor = rotary["base"], rotary.get("scaling_factor", 1.0) if rotary["type"] == "dynamic" else None
    mixed = attend(config, parts, base, factor)
    return mixed @ mine["self_attn.o_proj.weight"].T + mine.get("self_attn.o_proj.bias", torch.zeros(()))


def second_attention(config: dict[str, Any], mine: Weights, x: torch.Tensor) -> torch.Tensor:
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    fused = x @ mine["attention.wqkv.weight"].T + mine.get("attention.wqkv.bias", torch.zeros(()))
    grouped = fused.view(len(x), key_heads, heads // key_heads + 2, -1)
    query = grouped[:, :, :-2].reshape(len(x), heads, -1)
    key = grouped[:, :, -2].repeat_interleave(heads // key_heads, 1)
    value = grouped[:, :, -1].repeat_interleave(heads // key_heads, 1)
    scaling = config["rope_scaling"]
    mixed = attend(config, [query, key, value], config["rope_theta"], scaling["factor"] if scaling else None)
    return mixed @ mine["attention.wo.weight"].T + mine.get("attention.wo.bias", torch.zeros(()))


def attend(config: dict[str, Any], parts: list[torch.Tensor], base: float, factor: float | None) -> torch.Tensor:
    query, key, value = parts
    length, heads, size = query.shape
    if factor is not None and length > config["max_position_embeddings"]:
        stretch = factor * length / config["max_position_embeddings"] - (factor - 1)
        base = base * stretch ** (size / (size - 2))
    angles = torch.arange(length)[:, None] * base ** (-torch.arange(0, size, 2) / size)
    rotation = torch.polar(torch.ones_like(angles), angles)[:, None]

    def turn(x: torch.Tensor) -> torch.Tensor:
        turned = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * rotation
        return torch.cat([turned.real, turned.imag], -1)

    scores = torch.einsum("qhd,khd->hqk", turn(query), turn(key)) / size**0.5
    future = torch.ones(length, length).triu(1).bool()
    weights = scores.masked_fill(future, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value).reshape(length, heads * size)


def train_sentencepiece(file: Path, *, symbols: Sequence[str], dummy_prefix: bool) -> None:
    """A small BPE model over Chinese and English, with the settings InternLM's have."""
    chinese = ["浦语", "书生", "模型", "你好", "世界", "上海", "人工智能", "实验室"]
    words = [*chinese, *["hello", "world", "model", "the", "of", "and", "language", "2024", "code", "print(", ")"]]
    choose = random.Random(0)
    lines = [" ".join(choose.choices(words, k=8)) + choose.choice("。，.!\t") for _ in range(600)]
    lines += ["".join(choose.choices(words, k=6)) for _ in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(file.with_suffix("")),
        model_type="bpe",
        vocab_size=520,
        character_coverage=0.98,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=dummy_prefix,
        user_defined_symbols=list(symbols),
        minloglevel=2,
    )


def write_internlm2_tokenizer(folder: Path, *, dummy_prefix: bool = True) -> sentencepiece.SentencePieceProcessor:
    """As in InternLM2's checkpoints: pieces kept unused, whose ids the config gives to the special tokens."""
    unused = [f"[UNUSED_TOKEN_{number}]" for number in range(141, 147)]
    train_sentencepiece(folder / "tokenizer.model", symbols=unused, dummy_prefix=dummy_prefix)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids = [processor.piece_to_id(piece) for piece in unused]
    tokens = {0: "<unk>", 1: "<s>", 2: "</s>", **dict(zip(ids, SPECIAL, strict=True))}
    settings = {
        "added_tokens_decoder": {str(i): {"content": token, "special": True} for i, token in tokens.items()},
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "InternLM2Tokenizer",
        "chat_template": "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'"
        " + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return processor


def write_internlm_tokenizer(folder: Path, *, dummy_prefix: bool = True) -> sentencepiece.SentencePieceProcessor:
    """As in the first InternLM's: the marks of a turn's end are symbols of the sentencepiece model itself."""
    train_sentencepiece(folder / "tokenizer.model", symbols=["<eoh>", "<eoa>"], dummy_prefix=dummy_prefix)
    settings = {
        "auto_map": {"AutoTokenizer": ["tokenization_internlm.InternLMTokenizer", None]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "tokenizer_class": "InternLMTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def write_weights(folder: Path, config: dict[str, Any], weights: Weights, layout: str = "safetensors") -> None:
    """`layout`: safetensors, shards (two safetensors with an index), or bin (a pickle)."""
    (folder / "config.json").write_text(json.dumps(config))
    if layout == "bin":
        torch.save(weights, folder / "pytorch_model.bin")
    elif layout == "safetensors":
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        keys = list(weights)
        index = {}
        for number, mine in enumerate((keys[: len(keys) // 2], keys[len(keys) // 2 :]), 1):
            name = f"model-0000{number}-of-00002.safetensors"
            save_file({key: weights[key] for key in mine}, folder / name, metadata={"format": "pt"})
            index |= dict.fromkeys(mine, name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
