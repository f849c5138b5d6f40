"""A knowledge service on a folder of its own, without a model."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner, Rights
from tests.fakes import FakeRegistry
from tests.knowledge.leases import lease_of
from tests.knowledge.words import WordEmbedder

Start = Callable[..., KnowledgeService]
ANN = Owner("ann")
BOB = Owner("bob")


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def start(tmp_path: Path, embedder: WordEmbedder) -> Iterator[Start]:
    """`start(**settings)` opens the service in the test's data folder; the one before it is closed first."""
    running: list[KnowledgeService] = []

    def open_service(**settings: object) -> KnowledgeService:
        while running:
            running.pop().close()
        options: dict[str, object] = {
            "embedder": "words",
            "lease_embedder": lease_of(lambda name: embedder if name == "words" else WordEmbedder(name)),
            "rights": Rights(frozenset({"ann"})),
        } | settings
        registry = options.pop("registry", None) or FakeRegistry()
        service = KnowledgeService(registry, tmp_path / "data", **options)  # type: ignore[arg-type]
        for chinese in (True, False):  # so that each test's generations are those it asked for
            service.citing.keep("tiny", chinese, True)
        running.append(service)
        return service

    yield open_service
    for service in running:
        service.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A small folder of course notes."""
    folder = tmp_path / "notes"
    (folder / "week1").mkdir(parents=True)
    (folder / "week2").mkdir()
    (folder / "week1" / "notes.md").write_text("# 第一周\n\n## 键值缓存\n\n键值缓存随上下文变长，占用显存。\n")
    (folder / "week2" / "notes.md").write_text("# 第二周\n\n## 量化\n\n4 比特量化把显存降到三成。\n")
    (folder / "gbk.txt").write_bytes("国标编码的文件讲苹果树。".encode("gb18030"))
    return folder


def run(steps: Iterator[IndexingProgress]) -> IndexingProgress:
    """The last progress of a run."""
    return deque(steps, maxlen=1).pop()
