"""Asking on the Knowledge page in a real browser: answers, their sources and documents, talks that are kept."""

import unicodedata
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pylopdf_fonts_zh_cn
import pytest
from playwright.sync_api import expect

from tests.browser.accordions import unfold
from tests.browser.knowledge_page import NOTE, QUESTION, ask, databases, make
from tests.waiting import wait_for

pytestmark = pytest.mark.browser
FIRST, SECOND = "温度高了会怎样，回答更多样吗？", "回答更多样，是因为温度高了吗？"
DROP_FILE = """(place, [name, text]) => {
  const parcel = new DataTransfer();
  parcel.items.add(new File([text], name, {type: "text/markdown"}));
  place.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: parcel}));
}"""

# A new conversation, and back to the first of the list before the server has shown it; `told` is what it shows.
AWAY_AND_BACK = """async () => {
  const root = document.documentElement;
  window.told = [];
  new MutationObserver(() => window.told.push(root.dataset.studioConversation))
    .observe(root, {attributeFilter: ["data-studio-conversation"]});
  document.querySelector("#chat-new").click();
  while (location.search.includes("c=")) await new Promise(requestAnimationFrame);
  document.querySelector("#chat-list button[data-id]").click();
  while (!location.search.includes("c=")) await new Promise(requestAnimationFrame);
}"""

DRAWN_ANEW = """() => {
  const list = document.querySelector("#knowledge-talks ul");
  list.replaceChildren(...[...list.children].map((row) => row.cloneNode(true)));
}"""

# An exchange of the talk that was left comes once more: the talk that is open before and after.
LATE = """async (talk) => {
  const opened = () => JSON.parse(localStorage.getItem("studio-talk")), before = opened(), props = {value: null};
  let take;
  window.studio.talks.keep(props, () => {}, (_, heard) => { take = heard; });
  props.value = {collection: before.collection, exchange: {...before, id: "late", talk, question: "?", asked: 0}};
  await take();
  return [before, opened()];
}"""


def test_upload_ask_see_the_source_and_open_the_document(visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "笔记.md").write_text(NOTE)
    (tmp_path / "空.txt").write_text("")
    page = visit()
    make(page, "课程")
    page.locator("#knowledge-drop input[type=file]").set_input_files([tmp_path / "笔记.md", tmp_path / "空.txt"])
    page.locator("#knowledge-files .ready", has_text="笔记.md").wait_for()
    assert "没有文字" in page.locator("#knowledge-files .failed", has_text="空.txt").inner_text()
    ask(page, QUESTION)
    page.get_by_text("大象会飞 （资料中未找到依据）").wait_for()
    assert page.locator("#knowledge-chat blockquote").inner_text().startswith("4 比特量化把显存降到三成。")
    mark = page.locator("#knowledge-chat a[href='#source-1-1']").first
    assert "笔记.md" in str(mark.get_attribute("title"))
    mark.hover()
    expect(page.locator("#passage-hint")).to_contain_text("笔记.md · 第二周 > 量化")  # the passage, before any click
    mark.click()
    page.locator("#source-1-1.shown").wait_for()  # the mark leads to the card of its source, and opens the document
    opened = page.frame_locator("#document iframe")
    expect(opened.locator("#passage mark")).to_have_text("4 比特量化把显存降到三成。")
    opened.locator("#close").click()
    source = page.locator(".source.cited").first
    source.wait_for()
    assert "笔记.md · 第二周 > 量化" in source.inner_text()
    assert source.locator("mark").all_inner_texts() == ["4 比特量化把显存降到三成。"]
    assert "##" not in source.inner_text()
    with page.context.expect_page() as opening:
        source.get_by_text("打开原文").click(modifiers=["ControlOrMeta"])  # in a tab of its own
    opening.value.locator("#passage").wait_for()
    ask(page, "量化降到几成？")
    page.locator("#knowledge-chat a[href^='#source-2-']").first.wait_for()
    page.locator(".source[id^='source-2-']").first.wait_for()
    expect(page.locator("details .source[id='source-1-1']")).to_have_count(1)  # an older answer keeps its sources


