"""Collections on the Knowledge page in a real browser: files and folders dropped, followed, removed, embedded anew."""

import re
from collections.abc import Callable
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import pytest
from playwright.sync_api import expect

from app.knowledge.ingest.jobs import Job
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner
from tests.browser.knowledge_page import NOTE, QUESTION, Slow, ask, databases, make, put_in
from tests.waiting import wait_for

pytestmark = pytest.mark.browser
DROP = """([place, files]) => {
  const entry = ([path, text]) => ({
    isFile: true, isDirectory: false, fullPath: path, file: (done) => done(new File([text], path.split("/").pop())),
  });
  let read = false;
  const folder = {
    isFile: false, isDirectory: true, fullPath: "/notes",
    createReader: () => ({readEntries: (done) => { done(read ? [] : files.map(entry)); read = true; }}),
  };
  const event = new Event("drop", {bubbles: true, cancelable: true});
  event.dataTransfer = {items: [{webkitGetAsEntry: () => folder}], files: []};
  document.querySelector(`${place} button`).dispatchEvent(event);
}"""

# The first look from here on has seen what was chosen, and is not sent before it may.
HELD = """() => {
  const {talks} = window.studio, usual = talks.open.bind(talks), may = new Promise((go) => { window.let_go = go; });
  window.looks = 0;
  talks.open = async () => {
    const first = ++window.looks === 1, opened = await usual();
    if (first) await may;
    return opened;
  };
}"""


