"""A CLIP model of the real architecture with its real processor, tiny and untrained."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"]


def save(folder: Path) -> Path:
    """Write the checkpoint with its modules.json."""
    torch.manual_seed(0)
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    vocabulary = {word: place for place, word in enumerate(words)}
    inner = folder / "0_CLIPModel"
    inner.mkdir(parents=True)
    (inner / "vocab.json").write_text(json.dumps(vocabulary))
    (inner / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizerFast(
        vocab=str(inner / "vocab.json"), merges=str(inner / "merges.txt"), model_max_length=77
    )
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small | {
            "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "projection_dim": 16,
        },
        vision_config=small | {"image_size": 32, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(inner)
    size = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), tokenizer).save_pretrained(inner)
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    (folder / "modules.json").write_text(json.dumps([module]))
    return folder
