"""Adapters of one base in one batch: exact against PEFT, apart in the prefix cache, refused when unfit."""

import gc
import threading
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from app.errors import ModelInUse
from app.models.catalog import known_models
from app.models.engine.engine import Engine, EngineOptions
from app.models.engine.lora import AdapterBank
from app.models.engine.lora_files import (
    AdapterGone,
)
from app.models.interface import Sampling
from app.models.loading.loader import load
from bench.check_models import turns
from bench.tiny_checkpoints import save_tiny
from tests.models.engine.adapter_batches import alone, answers, batching, save_adapter, tiny_llama
from tests.models.engine.conftest import KINDS, Folders


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


def test_where_steps_are_captured_adapters_come_and_go_in_the_same_tensors(
    model: LlamaForCausalLM, tmp_path: Path
) -> None:
    """As on a GPU, whose captured steps read the addresses of their time."""
    names = ("one", "two", "three", "four")
    paths = {name: save_adapter(tiny_llama(), tmp_path / name, seed) for seed, name in enumerate(names)}
    layer, x = model.model.layers[1].self_attn.q_proj, torch.randn(1, 12, 64)
    bank = AdapterBank()
    bank.install(model, graph_tokens=12)

    def check(*loaded: str) -> int:
        """Each row is what PEFT computes; returns the generation of captured steps."""
        rows = [(bank.number(name), 4) for name in loaded]
        with torch.inference_mode():
            bank.set_step([*rows, (0, 12 - 4 * len(rows))], 12, in_batch=True)
            found = layer(x)
            bank.set_step((), 0)
            for number, name in enumerate(loaded):
                tuned = PeftModel.from_pretrained(tiny_llama(), paths[name]).eval()
                part = slice(4 * number, 4 * number + 4)
                expected = tuned.base_model.model.model.layers[1].self_attn.q_proj(x[:, part])
                assert torch.allclose(found[:, part], expected, atol=1e-5), name
        return bank.generation

    bank.add("one", paths["one"])
    captured = check("one")
    bank.add("two", paths["two"])
    assert check("one", "two") == captured, "it took the free rows"
    bank.remove("one")
    assert check("two") == captured
    bank.add("three", paths["three"])
    assert check("three", "two") == captured, "in the place of the one that went"
    bank.add("four", paths["four"])
    assert check("four", "two", "three") > captured, "there was no room"
    for name in names[1:]:
        bank.remove(name)
    assert torch.equal(layer(x), tiny_llama().model.layers[1].self_attn.q_proj(x))


def test_captured_layers_with_different_adapters_have_masks_of_their_own(
    model: LlamaForCausalLM, tmp_path: Path
) -> None:
    targets = {"both": ["q_proj", "k_proj"], "queries": ["q_proj"], "keys": ["k_proj"]}
    paths = {
        name: save_adapter(tiny_llama(), tmp_path / name, seed, target_modules=modules)
        for seed, (name, modules) in enumerate(targets.items())
    }
    bank, x = AdapterBank(), torch.randn(1, 12, 64)
    bank.install(model, graph_tokens=12)
    for name, path in paths.items():
        bank.add(name, path)
    with torch.inference_mode():
        bank.set_step([(bank.number(name), 4) for name in targets], 12, in_batch=True)
        found = {layer: model.model.layers[0].self_attn.get_submodule(layer)(x) for layer in ("q_proj", "k_proj")}
        bank.set_step((), 0)
        for number, name in enumerate(targets):
            tuned = PeftModel.from_pretrained(tiny_llama(), paths[name]).eval().base_model.model.model.layers[0]
            part = slice(4 * number, 4 * number + 4)
            for layer, output in found.items():
                expected = tuned.self_attn.get_submodule(layer)(x[:, part])
                assert torch.allclose(output[:, part], expected, atol=1e-5), (name, layer)
    for name in targets:
        bank.remove(name)
