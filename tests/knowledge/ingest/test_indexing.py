"""The index stays right: what changed and only that, old versions until the new one is whole, nothing left over."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import NotOffered, Owner, Rights
from app.knowledge.store.database import IDLE_CONNECTIONS
from app.knowledge.store.open_collections import MOST_OPEN, OpenCollections, Resources
from app.knowledge.store.vectors import MOST_OPEN as MOST_INDEXES
from app.knowledge.store.vectors import VectorIndex, open_chroma
from tests.knowledge.conftest import ANN, BOB, Start, run
from tests.knowledge.leases import lease_of
from tests.knowledge.words import WordEmbedder
from tests.real_server import port_of
from tests.waiting import wait_for


def consistent(service: KnowledgeService, owner: Owner = ANN, name: str = "course") -> bool:
    """Both stores hold the same passages and the journal is empty."""
    store = service.store(owner, name)
    database, vectors = store._searcher.database, store._searcher.vectors
    keys = vectors.keys()
    return len(keys) == len(set(keys)) and set(keys) == database.vector_keys() and not database.journal()


def touch(path: Path, text: str) -> None:
    path.write_text(text)


def test_only_what_changed_is_embedded(start: Start, notes: Path, embedder: WordEmbedder) -> None:
    service = start()
    first = run(service.index_folder(ANN, "course", notes))
    assert (first.added, first.updated, first.unchanged, first.removed, first.failed) == (3, 0, 0, 0, ())
    calls = embedder.calls
    again = run(service.index_folder(ANN, "course", notes))
    assert (again.added, again.unchanged, again.chunks, embedder.calls) == (0, 3, 0, calls)
    touch(notes / "week2" / "notes.md", "# 第二周\n\n## 微调\n\n低秩适配只训练两个小矩阵。\n")
    (notes / "gbk.txt").unlink()
    third = run(service.index_folder(ANN, "course", notes))
    assert (third.added, third.updated, third.unchanged, third.removed) == (0, 1, 1, 1)
    assert service.search(ANN, "course", "低秩适配")[0].passage.path == "week2/notes.md"
    assert not any("量化" in hit.passage.content for hit in service.search(ANN, "course", "量化"))
    assert not any("苹果树" in hit.passage.content for hit in service.search(ANN, "course", "苹果树"))
    assert consistent(service)


def test_equal_names_in_different_folders_are_different_files(start: Start, notes: Path) -> None:
    service = start()
    run(service.index_folder(ANN, "course", notes))
    assert [file.path for file in service.files(ANN, "course")] == ["gbk.txt", "week1/notes.md", "week2/notes.md"]
    other = notes.parent / "other"
    (other / "week1").mkdir(parents=True)
    touch(other / "week1" / "notes.md", "另一门课的笔记讲的是火星。")
    run(service.index_folder(ANN, "course", other))
    assert len(service.files(ANN, "course")) == 4
    assert any("键值" in hit.passage.content for hit in service.search(ANN, "course", "键值缓存"))
    assert any("火星" in hit.passage.content for hit in service.search(ANN, "course", "火星"))


def test_a_version_that_fails_leaves_the_old_one_and_is_not_tried_again(start: Start, tmp_path: Path) -> None:
    service = start()
    page = tmp_path / "page.html"
    touch(page, "<p>Apples grow on trees.</p>")
    run(service.index_uploads(ANN, "course", [(page, "page.html")]))
    page.write_bytes(b"\x00\x01" * 40)
    failed = run(service.index_uploads(ANN, "course", [(page, "page.html")]))
    assert [failure.file for failure in failed.failed] == ["page.html"]
    assert "Apples" in service.search(ANN, "course", "apples")[0].passage.content
    (record,) = service.files(ANN, "course")
    assert record.state == "failed"
    assert record.reason_zh
    touch(page, "<p>Pears grow on trees.</p>")
    mended = run(service.index_uploads(ANN, "course", [(page, "page.html")]))
    assert (mended.updated, mended.failed) == (1, ())
    assert service.files(ANN, "course")[0].state == "ready"
    assert consistent(service)


def test_a_failed_file_is_not_parsed_again_until_it_changes(start: Start, notes: Path) -> None:
    (notes / "bad.md").write_bytes(b"\x00" * 50)
    parsed: list[str] = []
    service = start()
    collection = service.store(ANN, service.make(ANN, "course").name)._indexer
    assert collection is not None
    convert = collection.convert
    collection.convert = lambda path, name: parsed.append(name) or convert(path, name)  # type: ignore[func-returns-value]
    for _ in range(3):
        assert len(run(service.index_folder(ANN, "course", notes)).failed) == 1
    assert parsed.count("bad.md") == 1


def test_stopping_keeps_what_was_done_and_the_rest_waits(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        touch(folder / f"{number:03}.md", f"File {number} speaks of subject{number}.")
    service = start()
    steps = service.index_folder(ANN, "course", folder)
    for progress in steps:
        if progress.added:
            break
    steps.close()  # type: ignore[attr-defined]
    states = [file.state for file in service.files(ANN, "course")]
    assert 0 < states.count("ready") < 300
    assert states.count("ready") + states.count("waiting") == 300
    assert consistent(service)
    service = start()
    service.start().join()
    assert {file.state for file in service.files(ANN, "course")} == {"ready"}
    assert consistent(service)


def test_two_people_index_the_same_file_at_once(start: Start, notes: Path) -> None:
    service = start(rights=Rights(frozenset({"ann", "bob"})))
    failures: list[BaseException] = []

    def work(owner: Owner) -> None:
        try:
            for _ in range(3):
                run(service.index_folder(owner, "course", notes))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(owner,)) for owner in (ANN, BOB, ANN, BOB)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert consistent(service, ANN)
    assert consistent(service, BOB)
    assert len(service.files(ANN, "course")) == 3


def test_a_link_out_of_the_folder_is_not_followed(start: Start, notes: Path, tmp_path: Path) -> None:
    touch(tmp_path / "secret.md", "the password is swordfish")
    (notes / "link.md").symlink_to(tmp_path / "secret.md")
    service = start()
    progress = run(service.index_folder(ANN, "course", notes))
    assert [failure.file for failure in progress.failed] == ["link.md"]
    assert not any("swordfish" in hit.passage.content for hit in service.search(ANN, "course", "password swordfish"))


def test_upload_names_cannot_leave_the_collection(start: Start, notes: Path, tmp_path: Path) -> None:
    service = start()
    names = ["../../evil.md", "..\\..\\evil2.md", "/etc/evil3.md", ".."]
    run(service.index_uploads(ANN, "course", [(notes / "week1" / "notes.md", name) for name in names]))
    assert {file.path for file in service.files(ANN, "course")} == {"evil.md", "evil2.md", "evil3.md", "unnamed.txt"}
    data = tmp_path / "data"
    assert all(path.parent.name == "originals" for path in tmp_path.rglob("*evil*"))
    assert all(path.is_relative_to(data) for path in tmp_path.rglob("*evil*"))


def test_an_upload_that_is_too_large_is_listed_and_the_others_go_in(start: Start, notes: Path, tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as stream:
        stream.truncate(200 << 20)
    files = [(tmp_path / "huge.txt", "huge.txt"), (notes / "gbk.txt", "gbk.txt")]
    progress = run(start().index_uploads(ANN, "course", files))
    assert progress.added == 1
    assert [failure.file for failure in progress.failed] == ["huge.txt"]


def test_a_thousand_small_files(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for part in range(10):
        (folder / f"{part:02}").mkdir(parents=True)
        for number in range(100):
            (folder / f"{part:02}" / f"{number}.txt").write_text(f"File {part} {number}.")
    service = start()
    assert run(service.index_folder(ANN, "course", folder)).added == 1000
    assert run(service.index_folder(ANN, "course", folder)).unchanged == 1000
    assert consistent(service)
    found = {hit.passage.content for hit in service.search(ANN, "course", "file 37", k=50)}
    assert found >= {f"File {part} 37." for part in range(10)}


def open_files(folder: Path, name: str) -> list[Path]:
    """The files below `folder` whose name holds `name`, once for each descriptor of this process that leads to one."""
    found = list[Path]()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(each.readlink())
    return [place for place in found if place.is_relative_to(folder) and name in place.name]


def test_many_collections_do_not_use_up_the_descriptors(start: Start, notes: Path, tmp_path: Path) -> None:
    service = start()
    for number in range(MOST_OPEN + 8):
        service.make(ANN, f"course {number}")
        service.files(ANN, f"course {number}")
    run(service.index_uploads(ANN, "course 0", [(notes / "gbk.txt", "gbk.txt")]))
    assert service.search(ANN, "course 0", "苹果"), "one that was closed opens again"
    databases = open_files(tmp_path, "index.db")
    assert 0 < len(databases) <= 3 * IDLE_CONNECTIONS * MOST_OPEN
    assert len({place.parent for place in databases}) <= MOST_OPEN
    service = start()
    service.start().join()
    assert open_files(tmp_path, "index.db") == [], "a start opens what is unfinished only"


def test_an_unused_collection_is_closed(start: Start, tmp_path: Path, embedder: WordEmbedder) -> None:
    record = start().make(ANN, "course")
    chroma = open_chroma(tmp_path / "own")
    resources = Resources(tmp_path / "own", chroma, lease_of(lambda _: embedder), None, Converter())
    opened = OpenCollections(resources, idle_s=0.01)
    opened.get(record).database.files()
    wait_for(lambda: not open_files(tmp_path / "own" / record.id, "index.db"))
    assert opened.get(record).database.files() == []
    opened.close()
    chroma.close()


def test_chroma_keeps_few_indexes_open_and_finds_all_that_is_in_them(tmp_path: Path) -> None:
    chroma = open_chroma(tmp_path / "chroma")
    indexes = [VectorIndex(chroma, f"collection-{number}") for number in range(MOST_INDEXES + 16)]

    def use(index: VectorIndex) -> None:
        for version in (1, 2):
            index.add([(version, 0)], np.ones((1, 4), dtype=np.float32), [1], [False])
            found = index.nearest(np.ones(4, dtype=np.float32), 5, None)
            assert sorted(key for key, _ in found) == [(one, 0) for one in range(1, version + 1)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, indexes))
        assert list(pool.map(lambda index: len(index.keys()), indexes)) == [2] * len(indexes)
    assert 0 < len(open_files(tmp_path, "data_level0.bin")) <= MOST_INDEXES
    assert indexes[0].nearest(np.ones(4, dtype=np.float32), 5, None)
    indexes[0].drop()
    assert indexes[0].nearest(np.ones(4, dtype=np.float32), 5, None) == []
    chroma.close()


def test_a_collection_keeps_its_embedder_until_it_is_embedded_anew(start: Start, notes: Path) -> None:
    run(start().index_folder(ANN, "course", notes))
    service = start(embedder="other")
    assert "量化" in service.search(ANN, "course", "量化")[0].passage.content
    assert run(service.index_folder(ANN, "course", notes)).unchanged == 3
    steps = service.embed_anew(ANN, "course", "third")
    first = next(steps)
    assert (first.done, first.total, first.embedding) == (0, 3, "under way")
    steps.close()  # type: ignore[attr-defined]
    assert service.collections(ANN)[0].embedder == "words", "stopped: nothing is switched"
    assert "量化" in service.search(ANN, "course", "量化")[0].passage.content
    assert run(service.embed_anew(ANN, "course")).embedding == "done"
    assert service.collections(ANN)[0].embedder == "other"
    assert "量化" in service.search(ANN, "course", "量化")[0].passage.content
    assert consistent(service)
    (notes / "new.md").write_text("火星上没有海。")
    assert run(service.index_folder(ANN, "course", notes)).added == 1
    assert consistent(service)


def test_a_file_that_comes_while_a_collection_is_embedded_anew_is_in_the_new_index(start: Start, notes: Path) -> None:
    service = start()
    run(service.index_folder(ANN, "course", notes))
    steps = service.embed_anew(ANN, "course", "other")
    next(steps)
    (notes / "new.md").write_text("火星上没有海。")
    job = service.start_job(ANN, "course", service.index_folder(ANN, "course", notes))
    run(steps)
    job.wait(120)
    assert job.error is None and job.progress.added == 1
    assert service.search(ANN, "course", "火星")[0].cosine > 0
    assert consistent(service)


def test_only_who_runs_the_server_names_any_embedder(start: Start, notes: Path, tmp_path: Path) -> None:
    service = start()
    (tmp_path / "a.md").write_text("苹果")
    run(service.index_uploads(BOB, "mine", [(tmp_path / "a.md", "a.md")]))
    with pytest.raises(NotOffered, match="words"):
        service.embed_anew(BOB, "mine", "somebody/model")
    run(service.index_folder(ANN, "course", notes))
    run(service.embed_anew(ANN, "course", "somebody/model"))
    assert service.collections(ANN)[0].embedder == "somebody/model"


def test_a_chroma_server_by_url(start: Start, notes: Path, tmp_path: Path) -> None:
    chroma = Path(sys.executable).with_name("chroma")
    server = subprocess.Popen(
        [str(chroma), "run", "--path", str(tmp_path / "server"), "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        service = start(chroma_url=f"http://127.0.0.1:{port_of(server)}")
        run(service.index_folder(ANN, "course", notes))
        assert "量化" in service.search(ANN, "course", "量化")[0].passage.content
        assert consistent(service)
        assert not (tmp_path / "data" / "chroma").exists()
    finally:
        server.kill()
        server.wait()
