"""On an accelerator: adapters and receipts beside streams, parking, 8 and 4 bits, graphs (`make check-gpu`)."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.models.catalog.known_models import PACKAGED
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


def test_replayed_graphs_write_what_single_steps_write(registry: ModelRegistry, adapter: Path) -> None:
    engine = engine_of(registry)
    recorded = replace(GREEDY, top_logprobs=1)  # a step whose logits are read is never replayed
    engine.adapters.add("own", adapter)
    with engine.lease_adapter("own") as tuned:
        for model in (engine, tuned):
            for place in PLACES:
                assert answer(model, place) == "".join(model.stream(question(place), recorded))
    engine.remove_adapter("own")
