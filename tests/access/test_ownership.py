"""Two logins on one server: each sees and uses the bases, what belongs to the server, and what is their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from gradio_client import Client
from transformers import AutoModelForCausalLM

from app.access.identity import Guest, server
from app.models.registry.registry import ModelRegistry
from app.services import Services, build_services
from app.settings import Settings
from app.web import ui
from tests.conftest import Serve
from tests.models.engine.adapter_batches import save_adapter
from tests.real_server import StudioData

BASE = "smollm2-135m"
HERS, NOBODYS, GIVEN = f"{BASE}+hers", f"{BASE}+nobodys", f"{BASE}+given"
LOGINS = [("ada", "one"), ("lin", "two")]
ASK: dict[str, dict[str, Any]] = {
    "/chat": {"message": "Hi", "max_new_tokens": 2},
    "/story": {"premise": "A cat.", "length": 50},
    "/ask": {"question": "Hi", "use_documents": False},
    "/agent": {"task": "Hi", "max_steps": 1},
    "/evaluate": {"tasks": ["short-answers-en"]},
    "/compare": {"message": "Hi", "left": BASE, "max_new_tokens": 2},
    "/finetune": {"name": "more", "data": [{"instruction": "Hi", "output": "Ho"}]},
}
NAMED = {"/compare": "right", "/evaluate": "models", "/finetune": "base"}


@pytest.fixture(scope="module")
def services(packaged_folder: Path, studio_data: StudioData) -> Iterator[Services]:
    """Ada has an adapter, and one belongs to the server."""
    data = studio_data("owned")
    services = build_services(Settings(data=data, device="cpu", auth="ada:one", model=BASE))
    base = AutoModelForCausalLM.from_pretrained(packaged_folder, dtype=torch.float32).eval()
    folder = save_adapter(base, data / "adapter", 3, 0.05, r=2, target_modules=["q_proj"])
    services.registry.add_adapter(HERS, folder, "ada")
    services.registry.add_adapter(f"{HERS}@2", folder, "ada")
    services.registry.add_adapter(GIVEN, folder, server("terminal"))
    yield services
    services.close()


@pytest.fixture(scope="module")
def address(services: Services, serve_module: Serve) -> str:
    blocks: gr.Blocks = ui.build(services)
    return serve_module(blocks, auth=LOGINS)


def client(address: str, login: int) -> Client:
    return Client(address, verbose=False, auth=LOGINS[login], headers={"accept-language": "en"})


def refusal(of: Client, endpoint: str, model: str) -> str:
    """What it says, the model's own name left out."""
    inputs = {**ASK[endpoint], NAMED.get(endpoint, "model"): [model] if endpoint == "/evaluate" else model}
    with pytest.raises(Exception) as refused:
        of.predict(**inputs, api_name=endpoint)
    return str(refused.value).replace(model, "M")


def test_another_s_model_is_as_if_it_were_not_there(address: str, services: Services) -> None:
    lin = client(address, 1)
    for endpoint in ASK:
        if endpoint == "/agent" and not services.agent.available:
            continue
        said = {refusal(lin, endpoint, model) for model in (HERS, f"{HERS}@2", NOBODYS)}
        assert len(said) == 1, endpoint
        assert "There is no model named M" in said.pop(), endpoint
    assert not [m for m in lin.predict(api_name="/models")["models"] if "hers" in str(m)]


def test_one_s_own_and_the_server_s_are_used(address: str) -> None:
    ada, lin = client(address, 0), client(address, 1)
    for one, model in ((ada, HERS), (ada, f"{HERS}@2"), (ada, GIVEN), (lin, GIVEN)):
        assert isinstance(one.predict(**ASK["/chat"], model=model, api_name="/chat"), str)
    assert ada.predict(**ASK["/compare"], right=HERS, api_name="/compare")[2]

    def adapters(of: Client) -> list[str]:
        return sorted(name for m in of.predict(api_name="/models")["models"] for name in m["adapters"])

    assert adapters(ada) == ["given", "hers"], "checkpoints are not listed"
    assert adapters(lin) == ["given"]
    refusal(lin, "/chat", HERS)  # it is loaded now, which changes nothing


def test_lists_and_every_question_about_a_model_keep_to_it(services: Services) -> None:
    registry = services.registry

    def tuned(visitor: str) -> list[str]:
        return [name for name in registry.for_visitor(visitor).names() if "+" in name]

    for visitor in ("lin", "", "server:terminal", Guest("server:terminal")):
        assert tuned(visitor) == [GIVEN], repr(visitor)
    for visitor in ("ada", server("terminal")):
        assert tuned(visitor) == [HERS, GIVEN]
    lin = registry.for_visitor("lin")
    for ask in (lin.load, lin.unload, lin.fit, lin.is_multimodal, lambda name: lin.lease(name).__enter__()):
        said = set()
        for name in (HERS, NOBODYS):
            with pytest.raises(Exception, match="no model named") as refused:
                ask(name)
            said.add(str(refused.value).replace(name, "M"))
        assert len(said) == 1
    with pytest.raises(Exception, match="no model named"), registry.lease(HERS):
        pass  # who asks without saying for whom gets nobody's


def test_without_logins_on_one_s_own_machine_all_is_there(services: Services, tmp_path: Path) -> None:
    registry = ModelRegistry(services.registry.placement, services.registry.default_name, private=False)
    registry.add_adapter(HERS, tmp_path, "ada")
    registry.add_adapter(GIVEN, tmp_path)
    assert [name for name in registry.for_visitor("lin").names() if "+" in name] == [HERS, GIVEN]
    registry.close()
