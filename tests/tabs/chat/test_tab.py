"""The `/chat` and `/models` endpoints as a program uses them."""

import threading
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client

from app.web import ui
from tests.fakes import FakeModel, FakeRegistry, fake_services
from tests.waiting import wait_for


def connect(address: str, language: str = "en") -> Client:
    return Client(address, verbose=False, headers={"accept-language": language})


@pytest.fixture(scope="module")
def registry() -> FakeRegistry:
    return FakeRegistry(budget_mib=400)


@pytest.fixture(autouse=True)
def model(registry: FakeRegistry) -> FakeModel:
    registry.reset(FakeModel("tiny"), FakeModel("other"))
    return registry.models["tiny"]


@pytest.fixture(scope="module")
def address(serve_module: Callable[[gr.Blocks], str], registry: FakeRegistry) -> str:
    return serve_module(ui.build(fake_services(registry)))


def test_only_the_promised_endpoints_are_public(address: str) -> None:
    endpoints = connect(address).view_api(return_format="dict")["named_endpoints"]
    names = [parameter["parameter_name"] for parameter in endpoints["/chat"]["parameters"]]
    assert set(endpoints) == {"/chat", "/models"}
    assert names == ["message", "history", "model", "system", "temperature", "top_p", "max_new_tokens", "seed"]


def test_the_answer_streams_as_the_text_so_far(address: str) -> None:
    job = connect(address).submit("hello to you", api_name="/chat")
    assert job.result() == "You said: hello to you"
    assert all("You said: hello to you".startswith(text) for text in job.outputs())


def test_history_and_settings_reach_the_model(address: str, model: FakeModel) -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    connect(address).predict(
        "c", history, system="s", temperature=0, top_p=0.5, max_new_tokens=9, seed=4, api_name="/chat"
    )
    messages, sampling, visitor = model.prompts[0]
    assert [turn["content"] for turn in messages] == ["s", "a", "b", "c"]
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens, sampling.seed) == (0, 0.5, 9, 4)
    assert visitor


def test_two_at_once_and_one_stops(address: str, model: FakeModel) -> None:
    model.gate = threading.Semaphore(2)
    stopping, staying = connect(address), connect(address)
    stopped = stopping.submit("first of all", api_name="/chat")
    kept = staying.submit("second of all", api_name="/chat")
    wait_for(lambda: len(model.generations) == 2 and bool(stopped.outputs()))
    first = next(g for g in model.generations if "first" in "".join(g.pieces))
    stopped.cancel()
    assert first.cancelled.wait(120)
    model.gate.release(20)
    assert kept.result() == "You said: second of all"
    assert first.completion_tokens < len(first.pieces)
    assert len({visitor for _, _, visitor in model.prompts}) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"message": " "}, "The message is empty"),
        ({"message": "x" * 1_000_000}, "1000000 characters"),
        ({"message": "hi", "model": "nope"}, "no model named nope"),
        ({"message": "hi", "history": [{"role": "robot", "content": "x"}]}, "Message 1 of the history"),
        ({"message": "hi", "temperature": 9}, "temperature cannot be 9"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(address: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        connect(address).predict(**arguments, api_name="/chat")


def test_refusals_speak_the_caller_s_language(address: str) -> None:
    with pytest.raises(Exception, match="消息是空的"):
        connect(address, "zh-CN").predict("", api_name="/chat")


def test_the_ledger_as_plain_json(address: str) -> None:
    client = connect(address)
    assert client.predict(api_name="/models") == {"budget_mib": 400, "used_mib": 0, "models": []}
    client.predict("hi", api_name="/chat")
    assert client.predict(api_name="/models")["models"] == [
        {
            "name": "tiny",
            "kind": "chat",
            "state": "ready",
            "device": "cpu",
            "mib": 260,
            "full_mib": 0,
            "drift": None,
            "adapters": [],
            "leases": 0,
        }
    ]
