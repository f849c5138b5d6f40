"""/metrics and the log: figures, never what was asked."""

import json
import logging
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from app.models.interface import Message, Sampling
from app.models.registry.metering import Meter
from app.process import log_formatter
from app.web.metrics import Metrics, answer_metrics, log_answer
from tests.fakes import FakeModel, FakeRegistry

ASK: list[Message] = [{"role": "user", "content": "a secret question"}]


def client(metrics: Metrics, key: str, guarded: bool) -> TestClient:
    route = Route("/metrics", lambda request: answer_metrics(metrics, key, guarded, request))
    app = Starlette(routes=[route])
    app.state_holder = SimpleNamespace(session_data={})  # as gradio's application has
    return TestClient(app)


def test_answers_tokens_and_memory_are_counted() -> None:
    registry, meter = FakeRegistry(FakeModel("tiny")), Meter()
    metrics = Metrics(registry, meter)
    with registry.lease("tiny") as model:
        list(meter.model(model).stream(ASK, Sampling()))
        waiting = meter.model(model).stream(ASK, Sampling())
        shown = client(metrics, "", False).get("/metrics").text
        waiting.cancel()
    lines = shown.splitlines()
    assert 'studio_answers_total{finish="stop",model="tiny"} 1.0' in lines
    assert 'studio_tokens_total{kind="prompt",model="tiny"} 3.0' in lines
    assert "studio_answers_running 1.0" in lines
    assert 'studio_memory_mib{kind="chat",name="tiny",state="ready"} 260.0' in lines
    assert 'studio_leases{name="tiny"} 1.0' in lines
    assert "studio_first_token_seconds_count 1.0" in lines


def test_strangers_do_not_see_the_figures() -> None:
    metrics = Metrics(FakeRegistry(), Meter())
    assert client(metrics, "", True).get("/metrics").status_code == 404
    asking = client(metrics, "k", True)
    assert asking.get("/metrics").status_code == 404
    assert asking.get("/metrics", headers={"authorization": "Bearer x"}).status_code == 404
    assert asking.get("/metrics", headers={"authorization": "Bearer k"}).status_code == 200


@pytest.mark.parametrize("asked", [False, True])
def test_a_prompt_is_logged_only_when_the_operator_says_so(caplog: pytest.LogCaptureFixture, asked: bool) -> None:
    meter = Meter(log_prompts=asked)
    meter.observers.append(log_answer)
    with caplog.at_level(logging.INFO):
        list(meter.model(FakeModel("tiny")).stream(ASK, Sampling(), visitor="ada"))
        meter.flush()
    lines = [log_formatter("json").format(record) for record in caplog.records]
    assert any("a secret question" in line for line in lines) is asked
    answer = json.loads(lines[-1])
    assert (answer["model"], answer["completion_tokens"], answer["finish"]) == ("tiny", 5, "stop")
    assert not any("ada" in line for line in lines)
    assert {json.loads(line)["visitor"] for line in lines} == {answer["visitor"]} != {""}
