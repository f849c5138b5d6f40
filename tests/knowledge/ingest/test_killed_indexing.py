"""A process that indexes is killed at every step of publishing: afterwards all versions are whole."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.service import KnowledgeService
from tests.knowledge.conftest import ANN, Start, run
from tests.knowledge.ingest.test_indexing import consistent

# Where a child kills itself: before or after the n-th call of a method of the three stores and the two workers.
POINTS = [
    "app.knowledge.ingest.conversion_worker:Converter.__call__ after 1",
    "tests.knowledge.words:WordEmbedder.passages before 2",
    "app.knowledge.store.database:Database.begin before 1",
    "app.knowledge.store.database:Database.begin after 1",
    "app.knowledge.store.vectors:VectorIndex.add after 1",
    "app.knowledge.store.database:Database.publish before 2",
    "app.knowledge.store.database:Database.publish after 2",
    "app.knowledge.store.vectors:VectorIndex.remove before 1",
    "app.knowledge.store.vectors:VectorIndex.remove after 1",
    "app.knowledge.store.database:Database.cleared after 1",
]
NURSERY = """
import importlib, os, signal, sys
from pathlib import Path
import chromadb  # as everything else here: once for all children
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner, Rights
from tests.fakes import FakeRegistry
from tests.knowledge.leases import lease_of
from tests.knowledge.words import WordEmbedder

def die_at(place, when, count):
    module, name = place.split(":")
    owner, method = name.split(".")
    owner = getattr(importlib.import_module(module), owner)
    inner, left = getattr(owner, method), [int(count)]
    def wrapped(*arguments, **named):
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*arguments, **named)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, method, wrapped)

print("open", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else "ended", flush=True)
        continue
    die_at(*line.split())
    service = KnowledgeService(FakeRegistry(), Path(sys.argv[1]), embedder="words",
        lease_embedder=lease_of(lambda name: WordEmbedder()), rights=Rights(frozenset({"ann"})))
    for progress in service.index_folder(Owner("ann"), "course", Path(sys.argv[2])):
        pass
    os._exit(0)
"""
FILES = 40
PASSAGES = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture
def nursery(tmp_path: Path, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has imported all and for each line forks a child, which indexes the folder and dies there."""
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(tmp_path / "data"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_kill_minus_nine_at_every_step_of_publishing(
    start: Start, folder: Path, nursery: "subprocess.Popen[str]"
) -> None:
    assert nursery.stdin is not None and nursery.stdout is not None
    run(service_of(start, folder))
    for generation, point in enumerate(POINTS, 1):
        write_versions(folder, generation)
        nursery.stdin.write(f"{point}\n")
        nursery.stdin.flush()
        assert nursery.stdout.readline() == "killed\n", point
        looking = start()
        assert_whole(looking)
        looking.close()
    service = start()
    run(service.index_folder(ANN, "course", folder))
    assert_whole(service)
    files = service.files(ANN, "course")
    assert len(files) == FILES
    assert {(file.state, file.passages) for file in files} == {("ready", PASSAGES)}
    hits = service.search(ANN, "course", f"subject0 generation{len(POINTS)}", k=50)
    assert {hit.passage.number for hit in hits if hit.passage.path == "0.md"} == set(range(PASSAGES))


def service_of(start: Start, folder: Path) -> Iterator[IndexingProgress]:
    """The first version of every file indexed, so that all later ones replace one."""
    write_versions(folder, 0)
    service = start()
    yield from service.index_folder(ANN, "course", folder)
    service.close()


def write_versions(folder: Path, generation: int, of: range = range(FILES)) -> None:
    for number in of:
        sections = [
            f"# Part {part}\n\nsubject{number} generation{generation} part{part}\n\n" for part in range(PASSAGES)
        ]
        (folder / f"{number}.md").write_text("".join(sections))


def assert_whole(service: KnowledgeService) -> None:
    """Nothing doubled or half there: every file that a search can see is one whole version."""
    names = [record.name for record in service.collections(ANN)]
    if "course" not in names:
        return
    service.files(ANN, "course")  # opening clears up
    assert consistent(service)
    for file in service.files(ANN, "course"):
        if file.version is not None:
            assert file.passages == PASSAGES
            _, text = service.document(ANN, "course", file.id)
            assert len(set(text.content.split("generation")[1:])) == PASSAGES
