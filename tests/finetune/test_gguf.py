"""Conversion to GGUF: each architecture against transformers' own forward pass, and chat templates for Ollama."""

from pathlib import Path
from typing import Any

import pytest
import torch
from jinja2 import Template
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from app.finetune.gguf.convert import CannotExport, convert, refuse_unknown
from app.finetune.gguf.modelfile import turns_of
from app.models.registry import drift
from app.models.registry.registry import ModelRegistry
from bench.tiny_checkpoints import save_tiny
from tests.training_fixtures import VOCABULARY, copy_tokenizer

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SIZES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tie_word_embeddings": True}),
    "llama3": (
        "llama",
        {"rope_parameters": {**LLAMA3, "rope_theta": 1e4, "original_max_position_embeddings": 64}},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "internlm3": ("internlm3", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
}


def drawn(kind: str, tokenizer: Path, folder: Path, more: dict[str, Any]) -> Path:
    """Three thin layers with large random weights, so that a wrong conversion shows."""
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = CONFIG_MAPPING[kind](
        **{**SIZES, "vocab_size": VOCABULARY, "num_key_value_heads": 2, "max_position_embeddings": 512, **ends, **more}
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for name, values in model.named_parameters():
        torch.nn.init.normal_(values, 1.0 if "norm" in name else 0.0, 0.3 if values.ndim == 1 else 0.15)
    model.save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_each_architecture_answers_as_in_transformers(
    kind: str, registry: ModelRegistry, packaged_folder: Path, tmp_path: Path
) -> None:
    folder = drawn(KINDS[kind][0], packaged_folder, tmp_path / "whole", KINDS[kind][1])
    refuse_unknown(folder, kind)
    convert(folder, kind, tmp_path)
    with registry.lease(str(folder)) as model:
        reference = drift.Reference(tuple(drift.answered(model, drift.prompts()[:2])))
    file = str(tmp_path / f"{kind}-f16.gguf")
    with registry.lease(file) as exported:
        found = drift.summary(kind, drift.compared(reference, exported))
    registry.unload(file)
    registry.unload(str(folder))
    assert found.places >= 16 and found.same_choice >= 0.9 and found.mean_kl < 1e-4


@pytest.mark.parametrize(
    ("kind", "more", "what"),
    [
        ("gpt2", {}, "model_type=gpt2"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "rope_type=yarn"),
        ("mistral", {}, "sliding_window=48"),
    ],
)
def test_what_cannot_be_proven_is_refused_in_a_sentence(
    kind: str, more: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotExport, match=what):
        refuse_unknown(save_tiny(kind, tmp_path / "tiny", **more), "mine")


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}"
)
WITH_DEFAULT = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
FOLDED = "{% for m in messages %}{{ '[INST] ' + m.content if m.role == 'user' else m.content }}{% endfor %} [/INST]"


@pytest.mark.parametrize("template", [CHATML, WITH_DEFAULT, "<s>" + CHATML])
def test_a_template_of_equal_turns_is_told_in_ollamas_language(template: str) -> None:
    def render(messages: list[dict[str, str]]) -> str:
        return Template(template).render(messages=messages)

    turns = turns_of(render, "<s>")
    assert turns is not None and turns.default_system == ("Be kind." if template == WITH_DEFAULT else "")
    told = turns.in_ollamas_language()
    assert told.startswith("{{ if .System }}<|im_start|>system\n{{ .System }}") and "<s>" not in told
    assert told.endswith("<|im_end|>\n<|im_start|>assistant\n{{ .Response }}" + turns.assistant[1])


def test_a_template_of_another_shape_has_none() -> None:
    assert turns_of(lambda messages: Template(FOLDED).render(messages=messages), "") is None
