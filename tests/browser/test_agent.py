"""The agent tab in a real browser: steps, pictures, files, approval, stop."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import expect

from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.probe import Finding
from app.agent.service import AgentService
from app.models.interface import Message
from app.web import ui
from tests.conftest import Serve
from tests.fakes import FakeModel, FakeRegistry, fake_services
from tests.sandbox_fixtures import folders_of
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
]
CHART = "import pandas as pd, matplotlib.pyplot as plt\npd.read_csv('sales.csv').plot(x='month')\nplt.title('销量')"


def code(text: str) -> str:
    return f"```python\n{text}\n```"


class Scene:
    """A page whose model gives the answers put into `answers`."""

    def __init__(self, serve: Serve, service: AgentService) -> None:
        self.answers: list[str] = []
        registry = FakeRegistry(FakeModel("tiny", self.script))
        service.registry = registry
        settings = SimpleNamespace(language="auto", auth="")
        services = fake_services(registry, agent=service, settings=settings)
        self.address = serve(ui.build(services))

    def script(self, _messages: Sequence[Message]) -> Sequence[str]:
        return [self.answers.pop(0)]

    def visit(self, open_page: Callable[..., Any], **how: Any) -> Any:
        page = open_page(self.address, **how)
        page.get_by_role("tab", name="智能体").or_(page.get_by_role("tab", name="Agent")).click()
        return page


@pytest.fixture(scope="module")
def page_of_all(
    serve_module: Serve, sandbox: Sandbox, finding: Finding, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    if finding.mode != "files":
        pytest.skip("needs the sandbox with files")
    service = AgentService(
        FakeRegistry(), tmp_path_factory.mktemp("agent"), finding=finding, sandbox=sandbox, closed_page_seconds=0
    )
    yield Scene(serve_module, service)
    service.close()


@pytest.fixture
def scene(page_of_all: Scene, sandbox: Sandbox) -> Scene:
    page_of_all.answers.clear()
    wait_for(lambda: folders_of(sandbox) == [])  # the visitor before is gone
    return page_of_all


def ask(page: Any, task: str) -> None:
    page.locator("#agent-box textarea").fill(task)
    page.locator("#agent-box textarea").press("Enter")


def saved(page: Any, name: str, task: int) -> str:
    """A file of the list, as the task left it and the browser saves it."""
    page.get_by_role("combobox", name="Files").or_(page.get_by_role("combobox", name="文件")).click()
    page.get_by_role("option", name=f"#{task} · {name}", exact=True).click()
    with page.expect_download() as saving:
        page.locator("#agent-download").click()
    assert saving.value.suggested_filename == name
    return Path(saving.value.path()).read_text()


def test_files_and_pictures_of_each_task_stay_while_the_page_lives(scene: Scene, open_page: Callable[..., Any]) -> None:
    scene.answers += [
        code(CHART),
        code("import pandas as pd\npd.read_csv('sales.csv').to_csv('copy.csv')"),
        "如图所示。",
    ]
    page = scene.visit(open_page, locale="zh-CN")
    page.get_by_text("读取 sales.csv").first.click()
    page.get_by_text("如图所示。").wait_for()
    picture = page.locator("#agent-chat img[src^='data:image/png']")
    assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth > 100 }")
    expect(page.get_by_text("代码 · 完成")).to_have_count(2)
    page.get_by_role("tab", name="对话", exact=True).click()
    page.locator("#language").press("Enter")
    page.get_by_role("tab", name="Agent", exact=True).click()
    assert "tea" in saved(page, "copy.csv", 1)
    scene.answers += [code("open('more.txt', 'w').write('more'); open('copy.csv', 'w').write('anew')"), "written"]
    ask(page, "write more")
    page.get_by_text("written", exact=True).wait_for()
    expect(picture).to_have_count(1)
    expect(page.locator("#agent-chat")).to_contain_text("Files of task #2")
    assert (saved(page, "more.txt", 2), saved(page, "copy.csv", 2)) == ("more", "anew")
    assert "tea" in saved(page, "copy.csv", 1)


def test_an_upload_is_found_and_gone_with_the_page(
    scene: Scene, open_page: Callable[..., Any], sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "数据.txt").write_text("41")
    scene.answers += [code("print(int(open('数据.txt').read()) + 1)"), "done"]
    page = scene.visit(open_page)
    page.locator("#agent-settings input[type=file]").set_input_files(tmp_path / "数据.txt")
    expect(page.locator("#agent-files input")).to_have_value("数据.txt")
    ask(page, "add one")
    page.get_by_text("done", exact=True).last.wait_for()
    expect(page.locator("#agent-chat")).to_contain_text("42")
    assert len(folders_of(sandbox)) == 1
    page.close()
    wait_for(lambda: folders_of(sandbox) == [])


def test_code_waits_for_the_visitor_s_word(scene: Scene, open_page: Callable[..., Any]) -> None:
    scene.answers += [code("print('ran' * 2)"), "finished"]
    page = scene.visit(open_page)
    page.get_by_label("Ask me before running").check()
    ask(page, "run something")
    page.get_by_role("button", name="Run this code").click()
    page.get_by_text("finished").wait_for()
    expect(page.locator("#agent-chat")).to_contain_text("ranran")


def test_stop_ends_running_code(scene: Scene, open_page: Callable[..., Any]) -> None:
    scene.answers += [code("while True: pass"), "never"]
    page = scene.visit(open_page)
    ask(page, "loop")
    page.get_by_text("Code · running").wait_for()
    page.locator("#agent-box textarea").fill("and then?")
    page.locator("#agent-box .stop-button, #agent-box button").last.click()
    page.get_by_text("The task was stopped.", exact=True).wait_for()
    expect(page.locator("#agent-box .submit-button")).to_be_visible()
    expect(page.locator("#agent-box textarea")).to_have_value("and then?")
    page.get_by_text("Code · stopped").wait_for()
    expect(page.get_by_text("Stopped", exact=True)).to_have_count(2)  # the code's box and the task's
    assert page.get_by_text("Problem").count() == 0
    assert page.get_by_text("never").count() == 0


def test_it_fits_a_phone(scene: Scene, open_page: Callable[..., Any]) -> None:
    plot = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('x' * 300)"
    scene.answers += [code(plot), "done it"]
    page = scene.visit(open_page, width=390, height=844)
    ask(page, "wide")
    page.get_by_text("done it").wait_for()
    picture = page.locator("#agent-chat img[src^='data:image/png']")
    shape = (
        "(image) => image.decode().then(() => image.width / image.height * image.naturalHeight / image.naturalWidth)"
    )
    assert picture.evaluate(shape) == pytest.approx(1, abs=0.02), "as it was drawn, not flattened"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_without_a_sandbox_the_page_says_why(serve: Serve, open_page: Callable[..., Any], tmp_path: Path) -> None:
    off = AgentService(FakeRegistry(), tmp_path, finding=Finding("off", (), "这里不行", "not on this kernel"))
    page = Scene(serve, off).visit(open_page)
    page.get_by_text("not on this kernel").wait_for()
    assert page.locator("#agent-box").count() == 0
