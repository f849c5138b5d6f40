"""Adapter files: what cannot be read or computed is refused, other code's names are understood, what merging makes."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from app.errors import StudioError
from app.finetune.merging import merge
from app.models.engine.lora import AdapterBank
from app.models.engine.lora_files import (
    AdapterBroken,
    AdapterError,
    AdapterForAnotherBase,
    AdapterNotSupported,
    PickledAdapter,
    read_adapter,
)
from app.models.loading.internlm import llama_adapter
from bench.tiny_checkpoints import save_tiny
from tests.models.engine.adapter_batches import save_adapter, tiny_llama
from tests.models.engine.conftest import KINDS, Folders


def broken(folders: Folders, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["wide"], tmp_path / "copy"))


def test_a_pickle_is_refused(bank: AdapterBank, folders: Folders, tmp_path: Path) -> None:
    folder = broken(folders, tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(PickledAdapter) as refusal:
        bank.add("new", folder)
    assert "adapter_model.bin" in refusal.value.text("zh")


def test_a_truncated_file_is_refused_and_changes_nothing(bank: AdapterBank, folders: Folders, tmp_path: Path) -> None:
    folder = broken(folders, tmp_path)
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    for length in (0, 5, 200, len(whole) - 10):
        file.write_bytes(whole[:length])
        with pytest.raises(AdapterBroken):
            bank.add("new", folder)
    assert bank.names() == tuple(KINDS)


def test_an_adapter_for_another_base_is_refused(folders: Folders) -> None:
    small = LlamaConfig(**{**tiny_llama().config.to_dict(), "intermediate_size": 80})
    shallow = LlamaConfig(**{**tiny_llama().config.to_dict(), "num_hidden_layers": 1})
    for config in (small, shallow):
        bank = AdapterBank()
        bank.install(LlamaForCausalLM(config))
        with pytest.raises(AdapterForAnotherBase):
            bank.add("wide", folders["wide"])
        assert bank.names() == ()


def test_an_adapter_of_the_original_internlm2_code_is_split_for_llama() -> None:
    config = SimpleNamespace(num_attention_heads=4, num_key_value_heads=2, hidden_size=8)
    lora_a, lora_b = torch.randn(3, 8), torch.randn(16, 3)
    name = "model.layers.0.attention.wqkv"
    split = llama_adapter({name: {"A": lora_a, "B": lora_b}, "model.layers.0.feed_forward.w1": {"A": lora_a}}, config)
    assert set(split) == {
        *(f"model.layers.0.self_attn.{part}_proj" for part in "qkv"),
        "model.layers.0.mlp.gate_proj",
    }
    grouped = (lora_b @ lora_a).view(2, 4, 2, 8)  # of each key head: its two queries, the key, the value
    parts = {"q": grouped[:, :2], "k": grouped[:, 2], "v": grouped[:, 3]}
    for part, expected in parts.items():
        pair = split[f"model.layers.0.self_attn.{part}_proj"]
        assert torch.allclose(pair["B"] @ pair["A"], expected.reshape(-1, 8), atol=1e-6)


def test_its_patterns_know_the_names_of_that_code(tmp_path: Path) -> None:
    torch.manual_seed(1)
    fused = "model.layers.0.attention.wqkv"
    pair = {
        f"base_model.model.{fused}.lora_{side}.weight": torch.randn(*size)
        for side, size in (("A", (3, 64)), ("B", (128, 3)))
    }
    made: dict[str, torch.Tensor] = {}
    for name, told in (
        ("usual", {"lora_alpha": 12}),
        ("pattern", {"alpha_pattern": {"wqkv": 12}, "rank_pattern": {"wqkv": 3}, "r": 5}),
        ("none", {}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        save_file(pair, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 3, "lora_alpha": 1, **told}))
        if not told:
            (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 3}))
        base = tiny_llama()
        linears = {path: layer for path, layer in base.named_modules() if isinstance(layer, torch.nn.Linear)}
        made[name] = read_adapter(name, folder, linears, base.config).layers["model.layers.0.self_attn.k_proj"].lora_b
    assert torch.equal(made["usual"], made["pattern"])
    assert torch.allclose(made["none"] * 1.5, made["usual"]), "PEFT's own alpha is 8"


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`")
def test_merged_into_a_base_with_one_table_an_output_layer_leaves_the_embedding_alone(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path / "base", tie_word_embeddings=True)
    base = LlamaForCausalLM.from_pretrained(folder)
    adapter = save_adapter(base, tmp_path / "adapter", 1, target_modules=["q_proj", "lm_head"], r=4)
    ids = torch.arange(1, 21)[None]
    with torch.inference_mode():
        expected = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder), adapter).eval()(ids).logits
        merge(folder, str(folder), adapter, tmp_path / "merged")
        merged = LlamaForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        gap = (merged(ids).logits - expected).abs().mean() / expected.std()
    assert not merged.config.tie_word_embeddings
    assert gap < 0.05, "what bfloat16 explains"


def test_an_adapter_of_the_original_internlm2_code_is_merged_as_it_answers(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path / "base")
    base = LlamaForCausalLM.from_pretrained(folder)
    config, size = base.config, base.config.hidden_size
    rows = (config.num_attention_heads + 2 * config.num_key_value_heads) * (size // config.num_attention_heads)
    torch.manual_seed(1)
    outputs = {"attention.wqkv": rows, "feed_forward.w1": config.intermediate_size}
    pairs = {}
    for module, width in outputs.items():
        path = f"base_model.model.model.layers.0.{module}"
        pairs[f"{path}.lora_A.weight"], pairs[f"{path}.lora_B.weight"] = torch.randn(4, size), torch.randn(width, 4)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(pairs, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    merge(folder, str(folder), adapter, tmp_path / "merged")
    merged = dict(LlamaForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).named_parameters())
    linears = {path: layer for path, layer in base.named_modules() if isinstance(layer, torch.nn.Linear)}
    layers = read_adapter("a", adapter, linears, config).layers
    assert len(layers) == 4
    for name, weight in base.named_parameters():
        pair = layers.get(name.removesuffix(".weight"))
        expected = weight if pair is None else weight + pair.lora_b @ pair.lora_a
        assert torch.equal(merged[name], expected.to(torch.bfloat16).float()), name


def test_a_copy_of_the_base_s_output_layer_is_no_hindrance_and_a_changed_one_is(
    model: LlamaForCausalLM, folders: Folders, tmp_path: Path
) -> None:
    bank = AdapterBank()
    bank.install(model)
    for name, change in (("copied", 0.0), ("changed", 1.0)):
        folder = Path(shutil.copytree(folders["wide"], tmp_path / name))
        tensors = load_file(folder / "adapter_model.safetensors")
        tensors["base_model.model.lm_head.base_layer.weight"] = model.lm_head.weight.detach() + change
        save_file(tensors, folder / "adapter_model.safetensors")
    bank.add("copied", tmp_path / "copied")
    with pytest.raises(AdapterNotSupported, match=r"lm_head\.base_layer"):
        bank.add("changed", tmp_path / "changed")


@pytest.mark.parametrize(
    "change",
    [
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"use_dora": True},
        {"bias": "all"},
        {"peft_type": "IA3"},
        {"modules_to_save": ["lm_head"]},
        {"r": 9},
        {"lora_alpha": None},
        {"lora_alpha": "16"},
        {"alpha_pattern": ["q_proj"]},
        {"alpha_pattern": {"(": 3}},
    ],
)
def test_what_the_bank_does_not_compute_is_refused(
    bank: AdapterBank, folders: Folders, tmp_path: Path, change: dict[str, object]
) -> None:
    folder = broken(folders, tmp_path)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(AdapterError):
        bank.add("new", folder)


def test_values_that_are_not_numbers_and_a_second_of_the_same_name(
    bank: AdapterBank, folders: Folders, tmp_path: Path
) -> None:
    with pytest.raises(StudioError):
        bank.add("wide", folders["wide"])
    spoilt = save_adapter(tiny_llama(), tmp_path / "nan", 5, strength=float("inf"))
    with pytest.raises(AdapterBroken):
        bank.add("new", spoilt)
