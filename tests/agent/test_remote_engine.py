"""The agent over a capable model that another machine serves: the same page, its code in the real sandbox."""

import threading
from collections.abc import Callable, Iterator

import gradio as gr
import pytest
from gradio_client import Client

from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.probe import Finding
from app.agent.service import AgentService
from app.models.backends.openai_server.address import EngineAddress
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tabs.agent import tab as agent
from tabs.shell.page import BROWSER_SECRET, Page
from tests.far_server import ENDLESS, FarServer, far_server

Serve = Callable[[gr.Blocks], str]
LOOKS_FIRST = "I look at the squares first.\n```python\nsquares = [n * n for n in range(1, 8)]\nprint(squares)\n```"
THEN_ADDS = "Now their sum.\n```python\nprint(sum(squares))\n```"
ANSWERS = [
    [r"^Output:\n\[1, 4, 9, 16, 25, 36, 49\]", THEN_ADDS],
    [r"^Output:\n140", "The sum of the first seven squares is 140."],
    ["squares", LOOKS_FIRST],
    ["for ever", ENDLESS],
]


@pytest.fixture(scope="module")
def far() -> Iterator[FarServer]:
    with far_server(models=[{"id": "capable", "max_model_len": 8192}], answers=ANSWERS) as server:
        yield server


@pytest.fixture(scope="module")
def service(
    far: FarServer, sandbox: Sandbox, finding: Finding, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentService]:
    folder = tmp_path_factory.mktemp("data")
    engines = {"far": EngineAddress("far", (far.url,))}
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, folder), "far", engines=engines)
    service = AgentService(registry, folder, finding=finding, sandbox=sandbox)
    yield service
    service.close()
    registry.close()


def test_the_page_solves_a_task_over_it(serve: Serve, service: AgentService, far: FarServer) -> None:
    with gr.Blocks() as blocks:
        page = Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))
        agent.build(page, service, service.registry)
    client = Client(serve(blocks), verbose=False, headers={"accept-language": "en-US"})
    steps = client.submit("Add the first seven squares.", model="far", api_name="/agent").result()
    assert [(step["kind"], step["text"]) for step in steps] == [
        ("thought", "I look at the squares first."),
        ("code", "squares = [n * n for n in range(1, 8)]\nprint(squares)"),
        ("output", "[1, 4, 9, 16, 25, 36, 49]"),
        ("thought", "Now their sum."),
        ("code", "print(sum(squares))"),
        ("output", "140"),
        ("answer", "The sum of the first seven squares is 140."),
    ]
    assert [body["model"] for body in far.seen()["bodies"][-3:]] == ["capable"] * 3
    far.until(open=0)


def test_its_stop_reaches_the_far_engine(service: AgentService, far: FarServer) -> None:
    running = service.run("s", "Go on for ever.", "far")
    for steps in running:
        if steps and "more" in steps[-1].text:
            break
    ended = threading.Thread(target=lambda: list(running))
    ended.start()
    service.stop("s")
    far.until(open=0)
    ended.join(120)
    assert not ended.is_alive()
