"""Convert a merged model folder to GGUF files (f16, q8_0, q4_k_m), in a process of its own.

usage: python -m app.finetune.gguf.convert FOLDER NAME TARGET

Writes TARGET/NAME-FORMAT.gguf and a Modelfile beside each. For the architectures in ARCHITECTURES only, each compared
with transformers in the tests; whether this very model came out right is told by proof.py.
"""

import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from gguf import GGML_QUANT_SIZES, MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map

from app.errors import BadInput
from app.finetune.gguf.modelfile import modelfile, turns_of
from app.finetune.gguf.quantise import FILE_TYPES, Format, formats, kind_of, packed
from app.finetune.gguf.vocabulary import UnknownTokenizer, Vocabulary, read_vocabulary
from app.models.catalog.known_models import ModelCard
from app.models.loading import loader
from app.models.loading.chat_templates import TURN_ENDS
from app.models.loading.checkpoint import read_config

ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,  # InternLM 2 and 2.5 too, which are loaded as Llama
    "mistral": MODEL_ARCH.LLAMA,
    "internlm3": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
}
ROPES = ("default", "dynamic", "llama3")  # dynamic: only beyond the length that the model was made for


class CannotExport(BadInput):
    zh = "{name} 不能导出为 GGUF：{what}。适配器和合并后的模型仍可下载。"
    en = "{name} cannot be exported as GGUF: {what}. Its adapter and the merged model can be downloaded."


def refuse_unknown(folder: Path, name: str) -> None:
    """Raises CannotExport for a merged model whose architecture or tokenizer cannot be converted here."""
    raw = read_config(folder, name)
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind, scaling = str(raw.get("model_type")), str(rope.get("rope_type", rope.get("type", "default")))
    if kind not in ARCHITECTURES or raw.get("hidden_act", "silu") != "silu":
        raise CannotExport(name=name, what=f"model_type={kind}")
    if kind == "llama" and (raw.get("attention_bias") or raw.get("mlp_bias")):
        raise CannotExport(name=name, what="attention_bias")
    if scaling not in ROPES:
        raise CannotExport(name=name, what=f"rope_type={scaling}")
    if raw.get("use_sliding_window", kind == "mistral") and raw.get("sliding_window"):
        raise CannotExport(name=name, what=f"sliding_window={raw['sliding_window']}")
    try:
        read_vocabulary(loader.tokenizer_of(folder, _card(folder, name)), int(raw["vocab_size"]))
    except UnknownTokenizer as error:
        raise CannotExport(name=name, what=f"tokenizer={error}") from error


def convert(folder: Path, name: str, target: Path) -> None:
    """Write one file of each format, and its Modelfile."""
    loaded = loader.load(folder, _card(folder, name), "cpu", "auto", None, lambda *_: None)
    tokenizer: Any = loaded.tokenizer
    vocabulary = read_vocabulary(tokenizer, loaded.embeddings)
    render = partial(tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True)
    bos = str(tokenizer.bos_token or "")
    adds_bos = bool(bos) and (tokenizer("").input_ids[:1] == [tokenizer.bos_token_id] or _opens_with(render, bos))
    turns = turns_of(render, bos if adds_bos else "")
    stops = [tokenizer.convert_ids_to_tokens(number) for number in loaded.stop_token_ids]
    for wanted in formats():
        file = target / f"{name}-{wanted}.gguf"
        _write(file, loaded, vocabulary, wanted, adds_bos=adds_bos)
        (target / f"Modelfile-{wanted}").write_text(
            modelfile(file.name, turns, stops, loaded.sampling_defaults), encoding="utf-8"
        )


def _opens_with(render: Any, bos: str) -> bool:
    """Whether the template begins with it, and not each turn, as where it is <|im_start|>."""
    prompt = str(render([{"role": "user", "content": "Hi"}]))
    return prompt.startswith(bos) and prompt.count(bos) == 1


def _card(folder: Path, name: str) -> ModelCard:
    return ModelCard(name=name, source="folder", location=str(folder))


def _write(file: Path, loaded: loader.LoadedModel, vocabulary: Vocabulary, wanted: Format, *, adds_bos: bool) -> None:
    """One tensor at a time, so that no more than the model is held."""
    config: Any = loaded.model.config
    arch = ARCHITECTURES[config.model_type]
    writer = GGUFWriter(file, MODEL_ARCH_NAMES[arch])
    writer.add_name(file.stem)
    writer.add_file_type(FILE_TYPES[wanted])
    writer.add_quantization_version(2)
    _add_settings(writer, config, loaded.context_tokens)
    _add_vocabulary(writer, vocabulary)
    _add_tokens(writer, loaded, adds_bos=adds_bos)
    tensors = [
        (name, values, kind_of(name, values.shape, wanted, config.num_hidden_layers, tied=config.tie_word_embeddings))
        for name, values in _tensors(loaded.model, arch)
    ]
    for name, values, kind in tensors:
        block, size = GGML_QUANT_SIZES[kind]
        stored = numpy.dtype(numpy.float16)  # any but bytes, which would be taken for the shape
        writer.add_tensor_info(name, values.shape, stored, values.numel() // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, values, kind in tensors:
        writer.write_tensor_data(packed(values.float().numpy(), kind))
    writer.close()


def _add_settings(writer: GGUFWriter, config: Any, context: int) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(context)
    writer.add_vocab_size(config.vocab_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    writer.add_add_space_prefix(vocabulary.space_prefix)


def _add_tokens(writer: GGUFWriter, loaded: loader.LoadedModel, *, adds_bos: bool) -> None:
    """Special tokens and the template. The end of a turn is what ends an answer."""
    tokenizer: Any = loaded.tokenizer
    known = tokenizer.get_vocab()
    ends = [known[end] for end in TURN_ENDS if end in loaded.chat_template and end in known]
    end = next((token for token in ends if token in loaded.stop_token_ids), tokenizer.eos_token_id)
    writer.add_add_bos_token(adds_bos)
    writer.add_add_eos_token(False)
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, loaded.stop_token_ids[0] if end is None and loaded.stop_token_ids else end),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            add(token)
    writer.add_chat_template(loaded.chat_template)


def _tensors(model: Any, arch: MODEL_ARCH) -> Iterator[tuple[str, torch.Tensor]]:
    """The model's tensors by their names in the file."""
    config = model.config
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    for key, values in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ValueError(f"no place for {key}")
        layer = key.rpartition(".")[0]
        if arch == MODEL_ARCH.LLAMA and layer.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if layer.endswith("q_proj") else config.num_key_value_heads
            values = _interleaved(values, heads)
        yield name, values
    if (config.rope_parameters or {}).get("rope_type") == "llama3":
        yield "rope_freqs.weight", _llama3_frequencies(config)


def _interleaved(values: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp pairs neighbours where transformers pairs the two halves of a head."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.transpose(1, 2).reshape(values.shape)


def _llama3_frequencies(config: Any) -> torch.Tensor:
    """By what each rotary frequency is divided."""
    rope = config.rope_parameters
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, width, 2).float() / width)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
