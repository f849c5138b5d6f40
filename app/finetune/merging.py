"""Merge a LoRA adapter into its base model, in a process of its own.

usage: python -m app.finetune.merging FOLDER NAME ADAPTER TARGET

XTuner's own merge runs code that comes with a base and writes float16 whatever the base was; this does neither.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import PreTrainedModel

from app.models.catalog import known_models
from app.models.engine.lora_files import WEIGHTS, read_adapter
from app.models.loading import loader
from app.models.loading.internlm import is_original

PREFIX = "base_model.model."  # PEFT's, before the names of the base's layers


def merge(folder: Path, name: str, adapter: Path, target: Path) -> None:
    """Write a whole model folder in bfloat16, with its tokenizer and chat template."""
    # in the adapter's float32, so that the sum is rounded once
    loaded = loader.load(folder, known_models.card_of(name, folder), "cpu", "float32", None, lambda *_: None)
    untie(loaded.model, adapter)
    if is_original(key.removeprefix(PREFIX).partition(".lora_")[0] for key in keys_of(adapter)):
        merged = add_original(loaded.model, name, adapter)
    else:
        merged = PeftModel.from_pretrained(loaded.model, adapter).merge_and_unload()
    merged.to(torch.bfloat16).save_pretrained(target)
    if (sampling := folder / "generation_config.json").is_file():
        shutil.copy(sampling, target)  # transformers kept the end tokens only
    loader.tokenizer_of(folder, known_models.card_of(name, folder)).save_pretrained(target)


def add_original(model: Any, name: str, adapter: Path) -> Any:
    """The model with an adapter of the original InternLM2 code added, whose layers PEFT does not find in a Llama."""
    linears = {path: layer for path, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    with torch.no_grad():
        for path, pair in read_adapter(name, adapter, linears, model.config).layers.items():
            weight = linears[path].weight
            weight += pair.lora_b @ pair.lora_a
            if pair.gain is not None:
                weight *= 1 + pair.gain[:, None]
    return model


def keys_of(adapter: Path) -> list[str]:
    with safe_open(adapter / WEIGHTS, framework="pt") as file:
        return list(file.keys())


def untie(model: PreTrainedModel, adapter: Path) -> None:
    """Give the output layer weights of its own where the adapter changes it: merged into those that the embedding
    shares, it would change what is read as well, which it did not while it was trained."""
    head: Any = model.get_output_embeddings()
    changes = any(".lm_head." in key or key.startswith(f"{PREFIX}output.") for key in keys_of(adapter))
    if changes and model.config.tie_word_embeddings:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


if __name__ == "__main__":
    merge(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
