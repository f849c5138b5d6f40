"""Where a model is here as a GGUF file too, it chats by llama.cpp; what needs its weights gets them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.chat.request import ChatRequest, tuned_of
from app.chat.service import ChatService
from app.models.backends.llama_cpp.model import LlamaModel
from app.models.interface import InspectableModel, Message, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.engine.adapter_batches import save_adapter

NAME = "smollm2-135m"
GREEDY = Sampling(temperature=0, max_new_tokens=12)
FRANCE: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def registry(packaged_folder: Path) -> Iterator[ModelRegistry]:
    where = Placement("cpu", "bfloat16", None, 4000, packaged_folder.parents[1], prefers_gguf=True)
    registry = ModelRegistry(where, NAME)
    yield registry
    registry.close()


def engines(registry: ModelRegistry) -> dict[str, str]:
    return {entry.name: entry.engine for entry in registry.ledger().models}


def holders(registry: ModelRegistry) -> tuple[int, int]:
    """Of the file, and of the weights."""
    leases = {entry.name: entry.leases for entry in registry.ledger().models}
    return leases[NAME], leases[f"{NAME}:full"]


def test_it_chats_by_llama_cpp_and_is_inspected_by_its_weights(
    registry: ModelRegistry, tmp_path: Path, packaged_folder: Path
) -> None:
    from transformers import AutoModelForCausalLM

    with registry.lease(NAME) as model:
        assert "".join(model.stream(FRANCE, GREEDY))
        begun: Message = {"role": "assistant", "content": "The capital of France is Par", "begun": True}
        assert "".join(model.stream([*FRANCE, begun], GREEDY)).startswith("is")
        assert not isinstance(model, InspectableModel)
    assert engines(registry) == {NAME: "llama.cpp"}

    base = AutoModelForCausalLM.from_pretrained(packaged_folder)
    registry.add_adapter(f"{NAME}+tuned", save_adapter(base, tmp_path, seed=1, target_modules=["q_proj"]))
    with registry.lease(NAME, full_weights=True) as full, registry.lease(f"{NAME}+tuned") as tuned:
        assert (full.name, tuned.name) == (NAME, f"{NAME}+tuned")
        assert isinstance(full, InspectableModel) and isinstance(tuned, InspectableModel)
        assert full.inspect(FRANCE, "Paris").gap == 0 < tuned.inspect(FRANCE, "Paris").gap
        assert registry.names()[:2] == [NAME, f"{NAME}+tuned"], "its weights are no other model"
        pair = ChatRequest("Which?", model=NAME, sampling=GREEDY, tuned=tuned_of([NAME, f"{NAME}+tuned"]))
        held = {holders(registry) for _ in ChatService(registry).reply(pair)}
        assert (0, 3) in held and (1, 2) not in held, "by the engine that the tuned one answers by, in its batch"
        assert (1, 2) in {holders(registry) for _ in ChatService(registry).reply(replace(pair, tuned=""))}
    assert engines(registry) == {NAME: "llama.cpp", f"{NAME}:full": "torch"}
    assert registry.for_visitor("ada").ledger().models[1].adapters == ("tuned",)
    registry.remove_adapter(f"{NAME}+tuned")
    registry.unload(NAME)
    registry.add_adapter(f"{NAME}:4bit+tuned", tmp_path, "lin")
    with registry.lease(f"{NAME}:4bit+tuned") as tuned:
        assert isinstance(tuned, InspectableModel) and tuned.inspect(FRANCE, "Paris").gap > 0
        assert tuned.name == f"{NAME}:4bit+tuned", "which of the two it is"
        assert registry.names()[:2] == [NAME, f"{NAME}:4bit+tuned"], "its rounded base is no other model"
    assert engines(registry) == {f"{NAME}:int4": "torch"}
    registry.remove_adapter(f"{NAME}:4bit+tuned")
    registry.unload(f"{NAME}:int4")
    assert registry.ledger().models == ()


def test_names_folders_and_sizes_are_those_of_one_model(registry: ModelRegistry) -> None:
    assert registry.folder(NAME).joinpath("model.safetensors").is_file(), "training reads the weights"
    assert registry.specs.chosen(f"{NAME}:4bit").name == NAME
    assert registry.specs.chosen(f"{NAME}:full").name == f"{NAME}:full"
    with registry.lease(f"{NAME}:4bit", full_weights=True) as model:
        assert isinstance(model, LlamaModel) or engines(registry) == {NAME: "llama.cpp"}, "who names a precision has it"
    assert registry.fit(NAME).needed_mib < registry.fit(f"{NAME}:full").needed_mib
