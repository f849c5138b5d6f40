"""`/index`, `/search`, `/ask` over HTTP, and that nobody reaches another's documents through them."""

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from app.knowledge.answer.document_links import document_routes
from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.ingest.jobs import Jobs
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner, Rights
from app.web.server import login_of
from tabs.knowledge import tab as knowledge
from tabs.shell.documents import highlighted
from tabs.shell.page import BROWSER_SECRET, Page
from tabs.shell.upload_cleanup import FOLDER_MARK, discard, uploaded
from tests.fakes import FakeModel, FakeRegistry
from tests.knowledge.leases import lease_of
from tests.knowledge.words import WordEmbedder

NOTE = "# 第二周\n\n## 量化\n\n4 比特量化把显存降到三成。\n"
QUESTION = "量化把显存降到多少？"
ANSWER = ["4 比特量化把显存", "降到三成[1]。", "大象会飞[1]。"]
LOGINS = [("ann", "a"), ("bob", "b")]


class Studio:
    """A running page over a knowledge service."""

    def __init__(self, service: KnowledgeService, address: str, logins: bool) -> None:
        self.service = service
        self.address = address
        self.logins = dict(LOGINS) if logins else {}

    def client(self, login: str = "") -> Client:
        headers = {"accept-language": "en-US"}
        auth = (login, self.logins[login]) if login in self.logins else None
        if login and not auth:
            headers["x-studio-visitor"] = f"a token that only {login} knows".replace(" ", "-") + "-" * 32
        return Client(self.address, verbose=False, headers=headers, auth=auth)


@contextmanager
def running(folder: Path, model: FakeModel | None = None, *, logins: bool = False, **rights: Any) -> Iterator[Studio]:
    registry = FakeRegistry(model or FakeModel("tiny", lambda _: ANSWER))
    service = KnowledgeService(
        registry,
        folder,
        embedder="words",
        lease_embedder=lease_of(lambda _: WordEmbedder()),
        rights=Rights(**rights),
    )
    service.citing.keep("tiny", True, True)
    with gr.Blocks() as blocks:
        page = Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))
        with gr.Tabs(), gr.Tab() as tab:
            knowledge.build(page, service, registry, tab)
    blocks.queue(default_concurrency_limit=None)
    routes = document_routes(service, login_of)
    with closing(service):
        _, address, _ = blocks.launch(
            server_name="127.0.0.1",
            auth=LOGINS if logins else None,
            app_kwargs={"routes": routes},
            max_file_size=1 << 20,
            prevent_thread_lock=True,
            quiet=True,
        )
        try:
            yield Studio(service, address.rstrip("/"), logins)
        finally:
            blocks.close(verbose=False)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "笔记.md"
    path.write_text(NOTE)
    return path


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with running(tmp_path / "data") as studio:
        yield studio


def test_index_search_ask(studio: Studio, note: Path, tmp_path: Path) -> None:
    client = studio.client()
    (tmp_path / "bad.docx").write_bytes(b"nothing")
    done = client.predict("course", [handle_file(note), handle_file(tmp_path / "bad.docx")], api_name="/index")
    assert [done[key] for key in ("added", "updated", "unchanged", "removed", "chunks")] == [1, 0, 0, 0, 1]
    assert done["failed"] == [{"file": "bad.docx", "reason": "The file is damaged or encrypted."}]
    again = client.predict("course", [handle_file(note)], api_name="/index")
    assert (again["added"], again["unchanged"]) == (0, 1)

    (hit,) = client.predict("course", "量化", 3, api_name="/search")
    assert list(hit) == ["source", "page", "heading", "start", "end", "score", "text"]
    assert (hit["source"], hit["page"], hit["heading"]) == ("笔记.md", None, "第二周 > 量化")
    assert NOTE[hit["start"] : hit["end"]] == hit["text"]

    job = client.submit(QUESTION, "course", api_name="/ask")
    answer, passages, checks = job.result()
    assert answer == "4 比特量化把显存降到三成[1]。大象会飞 (not found in the sources)。"
    (quote,) = checks["quotes"]
    assert (quote["text"], quote["source"], quote["passage"]) == ("4 比特量化把显存降到三成。", "笔记.md", 1)
    assert NOTE[quote["start"] : quote["end"]] == quote["text"]
    supported, not_found = checks["verdicts"]
    assert (supported["sentence"], supported["verdict"], supported["source"]) == (
        "4 比特量化把显存降到三成。",
        "supported",
        "笔记.md",
    )
    assert all(NOTE[start:end] in "4 比特量化把显存降到三成。" for start, end in supported["spans"])
    assert (not_found["verdict"], not_found["passage"], not_found["spans"]) == ("not found", None, [])
    assert passages == [hit | {"score": passages[0]["score"]}]
    assert next(text for text, *_ in job.outputs()) == "", "it streams"
    alone, *nothing = client.predict(QUESTION, "course", use_documents=False, api_name="/ask")
    assert (alone, nothing) == ("".join(ANSWER), [[], {"quotes": [], "verdicts": []}])


