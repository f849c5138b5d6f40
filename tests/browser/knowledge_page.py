"""The Knowledge page over a model that answers from a script, served once for its browser tests."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from app.knowledge.answer.document_links import document_routes
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Rights
from app.models.interface import Message
from app.web import ui
from app.web.server import login_of
from tests.conftest import Serve
from tests.fakes import FakeModel, FakeRegistry, fake_services
from tests.knowledge.leases import lease_of
from tests.knowledge.words import WordEmbedder

NOTE = "# 第二周\n\n## 量化\n\n4 比特量化把显存降到三成。\n"
QUESTION = "4 比特量化把显存降到多少？"


class Slow(WordEmbedder):
    """Computes nothing before it may."""

    may = Event()

    def passages(self, texts: Any) -> Any:
        assert self.may.wait(60)
        return super().passages(texts)


def script(messages: Any) -> list[str]:
    """From the documents when it is given some, else from memory."""
    turns: list[Message] = list(messages)
    return ["降到三成[1]。", "大象会飞[1]。"] if turns[0]["role"] == "system" else ["我记得", "是一半"]


@pytest.fixture(scope="session")
def knowledge_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its data folder."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def knowledge_service(knowledge_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KnowledgeService]:
    samples = tmp_path_factory.mktemp("samples")
    (samples / "sample.md").write_text("# 示例\n\n温度越高，回答越多样。\n")
    service = KnowledgeService(
        FakeRegistry(FakeModel("tiny", script)),
        knowledge_data,
        embedder="words",
        lease_embedder=lease_of(lambda name: Slow(name) if name == "slow" else WordEmbedder()),
        rights=Rights(guests_index_folders=True),
        samples=samples,
    )
    service.citing.keep("tiny", True, True)
    with closing(service):
        service.start().join()
        yield service


@pytest.fixture(scope="session")
def knowledge_address(serve_session: Serve, knowledge_service: KnowledgeService) -> str:
    """One page for all tests; each is a visitor of its own."""
    blocks = ui.build(fake_services(knowledge_service.registry, knowledge=knowledge_service))
    return serve_session(blocks, app_kwargs={"routes": document_routes(knowledge_service, login_of)})


@pytest.fixture
def visit(knowledge_address: str, open_page: Callable[..., Any]) -> Callable[..., Any]:
    def go(**look: Any) -> Any:
        page = open_page(knowledge_address, **{"locale": "zh-CN"} | look)
        page.locator("[role=tab]").nth(1).click()
        page.get_by_text("sample.md").first.wait_for()
        return page

    return go


def databases(data: Path) -> set[Path]:
    """One for each collection whose files are kept."""
    return set(data.rglob("index.db"))


def make(page: Any, name: str) -> None:
    page.locator("#knowledge-new textarea, #knowledge-new input").first.fill(name)
    page.locator("#knowledge-new textarea, #knowledge-new input").first.press("Enter")
    page.locator("#knowledge-drop").wait_for()
    page.wait_for_function("name => document.querySelector('#knowledge-collection input').value === name", arg=name)


def put_in(page: Any, file: Path) -> None:
    """Drop a file on the open collection and wait until it can be asked."""
    page.locator("#knowledge-drop input[type=file]").set_input_files(file)
    page.locator("#knowledge-files .ready", has_text=file.name).wait_for()


def ask(page: Any, question: str) -> None:
    page.locator("#knowledge-box textarea").fill(question)
    page.locator("#knowledge-box textarea").press("Enter")
