"""`/agent` and `/interpreter` over HTTP, and how steps become bubbles."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

from app.agent.conversation import Bounds
from app.agent.kept_files import TaskFiles
from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.libraries import installed
from app.agent.sandbox.probe import Finding
from app.agent.service import AgentService
from app.agent.steps import Exchange, Step
from app.errors import UnknownModel
from tabs.agent import tab as agent
from tabs.agent.bubbles import bubbles_of, plain_steps
from tabs.agent.widgets import draw
from tabs.shell.page import BROWSER_SECRET, Page, Visitor
from tests.fakes import FakeModel, FakeRegistry
from tests.sandbox_fixtures import folders_of

VISITOR = Visitor("en", "li", "s")
Serve = Callable[[gr.Blocks], str]


Running = Callable[..., Client]


def blocks_with(service: AgentService, login: bool) -> gr.Blocks:
    with gr.Blocks() as blocks:
        page = Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))
        agent.build(page, service, service.registry, login=login)
    return blocks


@pytest.fixture
def running(serve: Serve, bare_sandbox: Sandbox, finding: Finding, tmp_path: Path) -> Iterator[Running]:
    """`running(answers, login=False)`: a client of the page with a model that gives these answers."""
    services = []

    def start(*answers: str, login: bool = False) -> Client:
        left = iter(answers)
        model = FakeModel("tiny", lambda _messages: [next(left)])
        service = AgentService(FakeRegistry(model), tmp_path, finding=finding, sandbox=bare_sandbox)
        services.append(service)
        return Client(serve(blocks_with(service, login)), verbose=False, headers={"accept-language": "en-US"})

    yield start
    assert folders_of(bare_sandbox) == [], "an endpoint left its session behind"
    for service in services:
        service.close()


def test_the_page_lists_what_the_sandbox_has(running: Running) -> None:
    shown = str(running().config["components"])
    assert ", ".join(installed()) in shown


def test_agent_streams_its_steps(running: Running) -> None:
    client = running("```python\nprint(6 * 7)\n```", "It is 42.")
    job = client.submit("6 times 7?", api_name="/agent")
    assert job.result() == [
        {"kind": "code", "text": "print(6 * 7)"},
        {"kind": "output", "text": "42"},
        {"kind": "answer", "text": "It is 42."},
    ]
    assert len(job.outputs()) > 2
    parameters = client.view_api(return_format="dict")["named_endpoints"]["/agent"]["parameters"]
    assert [parameter["parameter_name"] for parameter in parameters] == [
        "task",
        "model",
        "max_steps",
        "documents",
        "tools",
    ]


def test_the_step_limit_and_an_empty_task_are_said_in_words(running: Running) -> None:
    client = running("```python\nprint(1)\n```")
    steps = client.predict("x", max_steps=1, api_name="/agent")
    assert steps[-1]["kind"] == "error" and "most steps" in steps[-1]["text"]
    with pytest.raises(Exception, match="write down a task"):
        client.predict(" ", api_name="/agent")


def test_the_interpreter_alone_needs_a_login(running: Running) -> None:
    client = running(login=True)
    assert client.predict("print(1 + 1)", api_name="/interpreter") == [{"kind": "output", "text": "2"}]
    assert "/interpreter" not in running().view_api(return_format="dict")["named_endpoints"]


def test_without_a_sandbox_the_endpoint_says_why(serve: Serve, tmp_path: Path) -> None:
    service = AgentService(FakeRegistry(), tmp_path, finding=Finding("off", (), "没有", "it needs Linux"))
    client = Client(serve(blocks_with(service, True)), verbose=False, headers={"accept-language": "en-US"})
    with pytest.raises(Exception, match="it needs Linux"):
        client.predict("x", api_name="/agent")


def test_code_that_could_not_be_taken_up_waits_still(bare_sandbox: Sandbox, finding: Finding, tmp_path: Path) -> None:
    model = FakeModel("tiny", lambda _: ["```python\nprint(1)\n```"])
    service = AgentService(FakeRegistry(model), tmp_path, finding=finding, sandbox=bare_sandbox)
    with gr.Blocks() as blocks:
        widgets = draw(
            Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET)), service, service.registry
        )
    try:
        for _ in service.run(VISITOR.session, "go", bounds=Bounds(approve=True)):
            pass
        shown: dict[object, object] = {}
        with pytest.raises(UnknownModel):
            for view in agent.decide(service, widgets, True, VISITOR, "nope", "print(1)"):
                shown |= view
        assert shown[widgets.approval] == gr.update(visible=True)
    finally:
        service.close()


def test_steps_fold_and_answers_stand_open() -> None:
    steps = [
        Step("code", "print('```')", "done", 1.234, number=2, total=6),
        Step("output", "```", "done"),
        Step("image", "", "done", image=b"\x89PNG"),
        Step("stopped", "__a__", "stopped", notes={"stopped": {}}),
        Step("answer", "**yes**", "done", notes={"own_words": {}}),
    ]
    steps.insert(0, Step("thought", "First:\n```bash\nls\n```", "done"))
    written = {3: TaskFiles({"a``b.csv": Path("1"), "c\nd": Path("2")}, incomplete=True)}
    earlier, asked, thought, code, output, image, error, answer, files = bubbles_of(
        VISITOR, [Exchange("do it", steps, 3)], written.__getitem__
    )
    assert "last 1 tasks" in earlier["content"][0]["text"]
    assert files["metadata"]["title"] == "Files of task #3"
    assert files["content"][0]["text"].startswith("```text\na``b.csv\nc d\n```\n\nFiles of this task are not kept")
    assert thought["content"][0]["text"] == "First:\n```bash\nls\n```"
    assert (asked["role"], asked["content"][0]["text"]) == ("user", "do it")
    assert code["metadata"] == {"title": "Step 2 of at most 6 · Code · done", "duration": 1.23, "status": "done"}
    assert code["content"][0]["text"] == "````python\nprint('```')\n````"
    assert output["content"][0]["text"].startswith("````text")
    assert "metadata" not in image and image["content"][0]["text"].startswith("![](data:image/png;base64,")
    assert error["metadata"]["title"] == "Stopped"
    assert error["content"][0]["text"] == "```text\n__a__\n```\n\nThe task was stopped."
    assert "metadata" not in answer and "model's own words" in answer["content"][0]["text"]
    assert plain_steps(VISITOR, steps)[5] == {
        "kind": "answer",
        "text": "**yes**",
        "note": "No code computed this answer: these are the model's own words.",
    }
    assert plain_steps(VISITOR, steps)[3]["text"].startswith("data:image/png;base64,")
