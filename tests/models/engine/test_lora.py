"""Adapters of one base in one batch: exact against PEFT, apart in the prefix cache, refused when unfit."""

import gc
import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from app.errors import ModelInUse, StudioError
from app.finetune.merging import merge
from app.models.catalog import known_models
from app.models.engine.engine import Engine, EngineOptions
from app.models.engine.lora import AdapterBank
from app.models.engine.lora_files import (
    AdapterBroken,
    AdapterError,
    AdapterForAnotherBase,
    AdapterGone,
    AdapterNotSupported,
    PickledAdapter,
    read_adapter,
)
from app.models.interface import Sampling
from app.models.loading.internlm import llama_adapter
from app.models.loading.loader import load
from bench.check_models import turns
from bench.tiny_checkpoints import save_tiny
from tests.models.engine.adapter_batches import alone, answers, batching, save_adapter, tiny_llama

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


def prompt(seed: int, length: int) -> list[int]:
    return torch.randint(1, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def test_each_row_is_what_peft_computes(bank: AdapterBank, model: LlamaForCausalLM, folders: Folders) -> None:
    rows = [("wide", 12), (None, 12), ("narrow", 12), ("mixed", 12), ("dora", 12)]
    x = torch.randn(1, 62, 64)
    for path in ("self_attn.q_proj", "mlp"):
        part_of_model = model.model.layers[1].get_submodule(path)
        with torch.inference_mode():
            base = part_of_model(x)
            with bank.step([(bank.number(name), length) for name, length in rows], 62):
                batch = part_of_model(x)
            for number, (name, _) in enumerate(rows):
                part = slice(12 * number, 12 * number + 12)
                plain = tiny_llama()
                if name:
                    PeftModel.from_pretrained(plain, folders[name]).eval()
                expected = plain.model.layers[1].get_submodule(path)(x[:, part])
                assert torch.allclose(batch[:, part], expected, atol=1e-5), name
            assert torch.equal(batch[:, 12:24], base[:, 12:24])
            assert torch.equal(batch[:, 60:], base[:, 60:])


def test_ten_requests_in_one_batch_answer_as_each_alone(
    bank: AdapterBank, model: LlamaForCausalLM, folders: Folders
) -> None:
    names = [None, *KINDS] * 2
    requests = [(name, prompt(number, 10 + 7 * number)) for number, name in enumerate(names)]
    expected = [alone(tiny_llama(), folders.get(name), ids, 24) for name, ids in requests]
    with batching(model, bank) as manager:
        assert answers(manager, requests, 24) == expected
        assert max(len({name for name, _ in rows}) for rows in manager.steps) == 5


def test_the_prefix_cache_is_used_and_never_crosses_adapters(
    bank: AdapterBank, model: LlamaForCausalLM, folders: Folders
) -> None:
    same = prompt(7, 70)
    expected = {name: alone(tiny_llama(), folders.get(name), same, 12) for name in (None, *KINDS)}
    assert len({tuple(tokens) for tokens in expected.values()}) == 5
    with batching(model, bank) as manager:
        for name in (None, *KINDS, None, *KINDS):
            before = len(manager.steps)
            assert answers(manager, [(name, same)], 12) == [expected[name]], name
            prefilled = manager.steps[before][0][1]
            first_time = before < 12 * 5
            assert prefilled == (70 if first_time else 70 - 64), name


def test_another_adapter_under_an_old_name_finds_no_old_prefix(
    bank: AdapterBank, model: LlamaForCausalLM, folders: Folders
) -> None:
    same = prompt(8, 70)
    with batching(model, bank) as manager:
        answers(manager, [("wide", same)], 6)
        bank.remove("wide")
        bank.add("wide", folders["mixed"])
        assert answers(manager, [("wide", same)], 6) == [alone(tiny_llama(), folders["mixed"], same, 6)]


def test_adapters_come_and_go_while_others_stream(bank: AdapterBank, model: LlamaForCausalLM, folders: Folders) -> None:
    bank.remove("narrow")
    requests = [(name, prompt(number, 20)) for number, name in enumerate([None, "wide", "mixed"])]
    expected = [alone(tiny_llama(), folders.get(name), ids, 120) for name, ids in requests]
    with batching(model, bank) as manager:
        changes = 0
        done = threading.Event()

        def churn() -> None:
            nonlocal changes
            while not done.is_set():
                bank.add("narrow", folders["narrow"])
                bank.remove("narrow")
                changes += 1

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            assert answers(manager, requests, 120) == expected
        finally:
            done.set()
            thread.join()
        assert changes > 3


def test_memory_is_that_of_the_file_and_comes_back(model: LlamaForCausalLM, folders: Folders) -> None:
    bank = AdapterBank()
    bank.install(model)

    def held() -> int:
        stacks = bank._loaded.stacks.values()
        return sum(t.nbytes for s in stacks for t in (s.lora_a, s.lora_b, *s.gains.values()))

    for name in KINDS:
        before = held()
        bank.add(name, folders[name])
        file = (folders[name] / "adapter_model.safetensors").stat().st_size
        assert held() - before == bank.loaded(name).bytes <= file * 1.1
    for name in KINDS:
        bank.remove(name)
    assert held() == 0 and bank.names() == ()


def test_inspection_tells_base_from_adapter(bank: AdapterBank, folders: Folders) -> None:
    ids = prompt(3, 20)
    base_answer = alone(tiny_llama(), None, ids, 8)
    tuned_answer = alone(tiny_llama(), folders["wide"], ids, 8)
    base = bank.inspect(None, ids, base_answer)
    assert (base.gap, base.agreement, base.explained, base.active_layers) == (0.0, 1.0, 1.0, 0)
    tuned = bank.inspect("wide", ids, tuned_answer)
    assert tuned.gap > 0.1 and tuned.explained == 1.0 and tuned.agreement < 1.0
    assert tuned.active_layers == 14 and len(tuned.sha256) == 64
    assert bank.inspect("wide", ids, base_answer).explained < 1.0


def test_a_row_that_is_not_loaded_is_an_error_and_not_the_base(bank: AdapterBank) -> None:
    with pytest.raises(AdapterGone), bank.step([(99, 3)], 3):
        pass
    with pytest.raises(AdapterGone):
        bank.number("gone")


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


def test_a_prompt_read_beside_a_step_leaves_the_step_s_masks_alone(model: LlamaForCausalLM, folders: Folders) -> None:
    bank = AdapterBank()
    bank.install(model, graph_tokens=32)
    for name in ("wide", "narrow"):
        bank.add(name, folders[name])
    layer = model.model.layers[0].self_attn.q_proj
    x = torch.randn(1, 20, 64)
    rows = [(bank.number("wide"), 8), (bank.number("narrow"), 12)]
    with torch.inference_mode():
        bank.set_step(rows, 20, in_batch=True)
        before = layer(x)
        reading = threading.Thread(target=bank.scores, args=("narrow", prompt(1, 300), prompt(2, 9), 1))
        reading.start()
        reading.join()
        assert torch.equal(layer(x), before)
        bank.set_step((), 0)


def test_a_leased_adapter_stays_and_one_that_is_gone_is_never_the_base(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path / "base")
    loaded = load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
    base = LlamaForCausalLM.from_pretrained(folder)
    adapter = save_adapter(base, tmp_path / "adapter", 1)
    engine = Engine("base", loaded, EngineOptions(cache_tokens=512, page_size=16))
    ask, greedy = turns("Hello"), Sampling(temperature=0, max_new_tokens=6, ignore_eos=True)
    try:
        engine.adapters.add("own", adapter)
        with engine.lease_adapter("own") as tuned:
            answer = "".join(tuned.stream(ask, greedy))
            with pytest.raises(ModelInUse):
                engine.remove_adapter("own")
        held = engine.stream(ask, Sampling(temperature=0, max_new_tokens=400, ignore_eos=True), adapter="own")
        next(iter(held))
        with pytest.raises(ModelInUse):
            engine.remove_adapter("own")
        other = engine.stream(ask, greedy)
        held.cancel()
        engine.remove_adapter("own")  # the step under way still has its row: the others go on
        assert "".join(other) != answer
        with pytest.raises(AdapterGone):
            tuned.stream(ask, greedy)
        with pytest.raises(AdapterGone), engine.lease_adapter("own"):
            pass
    finally:
        engine.close()


def test_an_answer_that_nobody_holds_is_forgotten(tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path)
    loaded = load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
    engine = Engine("base", loaded, EngineOptions(cache_tokens=512, page_size=16))
    try:
        engine.stream(turns("Hello"), Sampling(temperature=0, max_new_tokens=400, ignore_eos=True))
        gc.collect()
        assert engine.requests == 0
    finally:
        engine.close()


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
    ids = torch.tensor([prompt(1, 20)]) % 250
    with torch.inference_mode():
        expected = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder), adapter).eval()(ids).logits
        merge(folder, str(folder), adapter, tmp_path / "merged")
        merged = LlamaForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        gap = (merged(ids).logits - expected).abs().mean() / expected.std()
    assert not merged.config.tie_word_embeddings
    assert gap < 0.05, "what bfloat16 explains"


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