def test_a_history_is_taken_as_text_and_in_the_parts_that_gradio_makes_of_it(tmp_path: Path, note: Path) -> None:
    echo = FakeModel("tiny", lambda messages: [" | ".join(turn["content"] for turn in messages)])
    history = [
        {"role": "user", "content": [{"type": "text", "text": "Who are you?"}]},
        {"role": "assistant", "content": "A model."},
    ]
    with running(tmp_path / "data", echo) as studio:
        client = studio.client()
        client.predict("course", [handle_file(note)], api_name="/index")
        ask = partial(client.predict, QUESTION, "course", api_name="/ask", use_documents=False)
        assert ask(history=history)[0].endswith(f"Who are you? | A model. | {QUESTION}")
        with pytest.raises(AppError, match="Message 2 of the history"):
            ask(history=[history[0], {"role": "user"}])


def test_the_endpoints_are_as_promised(studio: Studio) -> None:
    endpoints = studio.client().view_api(return_format="dict")["named_endpoints"]
    names = {name: [each["parameter_name"] for each in endpoints[name]["parameters"]] for name in endpoints}
    assert names == {
        "/index": ["collection", "files"],
        "/search": ["collection", "query", "k"],
        "/ask": ["question", "collection", "history", "model", "use_documents", "k", "temperature", "seed"],
    }


@pytest.mark.parametrize("logins", [True, False], ids=["logins", "guests"])
def test_two_visitors_cannot_reach_one_another(tmp_path: Path, note: Path, logins: bool) -> None:
    with running(tmp_path / "data", logins=logins) as studio:
        ann, bob = studio.client("ann"), studio.client("bob")
        ann.predict("course", [handle_file(note)], api_name="/index")
        missing = "There is no collection named course."
        for refused in (
            lambda: bob.predict("course", "量化", api_name="/search"),
            lambda: bob.predict(QUESTION, "course", api_name="/ask"),
        ):
            with pytest.raises(Exception, match=missing):
                refused()
        with pytest.raises(Exception, match="There is no collection named nowhere"):
            bob.predict("nowhere", "量化", api_name="/search")  # no other answer than for one that is there
        (tmp_path / "own.md").write_text("# 苹果\n\n苹果长在树上，量化不会。")
        bob.predict("course", [handle_file(tmp_path / "own.md")], api_name="/index")
        assert [hit["source"] for hit in bob.predict("course", "量化", api_name="/search")] == ["own.md"]
        assert [hit["source"] for hit in ann.predict("course", "量化", api_name="/search")] == ["笔记.md"]


def test_a_document_opens_for_its_reader_only(tmp_path: Path, note: Path) -> None:
    with running(tmp_path / "data", logins=True) as studio:
        ann, bob = studio.client("ann"), studio.client("bob")
        ann.predict("course", [handle_file(note)], api_name="/index")
        owner = Owner("ann")
        (hit,) = studio.service.search(owner, "course", "量化")
        link = f"{studio.address}/{studio.service.link(owner, 'course', hit)}"
        opened = httpx.get(link, cookies=cookies(ann))
        assert opened.status_code == 200
        assert re.search("<mark[^>]*>## 量化\n\n4 比特量化把显存降到三成。</mark>", opened.text)
        assert httpx.get(link, cookies=cookies(bob)).status_code == 403
        assert httpx.get(link).status_code == 403
        forged = link.replace("key=", "key=A")
        assert httpx.get(forged, cookies=cookies(ann)).status_code == 403


def cookies(client: Client) -> dict[str, str]:
    return dict(client.cookies)


