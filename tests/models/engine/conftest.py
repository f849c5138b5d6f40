"""Adapters of a tiny Llama, one of each kind, and a bank that has loaded them."""

from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from app.models.engine.lora import AdapterBank
from tests.models.engine.adapter_batches import save_adapter, tiny_llama

Folders = dict[str | None, Path]
KINDS: dict[str, dict[str, object]] = {
    "wide": {
        "r": 16,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    },
    "narrow": {"r": 4, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    "mixed": {
        "r": 8,
        "target_modules": ["o_proj", "down_proj"],
        "rank_pattern": {"down_proj": 3},
        "alpha_pattern": {"layers.1.mlp.down_proj": 5},
    },
    "dora": {"r": 4, "target_modules": ["q_proj", "up_proj", "down_proj"], "use_dora": True},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("adapters")
    base = tiny_llama()
    return {
        name: save_adapter(base, root / name, number, **lora) for number, (name, lora) in enumerate(KINDS.items(), 1)
    }


@pytest.fixture
def model() -> LlamaForCausalLM:
    return tiny_llama()


@pytest.fixture
def bank(model: LlamaForCausalLM, folders: Folders) -> AdapterBank:
    bank = AdapterBank()
    bank.install(model)
    for name in KINDS:
        bank.add(name, folders[name])
    return bank