def test_a_file_is_removed_in_its_own_row(
    visit: Callable[..., Any], tmp_path: Path, knowledge_service: KnowledgeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit()
    expect(page.locator("#knowledge-collection input")).to_have_value(re.compile("^samples"))  # the page's first look
    page.locator("[role=tab]").first.click()
    begun, go_on, collections = Event(), Event(), knowledge_service.collections

    def first_late(owner: Owner) -> Any:
        found, is_first = collections(owner), not begun.is_set()
        begun.set()
        assert not is_first or go_on.wait(120)
        return found

    monkeypatch.setattr(knowledge_service, "collections", first_late)
    page.locator("[role=tab]").nth(1).click()  # what was there when the page was opened is told after what is made now
    assert begun.wait(120)
    make(page, "课程")
    go_on.set()
    page.locator("#knowledge-compare input").check()
    page.locator("#knowledge-alone").wait_for()  # an answer to something that was asked later
    expect(page.locator("#knowledge-collection input")).to_have_value("课程")
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(NOTE)
    page.locator("#knowledge-drop input[type=file]").set_input_files([tmp_path / "a.md", tmp_path / "b.md"])
    page.locator("#knowledge-files .ready").nth(1).wait_for()
    page.locator("#knowledge-files li", has_text="a.md").locator("button").click()
    expect(page.locator("#confirm-title")).to_have_text("移除 a.md")
    page.locator("#confirm-yes").click()
    page.locator("#knowledge-files li", has_text="a.md").wait_for(state="detached")
    expect(page.locator("#knowledge-files li")).to_have_count(1)


def test_a_look_that_is_late_does_not_undo_a_choice(visit: Callable[..., Any]) -> None:
    page = visit()
    expect(page.locator("#knowledge-collection input")).to_have_value(re.compile("^samples"))
    page.evaluate(HELD)
    page.locator("[role=tab]").first.click()
    page.locator("[role=tab]").nth(1).click()
    page.wait_for_function("window.looks === 1")
    make(page, "课程")
    page.wait_for_function("window.looks === 2")
    page.evaluate("window.let_go()")
    page.wait_for_function("window.looks === 3")  # since the answer to the first came last
    expect(page.locator("#knowledge-collection input")).to_have_value("课程")
    page.reload()
    expect(page.locator("#knowledge-collection input")).to_have_value("课程")


def test_a_dropped_folder_keeps_its_folders(visit: Callable[..., Any]) -> None:
    page = visit()
    make(page, "课程")
    page.evaluate(DROP, ["#knowledge-drop", [["/notes/a/x.md", NOTE], ["/notes/b/x.md", "# 二\n\n苹果树"]]])
    for name in ("notes/a/x.md", "notes/b/x.md"):
        page.locator("#knowledge-files .ready", has_text=name).wait_for()


def test_another_visitor_sees_nothing_of_it(visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "秘密.md").write_text(NOTE)
    mine = visit()
    make(mine, "私人")
    put_in(mine, tmp_path / "秘密.md")
    other = visit()
    assert "私人" not in other.content() and "秘密" not in other.content()
    mine.reload()
    mine.locator("html[data-studio-ready]").wait_for(state="attached")
    mine.locator("[role=tab]").nth(1).click()
    mine.locator("#knowledge-collection input").click()
    mine.get_by_role("option", name="私人").wait_for()


def test_a_collection_that_is_deleted_ends_the_answer_from_it(
    visit: Callable[..., Any], knowledge_service: KnowledgeService, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text(NOTE)
    page = visit()
    make(page, "课程")
    put_in(page, tmp_path / "a.md")
    model = knowledge_service.registry.models["tiny"]  # type: ignore[attr-defined]
    model.gate, asked = Semaphore(0), len(model.generations)
    try:
        ask(page, QUESTION)
        wait_for(lambda: len(model.generations) > asked)
        page.locator("#knowledge-delete").click()
        page.locator("#confirm-yes").click()
        assert model.generations[-1].cancelled.wait(120)
    finally:
        model.gate = None
    expect(page.locator("#knowledge-chat .typed")).to_have_count(0)
    expect(page.locator("#knowledge-box .submit-button")).to_be_visible()


def test_a_collection_is_deleted_after_a_second_word(visit: Callable[..., Any], knowledge_data: Path) -> None:
    page = visit()
    before = databases(knowledge_data)
    make(page, "课程")
    wait_for(lambda: databases(knowledge_data) > before)
    page.locator("#knowledge-delete").click()
    page.locator("#confirm-yes").click()
    page.wait_for_function("document.querySelector('#knowledge-collection input').value.startsWith('samples')")
    wait_for(lambda: databases(knowledge_data) == before)
    page.locator("#knowledge-collection input").click()
    page.get_by_role("option", name="samples").wait_for()
    expect(page.get_by_role("option")).to_have_count(1)


def test_a_folder_of_this_machine_is_followed_and_a_wrong_one_is_said(
    visit: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.md").write_text(NOTE)
    page = visit(locale="en-US")
    make(page, "course")
    folder = page.locator("#knowledge-folder textarea, #knowledge-folder input").first
    folder.fill(str(tmp_path / "nowhere"))
    folder.press("Enter")
    page.get_by_text("There is no folder").wait_for()
    folder.fill(str(tmp_path / "notes"))
    folder.press("Enter")
    page.locator("#knowledge-files .ready", has_text="x.md").wait_for()


def test_a_collection_is_embedded_anew_stopped_and_taken_up_by_keyboard(
    visit: Callable[..., Any], knowledge_service: KnowledgeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.md").write_text(NOTE)
    page = visit(locale="en-US")
    make(page, "anew")
    put_in(page, tmp_path / "x.md")
    heard, stop = Event(), knowledge_service.stop_jobs
    monkeypatch.setattr(knowledge_service, "stop_jobs", lambda *names: (stop(*names), heard.set()))
    chosen, progress = page.locator("#knowledge-embedder input"), page.locator("#knowledge-progress")

    def embed_anew() -> None:
        chosen.press("ControlOrMeta+a")
        chosen.press_sequentially("slow")
        chosen.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator("#knowledge-embed")).to_be_focused()
        page.keyboard.press("Enter")

    embed_anew()
    expect(progress).to_contain_text("0 / 1 · Computing vectors")
    expect(page.locator("#knowledge-stop")).to_be_focused()
    page.keyboard.press("Enter")
    wait_for(heard.is_set)
    Slow.may.set()
    expect(progress).to_contain_text("Stopped at 1 of 1 passages: the former model goes on answering")
    expect(chosen).to_have_value("words")
    embed_anew()
    expect(progress).to_contain_text("1 passages embedded anew")
    expect(chosen).to_have_value("slow")


def test_a_model_is_shown_that_was_taken_up_while_the_page_looked(
    visit: Callable[..., Any], knowledge_service: KnowledgeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.md").write_text(NOTE)
    page = visit(locale="en-US")
    make(page, "just then")
    put_in(page, tmp_path / "x.md")
    usual = knowledge_service.job

    def job_that_has_just_ended(owner: Owner, name: str) -> Job | None:
        Slow.may.set()
        job = usual(owner, name)
        if job:
            job.wait(60)
        return job

    monkeypatch.setattr(knowledge_service, "job", job_that_has_just_ended)
    chosen = page.locator("#knowledge-embedder input")
    chosen.fill("slow")
    chosen.press("Enter")
    page.locator("#knowledge-embed").click()
    expect(page.locator("#knowledge-progress")).to_contain_text("1 passages embedded anew")
    expect(chosen).to_have_value("slow")