@pytest.mark.parametrize("api_name", ["/search", "/ask"])
def test_a_question_of_a_megabyte_is_refused_in_a_sentence(studio: Studio, note: Path, api_name: str) -> None:
    client = studio.client()
    client.predict("course", [handle_file(note)], api_name="/index")
    given = ("course", "量" * 1_000_000) if api_name == "/search" else ("量" * 1_000_000, "course")
    with pytest.raises(Exception, match="1000000 characters, the limit is 10000"):
        client.predict(*given, api_name=api_name)


@pytest.mark.parametrize("value", ["/etc", ["/etc/passwd"], {"path": "/etc/passwd"}, [{"path": 7}], [5]])
def test_no_path_of_this_machine_comes_in_as_an_upload(studio: Studio, value: object) -> None:
    with pytest.raises(Exception, match=r"Upload a file|Only whoever runs the server"):
        studio.client().predict("course", value, api_name="/index")


def test_who_runs_the_server_indexes_its_folders(tmp_path: Path) -> None:
    with running(tmp_path / "data", guests_index_folders=True) as studio:
        client = studio.client()
        (tmp_path / "notes" / "a").mkdir(parents=True)
        (tmp_path / "notes" / "a" / "x.md").write_text(NOTE)
        assert client.predict("course", str(tmp_path / "notes"), api_name="/index")["added"] == 1
        assert client.predict("course", "量化", api_name="/search")[0]["source"] == "a/x.md"
        with pytest.raises(Exception, match="There is no folder ~nobody-here/notes"):
            client.predict("course", "~nobody-here/notes", api_name="/index")


def test_a_file_over_the_limit_is_refused_in_words(studio: Studio, tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as stream:
        stream.truncate(2 << 20)
    with pytest.raises(Exception, match="exceeds the maximum file size"):
        studio.client().predict("course", [handle_file(tmp_path / "huge.txt")], api_name="/index")


@pytest.mark.parametrize(
    ("question", "collection", "told"),
    [(" ", "course", "Type a question"), ("x", "../etc", "no collection named"), ("x", "", "no collection named")],
)
def test_bad_questions_are_answered_in_words(studio: Studio, question: str, collection: str, told: str) -> None:
    with pytest.raises(Exception, match=told):
        studio.client().predict(question, collection, api_name="/ask")


def test_a_program_that_leaves_stops_the_model(tmp_path: Path, note: Path) -> None:
    model = FakeModel("tiny", lambda _: ["字"] * 1000, gate=threading.Semaphore(3))
    with running(tmp_path / "data", model) as studio:
        client = studio.client()
        client.predict("course", [handle_file(note)], api_name="/index")
        job = client.submit(QUESTION, "course", api_name="/ask")
        for text, *_ in job:
            if text:
                break
        job.cancel()
        assert model.generations[0].cancelled.wait(120)


def test_equal_files_of_two_visitors_at_once(studio: Studio, note: Path) -> None:
    jobs = [studio.client(f"visitor {n}").submit("course", [handle_file(note)], api_name="/index") for n in range(4)]
    assert [job.result()["added"] for job in jobs] == [1, 1, 1, 1]


def test_uploads_keep_their_folders_and_do_not_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    sent = tmp_path / "uploads" / f"week1{FOLDER_MARK}notes.md"
    sent.write_text("x")
    ((path, name),) = uploaded([str(sent)])
    assert (path, name) == (sent, "week1/notes.md")
    discard([path], seconds=0).join(120)
    assert not sent.exists()


def test_marked_words_may_touch_and_overlap() -> None:
    assert highlighted("a <b> c", [(0, 3), (2, 5), (5, 6)]) == "<mark>a &lt;b&gt; </mark>c"
    assert highlighted("## Title\n# Two", [(0, 8)]) == "<mark>Title</mark>\nTwo"


def test_a_run_goes_on_without_its_watcher_and_can_be_stopped() -> None:
    gate = threading.Semaphore(0)
    closed = threading.Event()

    def steps() -> Iterator[IndexingProgress]:
        try:
            for done in range(100):
                assert gate.acquire(timeout=120)
                yield IndexingProgress(done=done, total=100)
        finally:
            closed.set()

    jobs = Jobs()
    job = jobs.start("c", steps())
    watcher = job.watch()
    next(watcher)
    watcher.close()  # type: ignore[attr-defined]
    gate.release(5)
    while job.progress.done < 4:
        next(job.watch())
    assert jobs.latest("c") is job and not job.ended
    job.stop()
    gate.release()
    jobs.stop("c")
    assert job.ended and closed.is_set() and job.progress.done == 5
