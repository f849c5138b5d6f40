"""`/agent` and `/interpreter` over HTTP, and how steps become bubbles."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

from app.agent.sandbox.limits import Limits
from app.agent.sandbox.probe import Finding, probe
from app.agent.service import AgentService
from app.agent.steps import Exchange, Step
from tabs.agent import tab as agent
from tabs.agent.bubbles import bubbles_of, plain_steps
from tabs.shell.page import BROWSER_SECRET, Page, Visitor
from tests.fakes import FakeModel, FakeRegistry

VISITOR = Visitor("en", "li", "s")
Serve = Callable[[gr.Blocks], str]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Open to the user a root server's sandbox becomes, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def blocks_with(service: AgentService, login: bool) -> gr.Blocks:
    with gr.Blocks() as blocks:
        page = Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))
        agent.build(page, service, service.registry, login=login)
    return blocks


@contextmanager
def running(serve: Serve, folder: Path, *answers: str, login: bool = False) -> Iterator[Client]:
    finding = probe()
    if sys.platform != "linux" or finding.mode == "off":
        pytest.skip("no sandbox here")
    left = iter(answers)
    model = FakeModel("tiny", lambda _messages: [next(left)])
    service = AgentService(FakeRegistry(model), folder, limits=Limits(cell_seconds=5), finding=finding)
    try:
        address = serve(blocks_with(service, login))
        yield Client(address, verbose=False, headers={"accept-language": "en-US"})
        assert list((folder / "agent").glob("sessions-*/*")) == [], "an endpoint left its session behind"
    finally:
        service.close()


def test_agent_streams_its_steps(serve: Serve, folder: Path) -> None:
    with running(serve, folder, "```python\nprint(6 * 7)\n```", "It is 42.") as client:
        job = client.submit("6 times 7?", api_name="/agent")
        assert job.result(timeout=60) == [
            {"kind": "code", "text": "print(6 * 7)"},
            {"kind": "output", "text": "42"},
            {"kind": "answer", "text": "It is 42."},
        ]
        assert len(job.outputs()) > 2
        parameters = client.view_api(return_format="dict")["named_endpoints"]["/agent"]["parameters"]
        assert [parameter["parameter_name"] for parameter in parameters] == ["task", "model", "max_steps"]


def test_the_step_limit_is_said_in_words(serve: Serve, folder: Path) -> None:
    with running(serve, folder, "```python\nprint(1)\n```") as client:
        steps = client.predict("x", max_steps=1, api_name="/agent")
        assert steps[-1]["kind"] == "error" and "most steps" in steps[-1]["text"]


def test_an_empty_task_is_refused_in_words(serve: Serve, folder: Path) -> None:
    with running(serve, folder) as client, pytest.raises(Exception, match="write down a task"):
        client.predict(" ", api_name="/agent")


def test_the_interpreter_alone_needs_a_login(serve: Serve, folder: Path) -> None:
    with running(serve, folder / "a", login=True) as client:
        assert client.predict("print(1 + 1)", api_name="/interpreter") == [{"kind": "output", "text": "2"}]
    with running(serve, folder / "b") as client:
        assert "/interpreter" not in client.view_api(return_format="dict")["named_endpoints"]


def test_without_a_sandbox_the_endpoint_says_why(serve: Serve, tmp_path: Path) -> None:
    service = AgentService(FakeRegistry(), tmp_path, finding=Finding("off", (), "没有", "it needs Linux"))
    client = Client(serve(blocks_with(service, True)), verbose=False, headers={"accept-language": "en-US"})
    with pytest.raises(Exception, match="it needs Linux"):
        client.predict("x", api_name="/agent")


def test_steps_fold_and_answers_stand_open() -> None:
    steps = [
        Step("code", "print('```')", "done", 1.234),
        Step("output", "```", "done"),
        Step("image", "", "done", image=b"\x89PNG"),
        Step("error", "stopped", "failed"),
        Step("answer", "**yes**", "done"),
    ]
    asked, code, output, image, error, answer = bubbles_of(VISITOR, [Exchange("do it", steps)])
    assert (asked["role"], asked["content"][0]["text"]) == ("user", "do it")
    assert code["metadata"] == {"title": "Code · done", "duration": 1.23, "status": "done"}
    assert code["content"][0]["text"] == "````python\nprint('```')\n````"
    assert output["content"][0]["text"].startswith("````text")
    assert "metadata" not in image and image["content"][0]["text"].startswith("![](data:image/png;base64,")
    assert error["content"][0]["text"] == "Stopped."
    assert "metadata" not in answer
    assert plain_steps(VISITOR, steps)[2]["text"].startswith("data:image/png;base64,")
