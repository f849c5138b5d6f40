"""Tools of MCP servers for the agent: a real server process, its calls as steps, and every way in which it fails."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.agent.conversation import Bounds
from app.agent.errors import ToolStopped
from app.agent.mcp_tools import McpServer, McpTools, ToolTooSlow, ToolUnreachable, read_servers
from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.probe import Finding
from app.agent.service import AgentService
from app.agent.steps import Step
from app.errors import SettingsError
from app.paths import ROOT
from app.settings import read_settings
from tests.agent.scripted import python, scripted, told
from tests.fakes import FakeModel, FakeRegistry
from tests.waiting import wait_for

COMMAND = f"{sys.executable} -m tests.agent.mcp_stub"
TOOLS = Bounds(tools=True)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> McpTools:
    """With a server that does not start beside the one that does."""
    given = [f"shop={COMMAND}", f"broken={COMMAND} fail"]
    return McpTools(read_servers(given), tmp_path_factory.mktemp("tools"), call_seconds=15)


@pytest.fixture
def service(bare_sandbox: Sandbox, finding: Finding, tmp_path: Path, servers: McpTools) -> Iterator[AgentService]:
    made = AgentService(FakeRegistry(), tmp_path, finding=finding, sandbox=bare_sandbox, servers=servers)
    yield made
    made.close()


def run(service: AgentService, model: FakeModel, bounds: Bounds = TOOLS) -> list[Step]:
    service.registry = FakeRegistry(model)
    return list(service.run("me", "task", "", bounds))[-1]


def test_a_call_is_a_step_and_its_result_goes_to_the_model(service: AgentService) -> None:
    call = '<tool_call>{"name": "price", "arguments": {"thing": "tea", "count": 2}}</tool_call>'
    model = scripted(call, python("print(62 * 2)"), python('shop_search_documents("tea")'), "124 euros.")
    missing, *steps = run(service, model)
    assert missing.kind == "error" and "broken" in missing.text
    assert [(step.kind, step.text) for step in steps] == [
        ("code", "price(thing='tea', count=2)"),
        ("output", "2 x tea: 62 euros"),
        ("code", "print(62 * 2)"),
        ("output", "124"),
        ("code", 'shop_search_documents("tea")'),
        ("output", "stub found tea"),
        ("answer", "124 euros."),
    ]
    assert "shop" in steps[0].notes_in("en") and not steps[2].notes
    offered = told(model, 0)[0]["content"]
    assert (
        "price(thing, count): The price of a thing" in offered and "shop_search_documents(words): (braces)" in offered
    )


def test_a_call_waits_for_the_visitors_word(service: AgentService) -> None:
    model = scripted(python('price("tea")'), "31 euros.")
    steps = run(service, model, Bounds(tools=True, approve=True))
    assert steps[-1].state == "waiting" and service.waiting("me") == 'price("tea")'
    steps = list(service.approve("me", True, code='price("tea", count=3)'))[-1]
    assert "3 x tea: 93 euros" in [step.text for step in steps]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('price("air")', "nobody sells air"),
        ('price("stub")', "mcp_stub.py is not for sale"),
        ("vanish()", "cannot be started or reached"),
    ],
)
def test_a_server_that_fails_is_a_sentence_and_the_task_goes_on(service: AgentService, call: str, said: str) -> None:
    model = scripted(python(call), "It failed.")
    steps = run(service, model)
    assert [step.kind for step in steps[-3:]] == ["code", "error", "answer"] and said in steps[-2].text
    assert said in told(model, 1)[-1]["content"] and "Traceback" not in steps[-2].text
    assert str(ROOT) not in steps[-2].text


def test_a_server_that_hangs_is_left_after_its_time_or_when_stopped(tmp_path: Path) -> None:
    tools = McpTools([McpServer("shop", COMMAND)], tmp_path, call_seconds=3)
    hang = next(tool for tool in tools.tools()[0] if tool.name == "hang")
    with pytest.raises(ToolTooSlow, match="within 3 seconds"):
        hang.run({}, lambda: False)
    with pytest.raises(ToolStopped):
        hang.run({}, lambda: True)


def test_a_server_at_an_address_is_asked_and_missed_once_it_is_gone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tools = McpTools([McpServer("far", f"http://127.0.0.1:{port}/mcp")], tmp_path)
    process = subprocess.Popen([*COMMAND.split(), str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: not tools.tools()[1])
        price = next(tool for tool in tools.tools()[0] if tool.name == "price")
        assert price.run({"thing": "tea"}, lambda: False) == "1 x tea: 31 euros"
    finally:
        process.kill()
        process.wait()
    with pytest.raises(ToolUnreachable):
        price.run({"thing": "tea"}, lambda: False)


def test_no_tools_without_the_visitors_leave(service: AgentService) -> None:
    model = scripted(python('price("tea")'), "none")
    steps = run(service, model, Bounds())
    assert "NameError" in steps[1].text and "price(" not in told(model, 0)[0]["content"]


@pytest.mark.parametrize("given", ["shop", "=x", "a b=x", "shop="])
def test_a_setting_that_names_no_server_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(SettingsError, match="NAME=COMMAND"):
        read_servers([given])


def test_several_servers_can_be_given() -> None:
    settings = read_settings(["--agent-tools", "a=run me --now", "--agent-tools", "b=https://b.example/mcp"], {})
    assert [server.where for server in read_servers(settings.agent_tools)] == ["run me --now", "https://b.example/mcp"]
