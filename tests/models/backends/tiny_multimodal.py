"""Tiny models that see, with random weights and their real processors, saved as checkpoints of the hub look."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "max_position_embeddings": 2048,
}
SIGHT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
QWEN_SIGHT = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
SMOLVLM_TOKENS = ("<image>", "<video>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
TILE = 28  # pixels of a side


@dataclass(frozen=True)
class Kind:
    """One architecture: its tokens, how a picture is written in the prompt, and its parts of the vocabulary's size."""

    tokens: tuple[str, ...]
    shown: str
    template_file: str
    parts: Callable[[Any], tuple[Any, Any, dict[str, Any]]]  # tokenizer -> model, image processor, processor's settings
    hub_name: str  # of the image processor in the hub's files
    settings: tuple[tuple[str, str], ...] = ()


def save_tiny(kind: str, folder: Path, packaged_folder: Path) -> Path:
    """One of KINDS, with the packaged model's tokenizer and the tokens that it needs beside."""
    known = KINDS[kind]
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(known.tokens)}, replace_extra_special_tokens=False)
    torch.manual_seed(0)
    model, images, settings = known.parts(tokenizer)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1 and "embed_tokens" not in name:
                weights.normal_(std=1.0 if "lm_head" in name else 0.3)  # so much that what is shown tells
    model.save_pretrained(folder)
    tokenizer.chat_template = None
    for part in (images, tokenizer):
        part.save_pretrained(folder)
    _change(folder / "preprocessor_config.json", image_processor_type=known.hub_name)
    if settings:
        _change(folder / "processor_config.json", **settings)
    template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        f"{{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}{known.shown}"
        "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    if known.template_file.endswith(".json"):
        _change(folder / known.template_file, chat_template=template)
    else:
        (folder / known.template_file).write_text(template, encoding="utf-8")
    return folder


def _change(file: Path, **values: object) -> None:
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(kept | values), encoding="utf-8")


def _qwen(tokenizer: Any, config: Any, model: Any, vision: dict[str, Any], text: dict[str, Any]) -> tuple[Any, ...]:
    ids = dict(zip(("vision_start", "vision_end", "image", "video"), QWEN_TOKENS, strict=True))
    made = model(
        config(
            vision_config={**QWEN_SIGHT, **vision},
            text_config={**TEXT, **text, "vocab_size": len(tokenizer), "rope_parameters": MROPE},
            **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()},
        )
    )
    patch = made.config.vision_config.patch_size
    pixels = {"shortest_edge": (2 * patch) ** 2, "longest_edge": 8 * (2 * patch) ** 2}
    return made, Qwen2VLImageProcessorPil(size=pixels, patch_size=patch), {}


def _qwen25(tokenizer: Any) -> tuple[Any, Any, dict[str, Any]]:
    vision = {"fullatt_block_indexes": [0], "patch_size": 14}
    return _qwen(tokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision, {})


def _qwen3(tokenizer: Any) -> tuple[Any, Any, dict[str, Any]]:
    vision = {"deepstack_visual_indexes": [0], "patch_size": 16, "num_position_embeddings": 16}
    return _qwen(tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration, vision, {"head_dim": 16})


def _smolvlm(tokenizer: Any) -> tuple[Any, Any, dict[str, Any]]:
    config = SmolVLMConfig(
        vision_config={**SIGHT, "image_size": TILE, "patch_size": 7},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(tokenizer), "pad_token_id": 2},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    images = SmolVLMImageProcessorPil(size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE})
    return SmolVLMForConditionalGeneration(config), images, {"image_seq_len": 4}


def _llava(tokenizer: Any) -> tuple[Any, Any, dict[str, Any]]:
    grid = [[TILE, TILE], [TILE, 2 * TILE], [2 * TILE, TILE], [2 * TILE, 2 * TILE]]
    config = LlavaOnevisionConfig(
        vision_config={
            **SIGHT,
            "model_type": "siglip_vision_model",
            "image_size": TILE,
            "patch_size": 7,
            "vision_use_head": False,
        },
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
    )
    images = LlavaOnevisionImageProcessorPil(size={"height": TILE, "width": TILE}, image_grid_pinpoints=grid)
    settings = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    return LlavaOnevisionForConditionalGeneration(config), images, settings


_QWEN_SHOWN = "<|vision_start|><|image_pad|><|vision_end|>"
KINDS = {
    "qwen2.5-vl": Kind(QWEN_TOKENS, _QWEN_SHOWN, "chat_template.json", _qwen25, "Qwen2VLImageProcessor"),
    "qwen3-vl": Kind(QWEN_TOKENS, _QWEN_SHOWN, "chat_template.jinja", _qwen3, "Qwen2VLImageProcessorFast"),
    "smolvlm": Kind(SMOLVLM_TOKENS, "<image>", "chat_template.json", _smolvlm, "SmolVLMImageProcessor"),
    "llava": Kind(("<image>", "<video>"), "<image>\n", "chat_template.json", _llava, "LlavaOnevisionImageProcessor"),
}
