"""On an accelerator: adapters and receipts beside streams, parking, 8 and 4 bits, graphs (`make check-gpu`)."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.models.catalog.known_models import PACKAGED
from app.models.engine.attention_kinds import AMPERE
from app.models.engine.engine import Engine
from app.models.interface import ChatModel, Message, Sampling, TokenScoringModel
from app.models.registry.loaded_engine import LoadedEngine
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.engine.adapter_batches import save_adapter

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
GREEDY = Sampling(temperature=0, max_new_tokens=64, ignore_eos=True)
BASE, PARIS = PACKAGED, "The capital of France is Paris."
PLACES = ("France", "Italy", "Japan", "Peru")


def question(place: str) -> list[Message]:
    return [{"role": "user", "content": f"What is the capital of {place}?"}]


@pytest.fixture(scope="module")
def adapter(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = AutoModelForCausalLM.from_pretrained(packaged_folder)
    return save_adapter(base, tmp_path_factory.mktemp("adapter"), 1, 0.05, target_modules=["q_proj", "down_proj"])


@pytest.fixture(scope="module")
def registry(packaged_folder: Path) -> Iterator[ModelRegistry]:
    """In float32, where the same question has the same answer whatever else the batch holds."""
    placement = Placement(DEVICE, "float32", None, 6000, packaged_folder.parents[1], host_mib=6000)
    registry = ModelRegistry(placement, BASE)
    yield registry
    registry.close()


def engine_of(registry: ModelRegistry, name: str = BASE) -> Engine:
    with registry.lease(name):
        resident = registry.memory_manager.resident(name)
    assert isinstance(resident, LoadedEngine) and isinstance(resident.engine, Engine)
    return resident.engine


def answer(model: ChatModel, place: str) -> str:
    return "".join(model.stream(question(place), GREEDY, visitor=place))


def test_adapters_come_and_go_while_others_stream(registry: ModelRegistry, adapter: Path) -> None:
    engine = engine_of(registry)
    engine.adapters.add("own", adapter)
    with engine.lease_adapter("own") as tuned:
        models: list[ChatModel] = [engine, tuned, engine, tuned]
        alone = [answer(model, place) for model, place in zip(models, PLACES, strict=True)]
        assert alone[1] != answer(engine, PLACES[1])
        over, rounds = threading.Event(), 0
        with ThreadPoolExecutor(len(models)) as visitors:
            asked = [visitors.submit(answer, model, place) for model, place in zip(models, PLACES, strict=True)]
            visitors_done = threading.Thread(target=lambda: ([one.exception() for one in asked], over.set()))
            visitors_done.start()
            while not over.is_set():
                engine.adapters.add("passing", adapter)
                engine.remove_adapter("passing")
                rounds += 1
            visitors_done.join()
        assert [one.result() for one in asked] == alone and rounds > 1
    engine.remove_adapter("own")


def test_receipts_are_written_beside_streams(registry: ModelRegistry, adapter: Path) -> None:
    engine = engine_of(registry)
    engine.adapters.add("own", adapter)
    with engine.lease_adapter("own") as tuned:
        alone = {
            model.name: (answer(model, "France"), tuned.inspect(question("France"), PARIS)) for model in (engine, tuned)
        }
        scores = tuned.score_tokens(question("France"), PARIS, 2)
        with ThreadPoolExecutor(4) as visitors:
            streams = [(model, visitors.submit(answer, model, "France")) for model in (engine, tuned) * 2]
            receipts = [tuned.inspect(question("France"), PARIS) for _ in range(4)]
            beside = tuned.score_tokens(question("France"), PARIS, 2)
            for model, stream in streams:
                assert stream.result() == alone[model.name][0]
        assert all(one.gap == pytest.approx(alone[tuned.name][1].gap, rel=1e-3) for one in receipts)
        assert [one.logprob for one in beside] == pytest.approx([one.logprob for one in scores], abs=1e-3)
    engine.remove_adapter("own")


def test_a_parked_model_leaves_the_device_and_answers_as_before_when_it_is_back(
    registry: ModelRegistry, adapter: Path
) -> None:
    engine = engine_of(registry)
    engine.adapters.add("own", adapter)
    with engine.lease_adapter("own") as tuned:
        before = [answer(model, "France") for model in (engine, tuned)]
    held = torch.cuda.memory_allocated()
    engine.park()
    assert torch.cuda.memory_allocated() < held / 4
    engine.unpark(DEVICE)
    with engine.lease_adapter("own") as tuned:
        assert [answer(model, "France") for model in (engine, tuned)] == before
    engine.remove_adapter("own")


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_few_bits_take_less_and_still_know_the_capital(registry: ModelRegistry, bits: str) -> None:
    name = f"{PACKAGED}:{bits}"
    with registry.lease(name) as model:
        assert isinstance(model, TokenScoringModel)
        with ThreadPoolExecutor(2) as visitors:
            assert all(visitors.map(lambda place: answer(model, place), PLACES))
        sure = {
            city: sum(one.logprob for one in model.score_tokens(question("France"), f"It is {city}.", 0))
            for city in ("Paris", "Oslo")
        }
    assert sure["Paris"] > sure["Oslo"]
    entry = next(entry for entry in registry.ledger().models if entry.name == name)
    assert entry.mib < entry.full_mib
    registry.unload(name)


def test_answers_are_those_of_generate_with_an_adapter_and_without(
    registry: ModelRegistry, adapter: Path, packaged_folder: Path
) -> None:
    engine, tokenizer = engine_of(registry), AutoTokenizer.from_pretrained(packaged_folder)
    base, over = (
        AutoModelForCausalLM.from_pretrained(packaged_folder, dtype=torch.float32).to(DEVICE).eval() for _ in range(2)
    )
    engine.adapters.add("own", adapter)
    with engine.lease_adapter("own") as tuned:
        for model, reference in ((engine, base), (tuned, PeftModel.from_pretrained(over, adapter).eval())):
            for place in PLACES:
                tokens = model.encode(f"The capital of {place} is")
                ids = torch.tensor([tokens], device=DEVICE)
                with torch.inference_mode():
                    whole = reference.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        do_sample=False,
                        max_new_tokens=GREEDY.max_new_tokens,
                        eos_token_id=-1,
                    )
                expected = tokenizer.decode(whole[0, len(tokens) :], skip_special_tokens=True)
                assert "".join(model.complete(tokens, GREEDY)) == expected
    engine.remove_adapter("own")


def test_in_half_precision_captured_steps_of_flash_attention_pass_the_proof(
    packaged_folder: Path, adapter: Path
) -> None:
    """Which looks at the logits of steps that are replayed."""
    placement = Placement(DEVICE, "float16", None, 6000, packaged_folder.parents[1], host_mib=6000)
    halves = ModelRegistry(placement, BASE)
    try:
        engine = engine_of(halves)
        newer = torch.cuda.get_device_capability() >= AMPERE
        assert engine.options.attention_kind in (("flash", "varlen") if newer else ("library",))
        assert engine.proof() == ""
        engine.adapters.add("own", adapter)
        assert engine.proof() == "", "the base beside an adapter, whose layers are captured anew"
        with ThreadPoolExecutor(32) as visitors:
            answers = list(visitors.map(lambda _: answer(engine, "France"), range(32)))
        assert all("Paris" in one for one in answers)
    finally:
        halves.close()


def test_the_cache_takes_the_rest_of_the_budget_and_makes_room_for_another_model(packaged_folder: Path) -> None:
    placement = Placement(DEVICE, "bfloat16", None, 6000, packaged_folder.parents[1], host_mib=6000)
    alone = ModelRegistry(placement, BASE)
    try:
        engine = engine_of(alone, BASE)
        before, first = answer(engine, "France"), alone.ledger().models[0]
        assert first.mib + first.cache_mib == pytest.approx(6000 - 1500, rel=0.05)
        with alone.lease(f"{PACKAGED}:8bit") as second:
            assert answer(second, "Italy") and answer(engine, "France") == before
        entries = alone.ledger().models
        assert [entry.state for entry in entries] == ["ready", "ready"]
        assert entries[0].cache_mib < first.cache_mib and alone.ledger().used_mib <= 6000
    finally:
        alone.close()
