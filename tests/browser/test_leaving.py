"""A page is closed in the middle of everything: nothing of its session is left on the server."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from gradio_client import Client
from PIL import Image
from playwright.sync_api import Page, expect

from app.access.session_limits import SessionLimits
from app.access.upload_limits import gate
from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.probe import Finding
from app.agent.service import AgentService
from app.web import ui
from app.web.server import login_of
from tests.fakes import FakeModel, FakeRegistry, fake_services
from tests.waiting import wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def registry() -> FakeRegistry:
    """Its model writes a long answer slowly, and sees."""
    return FakeRegistry(
        FakeModel(
            "tiny",
            lambda _: [f"word{place} " for place in range(10_000)],
            gate=threading.Semaphore(5),
            is_multimodal=True,
        )
    )


@pytest.fixture
def agent(registry: FakeRegistry, sandbox: Sandbox, finding: Finding, tmp_path: Path) -> Iterator[AgentService]:
    if finding.mode != "files":
        pytest.skip("needs the sandbox with files")
    service = AgentService(registry, tmp_path, finding=finding, sandbox=sandbox, closed_page_seconds=0)
    yield service
    service.close()


def test_closing_the_page_frees_everything(
    serve: Callable[..., str],
    open_page: Callable[..., Page],
    registry: FakeRegistry,
    agent: AgentService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uploads = tmp_path / "uploads"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    settings = SimpleNamespace(language="auto", auth="")
    blocks = ui.build(fake_services(registry, agent=agent, settings=settings))
    address = serve(blocks, app_kwargs={"middleware": [gate(0, login_of)]})
    program = Client(address, verbose=False)
    idle = processes()
    page = open_page(address)

    def attach(button: str, file: Path) -> None:
        with page.expect_file_chooser() as chooser:
            page.locator(button).click()
        chooser.value.set_files(file)

    Image.new("RGB", (400, 200), "teal").save(tmp_path / "photo.jpg")
    attach("#chat-attach", tmp_path / "photo.jpg")
    expect(page.locator("#chat-tray img")).to_have_count(1)
    page.get_by_role("tab", name="Agent").click()
    (tmp_path / "sales.csv").write_text("month,sales\n1,2\n")
    attach("#agent-upload", tmp_path / "sales.csv")
    expect(page.locator("#agent-files input")).to_have_value("sales.csv")
    assert files(uploads), "the agent's upload is there for a moment yet"
    page.get_by_role("tab", name="Chat").click()
    page.locator("#chat-box textarea").fill("A long story, please")
    page.locator("#chat-box textarea").press("Enter")
    expect(page.locator("#chatbot [data-testid=bot]").first).to_contain_text("word")
    assert leases(program) == 1
    assert processes() > idle
    assert any("Album" in str(type(value)) for value in kept(blocks))
    page.close()
    wait_for(lambda: leases(program) == 0)
    assert registry.models["tiny"].generations[0].cancelled.is_set()
    wait_for(lambda: processes() <= idle)
    wait_for(lambda: not files(uploads))
    wait_for(lambda: not kept(blocks))


def test_a_page_whose_session_was_forgotten_goes_on_as_the_same_visitor(
    serve: Callable[..., str], open_page: Callable[..., Page]
) -> None:
    """As after a connection that was away for longer than the server keeps a session."""
    model = FakeModel("tiny")
    blocks = ui.build(fake_services(FakeRegistry(model)))
    page = open_page(serve(blocks))
    page.locator("#language").click()
    page.locator("html[data-studio-ready=zh]").wait_for(state="attached")
    for question in ("first", "second"):
        page.locator("#chat-box textarea").fill(question)
        page.locator("#chat-box textarea").press("Enter")
        expect(page.locator("#chatbot")).to_contain_text(f"You said: {question}")
        expect(page.locator("#chatbot")).to_contain_text(re.compile(f"You said: {question}.*token", re.DOTALL))
        expect(page.locator("#chat-box .submit-button")).to_be_visible()  # the event is over
        blocks.state_holder.session_data.clear()
    assert [message["content"] for message in model.prompts[1][0]] == ["first", "You said: first", "second"]
    assert model.prompts[0][2] == model.prompts[1][2], "the visitor has kept its name"
    expect(page.locator("#chatbot")).to_contain_text("个 token")
    expect(page.locator("#chatbot")).not_to_contain_text("tokens")


def test_one_visitor_s_pages_and_uploads_have_their_limits(
    serve: Callable[..., str], open_page: Callable[..., Page], registry: FakeRegistry, tmp_path: Path
) -> None:
    blocks = ui.build(fake_services(registry, sessions=SessionLimits(1)))
    address = serve(blocks, app_kwargs={"middleware": [gate(1, login_of)]})
    Image.new("RGB", (400, 200), "teal").save(tmp_path / "small.jpg")
    Image.effect_noise((1500, 1500), 90).save(tmp_path / "large.png")
    first = open_page(address)

    def attach(page: Page, name: str) -> None:
        with page.expect_file_chooser() as chooser:
            page.locator("#chat-attach").click()
        chooser.value.set_files(tmp_path / name)

    attach(first, "large.png")
    expect(first.locator(".toast-body")).to_contain_text("You may upload 1 MB in an hour")
    first.locator("#language").click()
    first.locator("html[data-studio-ready=zh]").wait_for(state="attached")
    attach(first, "large.png")
    expect(first.locator(".toast-body").last).to_contain_text("每小时最多上传 1 MB")
    first.locator("#language").click()
    first.locator("html[data-studio-ready=en]").wait_for(state="attached")
    attach(first, "small.jpg")
    expect(first.locator("#chat-tray img")).to_have_count(1)
    second = first.context.new_page()
    second.goto(address)
    second.locator("html[data-studio-ready]").wait_for(state="attached")
    attach(second, "small.jpg")
    expect(second.locator(".toast-body")).to_contain_text("1 of your pages hold files")
    first.close()
    for _ in range(60):  # the server hears of it a little later
        attach(second, "small.jpg")
        second.wait_for_timeout(500)
        if second.locator("#chat-tray img").count():
            break
    expect(second.locator("#chat-tray img")).to_have_count(1)


def leases(program: Client) -> int:
    return sum(model["leases"] for model in program.predict(api_name="/models")["models"])


def processes() -> int:
    """Those of the sandbox: its warm parent forks one for each session."""
    return sum("python" in child.name() for child in psutil.Process().children(recursive=True) if alive(child))


def alive(child: psutil.Process) -> bool:
    return child.is_running() and child.status() != psutil.STATUS_ZOMBIE


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def kept(blocks: Any) -> list[Any]:
    """What is held of any session that was a page's."""
    states = list(blocks.state_holder.session_data.values())  # sessions come and go meanwhile
    return [value for state in states for value in list(state.state_data.values()) if value]