def test_talks_are_kept_over_a_reload_by_two_tabs_and_deleted_one_by_one(visit: Callable[..., Any]) -> None:
    page = visit()
    talks, asked = page.locator("#knowledge-talks [data-talk]"), page.locator("#knowledge-chat .typed")
    ask(page, FIRST)
    page.locator("#knowledge-sources .source").first.wait_for()
    page.locator("#knowledge-box .stop-button").wait_for(state="hidden")
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("html[data-studio-ready]").wait_for(state="attached")
    other.locator("[role=tab]").nth(1).click()
    expect(other.locator("#knowledge-chat .typed")).to_have_text([FIRST])
    ask(other, SECOND)
    expect(other.locator("#knowledge-chat blockquote")).to_have_count(2)
    other.locator("#knowledge-box .stop-button").wait_for(state="hidden")
    page.reload()
    page.locator("html[data-studio-ready]").wait_for(state="attached")  # it is still on this tab
    expect(asked).to_have_text([FIRST, SECOND])
    expect(page.locator("#knowledge-sources details .source a.open-document")).not_to_have_count(0)
    page.locator("#knowledge-clear").click()
    expect(asked).to_have_count(0)
    ask(page, "回答何时更多样？")
    expect(talks).to_have_text(["回答何时更多样？", FIRST])
    page.locator("#knowledge-box .stop-button").wait_for(state="hidden")
    page.locator("#knowledge-talks .cross").last.click()
    page.evaluate(DRAWN_ANEW)  # as an answer draws it that is stored meanwhile
    page.locator("#confirm-yes").click()
    expect(talks).to_have_text(["回答何时更多样？"])
    page.locator("#undo button").click()
    expect(asked).to_have_text([FIRST, SECOND])
    expect(talks).to_have_count(2)


def test_what_still_comes_of_a_talk_that_was_left_does_not_lead_back_to_it(visit: Callable[..., Any]) -> None:
    page = visit()
    talks, asked = page.locator("#knowledge-talks [data-talk]"), page.locator("#knowledge-chat .typed")
    for question in (FIRST, SECOND):
        page.locator("#knowledge-clear").click()
        expect(asked).to_have_count(0)
        ask(page, question)
        expect(page.locator("#knowledge-chat blockquote")).to_have_count(1)
        page.locator("#knowledge-box .stop-button").wait_for(state="hidden")
    expect(talks).to_have_text([SECOND, FIRST])
    left = talks.first.get_attribute("data-talk")
    talks.last.click()
    expect(asked).to_have_text([FIRST])
    before, after = page.evaluate(LATE, left)
    assert before["talk"] != left and after == before


def write_pdf(page: Any, path: Path, content: str) -> None:
    """A PDF as Chromium prints it, in letters of its own: a machine without Chinese ones would print empty boxes."""
    letters = b64encode(Path(pylopdf_fonts_zh_cn.__file__).with_name("NotoSansSC-Regular.otf").read_bytes()).decode()
    printed = page.context.new_page()
    face = f"@font-face {{ font-family: Letters; src: url(data:font/otf;base64,{letters}) }}"
    printed.set_content(f"<style>{face} p {{ font-family: Letters }}</style>{content}")
    printed.evaluate("document.fonts.ready")
    printed.pdf(path=path)


