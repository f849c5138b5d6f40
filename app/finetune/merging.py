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
from app.models.engine.lora_files import WEIGHTS
from app.models.loading import loader


def merge(folder: Path, name: str, adapter: Path, target: Path) -> None:
    """Write a whole model folder in bfloat16, with its tokenizer and chat template."""
    # in the adapter's float32, so that the sum is rounded once
    loaded = loader.load(folder, known_models.card_of(name, folder), "cpu", "float32", None, lambda *_: None)
    untie(loaded.model, adapter)
    merged = PeftModel.from_pretrained(loaded.model, adapter).merge_and_unload().to(torch.bfloat16)
    merged.save_pretrained(target)
    if (sampling := folder / "generation_config.json").is_file():
        shutil.copy(sampling, target)  # transformers kept the end tokens only
    loader.tokenizer_of(folder, known_models.card_of(name, folder)).save_pretrained(target)


def untie(model: PreTrainedModel, adapter: Path) -> None:
    """Give the output layer weights of its own where the adapter changes it: merged into those that the embedding
    shares, it would change what is read as well, which it did not while it was trained."""
    head: Any = model.get_output_embeddings()
    with safe_open(adapter / WEIGHTS, framework="pt") as file:
        changes = any(".lm_head." in key for key in file.keys())  # noqa: SIM118 (not a mapping)
    if changes and model.config.tie_word_embeddings:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


if __name__ == "__main__":
    merge(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
