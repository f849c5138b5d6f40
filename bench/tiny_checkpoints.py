"""Tiny random checkpoints of any causal architecture, on disk as repositories have them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ("<|im_start|>", "<|im_end|>")
WINDOW = 48
LARGEST = 50_000_000  # parameters
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embed_dim", "dim", "lru_width"), 64),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "inner_dim"), 96),
    **dict.fromkeys(DEPTHS, 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"), 512),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k_experts", "moe_k"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "v_head_dim", "head_dim", "qk_nope_head_dim", "kv_channels"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "mamba_d_head", "mamba_head_dim", "ssm_state_size", "state_size"), 8),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("sliding_window", "attention_window_size", "attention_chunk_size", "local_window"), WINDOW),
    "word_embed_proj_dim": 64,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 16,
    "laurel_rank": 8,
    "original_max_position_embeddings": 512,
}


# Blocks that share their weights need another to share them with.
SHARED: dict[str, Any] = {
    "num_hidden_layers": 4,
    **dict.fromkeys(("layer_types", "layers_block_type"), ["linear_attention", "hybrid"] * 2),
}
# What some architectures need beside, so that two layers are enough and their kinds are all there.
FURTHER: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 16, "mamba_d_head": 8, "attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 16},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
    "cwm": {"bos_token_id": 0},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 48},
    "gptj": {"rotary_dim": 16},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "mamba_n_heads": 16, "mamba_d_head": 8},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8},
    "dots3_note_text": {
        "head_dim": 24,
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads"), 4),
        **{"index_topk": 16, "index_head_dim": 16, "index_n_heads": 2, "shared_experts_intermediate_size": 32},
        **{"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16},
        **{"swa_head_dim": 24, "swa_qk_nope_head_dim": 16, "swa_v_head_dim": 16},
    },
    "ministral": {"head_dim": 16},
    "modernbert-decoder": {"pad_token_id": 0, "bos_token_id": 0},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "ngram_vocab_size_base": 64,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},  # its states are as wide as such a model's alone
    "zamba": SHARED | {"mamba_dt_rank": 4},
    "zamba2": SHARED,
    "zaya": {"num_experts_per_tok": 1},
}


class NotTiny(Exception):
    """The sizes above do not make this architecture small."""


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and the marks of turns."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"additional_special_tokens": list(MARKS), "eos_token": MARKS[1]})
    fast.chat_template = TEMPLATE
    return fast


def causal_kinds() -> list[str]:
    """Every model type of the installed transformers that has a causal language model."""
    return sorted(kind for kind, config in CONFIG_MAPPING.items() if config in MODEL_FOR_CAUSAL_LM_MAPPING)


def tiny_config(kind: str, vocabulary: int, **more: Any) -> Any:
    """The architecture's own config with small sizes; `more` are further values of it."""
    cls = CONFIG_MAPPING[kind]
    usual = cls()
    small = {name: size for name, size in SIZES.items() if _has(usual, name)}
    if "num_key_value_heads" in small or getattr(type(usual), "num_key_value_heads", 0) is None:
        heads = "num_attention_heads" if "kv_lora_rank" in small else "num_key_value_heads"
        small["num_key_value_heads"] = SIZES[heads]
    if "qk_rope_head_dim" in small and "head_dim" in small:  # the head that positions turn
        small["head_dim"] = small["qk_rope_head_dim"]
    small |= {"vocab_size": vocabulary, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    if _has(usual, "vocab_size_per_layer_input"):
        small["vocab_size_per_layer_input"] = vocabulary
    layers = list(getattr(usual, "layer_types", None) or ())
    if layers and _has(usual, "layer_types"):
        kinds = list(dict.fromkeys(layers))
        small["layer_types"] = kinds if len(kinds) > 1 else kinds * 2
        small |= {name: len(small["layer_types"]) for name in DEPTHS if name in small}
    if isinstance(mlp_types := getattr(usual, "mlp_layer_types", None), list):
        small["mlp_layer_types"] = [mlp_types[0]] + [mlp_types[-1]] * (len(small.get("layer_types", "..")) - 1)
    return cls(**small | FURTHER.get(kind, {}) | more)


def _has(config: Any, name: str) -> bool:
    """Whether a config has such a value of its own, and takes another."""
    stored = config.attribute_map.get(name, name)
    if isinstance(getattr(type(config), stored, None), property):
        return False
    try:
        return getattr(config, name, None) is not None
    except Exception:  # transformers refuses to tell what differs from layer to layer
        return False


def save_tiny(kind: str, folder: Path, **more: Any) -> Path:
    """Write a checkpoint with random weights, the same ones each time. Raises whatever the architecture raises."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = tiny_config(kind, len(tokenizer), **more)
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in architecture(config).parameters())
    if size > LARGEST:
        raise NotTiny(f"{size / 1e6:.0f} million parameters")
    model = architecture(config).eval().float()
    for name, parameter in model.named_parameters():  # far enough apart that no two tokens are equally likely
        if parameter.ndim > 1 and "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.08)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