def test_a_citation_opens_the_pages_of_the_pdf_with_the_words_marked(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    write_pdf(page, tmp_path / "报告.pdf", "<p>苹果树</p><p style='break-before: page'>4 比特量化把显存降到三成。</p>")
    make(page, "课程")
    page.locator("#knowledge-drop input[type=file]").set_input_files(tmp_path / "报告.pdf")
    page.locator("#knowledge-files .ready", has_text="报告.pdf").wait_for(timeout=90_000)  # the parsers start
    ask(page, QUESTION)
    page.get_by_text("大象会飞 （资料中未找到依据）").wait_for()
    page.locator("#knowledge-chat blockquote a").first.click()
    opened = page.frame_locator("#document iframe")
    opened.locator(".words mark").first.wait_for(timeout=90_000)  # pdf.js starts
    marked = "".join(opened.locator(".words mark").all_text_contents())  # a PDF may write 比 as the radical ⽐
    assert unicodedata.normalize("NFKC", marked).replace(" ", "") == "4比特量化把显存降到三成。"
    expect(opened.locator("#place")).to_have_text("2 / 2")
    opened.locator("#as-text").click()
    expect(opened.locator("#passage mark")).to_have_text("4 比特量化把显存降到三成。")


def test_side_by_side_and_only_the_chosen_file(visit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(NOTE)
    (tmp_path / "b.md").write_text("# 量化\n\n量化把显存降到两成。\n")
    page = visit()
    make(page, "课程")
    page.locator("#knowledge-drop input[type=file]").set_input_files([tmp_path / "a.md", tmp_path / "b.md"])
    page.locator("#knowledge-files .ready").nth(1).wait_for()
    page.locator("#knowledge-compare input").check()
    only = page.locator("#knowledge-only input")
    unfold(page.locator("#knowledge-settings"), only)
    only.click()
    page.get_by_role("option", name="b.md").click()
    ask(page, QUESTION)
    page.locator("#knowledge-alone").get_by_text("我记得是一半").wait_for()
    page.locator("#knowledge-chat summary", has_text="资料中没有找到依据").wait_for()  # this file says 两成
    page.locator(".source").first.wait_for()
    expect(page.locator("#knowledge-sources")).not_to_contain_text("a.md")


def test_documents_of_a_conversation_are_searched_in_it_alone_and_go_with_it(
    visit: Callable[..., Any], knowledge_data: Path
) -> None:
    page = visit()
    page.locator("[role=tab]").first.click()
    files, box = page.locator("#chat-files li"), page.locator("#chat-box textarea")
    page.locator("html[data-studio-conversation]").wait_for(state="attached")
    page.locator("#chatbot").evaluate(DROP_FILE, ["笔记.md", NOTE])
    page.locator("#chat-files .ready", has_text="笔记.md").wait_for()
    page.locator("#chat-list button[data-id]", has_text="笔记.md").wait_for()
    page.reload()  # before anything was said
    page.locator("#chat-files .ready", has_text="笔记.md").wait_for()
    box.fill(QUESTION)
    box.press("Enter")
    page.get_by_text("大象会飞 （资料中未找到依据）").wait_for()
    assert page.locator("#chatbot blockquote").inner_text().startswith("4 比特量化把显存降到三成。")
    page.reload()
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    page.locator("#chatbot details.sources summary").click()
    assert page.locator("#chatbot .source.cited mark").all_inner_texts() == ["4 比特量化把显存降到三成。"]
    page.locator("#chatbot .source.cited a.open-document").click()
    opened = page.frame_locator("#document iframe")
    expect(opened.locator("#passage mark")).to_have_text("4 比特量化把显存降到三成。")
    opened.locator("#close").click()
    box.fill("谁赢了世界杯？")
    box.press("Enter")
    page.get_by_text("我记得是一半").wait_for()  # nothing in the documents: the model's own answer
    page.get_by_text("文档里没有相关内容").wait_for()
    page.locator("#chat-new").click()
    files.first.wait_for(state="detached")
    page.locator("#chat-list button[data-id]").first.click()
    files.first.wait_for()
    page.evaluate(AWAY_AND_BACK)
    page.wait_for_function("window.told.at(-1) === new URLSearchParams(location.search).get('c')")
    expect(files).to_have_count(1)
    expect(page.locator("#chatbot .source.cited")).to_have_count(1)
    page.locator("[role=tab]").nth(1).click()
    page.locator("#knowledge-collection input").click()
    page.get_by_role("option", name="samples").wait_for()
    expect(page.get_by_role("option")).to_have_count(1)  # no collection of its own
    kept = databases(knowledge_data)
    page.locator("[role=tab]").first.click()
    page.locator("#chat-list .more[data-of]").first.click()
    page.locator("#chat-delete").click()
    page.locator("#confirm-yes").click()
    files.first.wait_for(state="detached")
    wait_for(lambda: len(databases(knowledge_data)) == len(kept) - 1)


def test_it_fits_a_phone(visit: Callable[..., Any]) -> None:
    page = visit(width=390, height=844)
    ask(page, "温度高了会怎样，回答更多样吗？")
    page.locator(".source").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
