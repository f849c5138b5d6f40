"""Conversations in a real browser: kept over reloads and in two tabs, found by their address, named, saved, deleted."""

import json
import re
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chat_page import answers, ask, begin_another, choose, notes, say, settled, titles, versions
from tests.fakes import FakeModel

pytestmark = pytest.mark.browser


def test_a_reload_keeps_the_conversations_with_the_settings_of_each(page: Page, model: FakeModel) -> None:
    system = page.get_by_role("textbox", name="System prompt")
    system.fill("be brief")
    say(page, "one")
    begin_another(page)
    system.fill("be long")
    say(page, "two")
    page.reload()
    expect(answers(page)).to_have_text(["You said: two"])
    expect(system).to_have_value("be long")
    page.locator("#chat-list button", has_text="one").click()
    expect(answers(page)).to_have_text(["You said: one"])
    expect(titles(page)).to_have_text(["two", "one"])
    expect(system).to_have_value("be brief")
    page.evaluate("for (const one of document.querySelectorAll('#chat-list button[data-id]')) one.click()")
    titles(page).first.click()  # the last of three that come at once
    expect(answers(page)).to_have_text(["You said: two"])
    expect(system).to_have_value("be long")
    titles(page).last.click()
    expect(answers(page)).to_have_text(["You said: one"])
    expect(system).to_have_value("be brief")
    ask(page, "three")
    expect(answers(page)).to_have_count(2)
    assert model.prompts[-1][0][0] == {"role": "system", "content": "be brief"}


HOLD_BACK = """(id) => {
    const {conversations} = window.studio.storage, {read} = conversations;
    conversations.read = async (wanted) => {
        const record = await read(wanted);
        if (wanted === id) await new Promise((done) => { window.letGo = done; });
        return record;
    };
}"""


LET_GO = """async () => {
    window.letGo();
    await new Promise((done) => setTimeout(done)); // whoever waited for it has gone on
    return window.studio.conversations.current();
}"""

# Whether all turns of the open conversation are stored whole.
WRITTEN = """async () => (await window.studio.storage.conversations.read(window.studio.conversations.current()))
    .turns.every((turn) => turn.whole)"""


def test_the_conversation_chosen_last_is_shown_whichever_is_read_first(page: Page, model: FakeModel) -> None:
    say(page, "one")
    first = page.evaluate("window.studio.conversations.current()")
    begin_another(page)
    say(page, "two")
    begin_another(page)
    expect(titles(page)).to_have_text(["two", "one"])
    page.evaluate(HOLD_BACK, first)
    titles(page).last.click()
    page.wait_for_function("() => Boolean(window.letGo)")
    titles(page).first.click()
    expect(answers(page)).to_have_text(["You said: two"])
    assert page.evaluate(LET_GO) != first
    say(page, "three")
    assert [message["content"] for message in model.prompts[-1][0]] == ["two", "You said: two", "three"]


OLDER = """async () => {
    await new Promise((done) => { indexedDB.deleteDatabase("puyu-studio").onsuccess = done; });
    const opening = indexedDB.open("puyu-studio", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("conversations", {keyPath: "id"});
    await new Promise((done) => { opening.onsuccess = done; });
    const writing = opening.result.transaction("conversations", "readwrite");
    writing.objectStore("conversations").put({id: "old", title: "from before", updated: 5, turns: [
        {id: "q", role: "user", content: "what is a needle"}, {id: "a", role: "assistant", content: "thin steel"}]});
    await new Promise((done) => { writing.oncomplete = done; });
    opening.result.close();
}"""


def test_what_an_earlier_version_kept_is_listed_found_and_opened(page: Page) -> None:
    address = page.url
    page.goto(address.partition("?")[0] + "favicon.ico")  # of the same site, without the page's scripts
    page.evaluate(OLDER)
    page.goto(address.partition("?")[0])
    expect(titles(page)).to_have_text(["from before"])
    page.locator("#chat-list input[type=search]").fill("NEEDLE what")
    expect(page.locator("#chat-list button[data-id] small")).to_contain_text("what is a needle")
    titles(page).click()
    expect(answers(page)).to_have_text(["thin steel"])


def test_another_conversation_may_be_opened_while_one_is_written(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "first of all")
    expect(answers(page)).to_have_text(["You"])
    page.locator("#chat-new").click()
    expect(page.locator(".toast-body")).to_contain_text("«first of all» was stopped")
    expect(answers(page)).to_have_count(0)
    assert model.generations[0].cancelled.wait(120)
    model.gate.release(20)
    say(page, "second")
    page.locator("#chat-list button", has_text="first").click()
    expect(answers(page)).to_have_text(["You"])


def test_a_reload_in_mid_answer_keeps_what_had_come_and_goes_on(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(2)
    ask(page, "hello to you")
    expect(answers(page)).to_have_text(["You said:"])
    page.reload()
    expect(answers(page)).to_have_text(["You said:"])
    expect(notes(page)).to_contain_text("broken off")
    model.gate = None
    model.script = lambda _: [" hello", " to you"]
    page.locator("#chat-go-on").click()
    expect(answers(page)).to_have_text(["You said: hello to you"])
    settled(page)
    expect(page.locator("#chat-go-on")).to_have_count(0)
    assert [message["content"] for message in model.prompts[1][0]] == ["hello to you", "You said:"]
    assert model.prompts[1][0][-1].get("begun")


def test_a_reload_before_the_answer_offers_it_anew_and_the_next_question_stands_apart(
    page: Page, model: FakeModel
) -> None:
    model.gate = threading.Semaphore(0)
    ask(page, "are you there")
    expect(notes(page)).to_contain_text("One moment")
    page.reload()
    expect(notes(page)).to_contain_text("not answered")
    model.gate = None
    page.locator("#chat-retry").click()
    expect(answers(page)).to_have_text(["You said: are you there"])
    settled(page)
    model.gate = threading.Semaphore(0)
    ask(page, "and now")
    expect(notes(page).last).to_contain_text("One moment")
    page.reload()
    expect(notes(page).last).to_contain_text("not answered")
    model.gate = None
    say(page, "still there?")
    expect(page.locator("#chatbot [data-testid=user]")).to_have_text(["are you there", "and now", "still there?"])


def test_two_tabs_lose_nothing_of_each_other_s(page: Page, model: FakeModel) -> None:
    """Other conversations, the same one while nothing is written, and the same one while both write."""
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("html[data-studio-ready]").wait_for(state="attached")
    say(page, "one")
    say(other, "two")
    for tab in (page, other):
        expect(titles(tab)).to_have_text(["two", "one"])
    other.locator("#chat-list button", has_text="one").click()
    expect(answers(other)).to_have_text(["You said: one"])
    say(page, "three")
    expect(answers(other)).to_have_text(["You said: one", "You said: three"])
    model.gate = threading.Semaphore(0)
    ask(page, "four")
    expect(notes(page).last).to_contain_text("One moment")
    ask(other, "five")
    expect(notes(other).last).to_contain_text("One moment")
    model.gate.release(50)
    for tab in (page, other):
        settled(tab)
    for tab in (page, other):  # each shows its own question, and that there is another
        expect(answers(tab)).to_have_count(3)
        expect(versions(tab)).to_have_count(1)
    page.wait_for_function(WRITTEN)
    page.reload()  # what both have written, and no word of the other tab that is still on its way
    expect(answers(page)).to_have_count(3)
    shown = answers(page).last.inner_text()
    assert shown in ("You said: four", "You said: five")
    versions(page).get_by_role("link").click()
    expect(answers(page).last).to_have_text(({"You said: four", "You said: five"} - {shown}).pop())


def test_tab_and_conversation_have_an_address(page: Page) -> None:
    say(page, "one")
    begin_another(page)
    say(page, "two")
    page.get_by_role("tab", name="Models").click()
    expect(page).to_have_url(re.compile(r"tab=models"))
    page.reload()
    expect(page.get_by_role("tab", name="Models")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.get_by_role("tab", name="Chat")).to_have_attribute("aria-selected", "true")
    expect(answers(page)).to_have_text(["You said: two"])
    page.go_back()
    expect(answers(page)).to_have_text(["You said: one"])
    page.go_forward()
    expect(answers(page)).to_have_text(["You said: two"])


def test_a_conversation_is_copied_saved_renamed_and_deleted(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    say(page, "one")
    page.locator("#chatbot .message-buttons-left").get_by_role("button", name="Copy").click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.trim() === 'You said: one')")
    with page.expect_download() as markdown:
        choose(page, "one", "Export as Markdown")
    with page.expect_download() as plain:
        choose(page, "one", "Export as JSON")
    assert markdown.value.suggested_filename == "one.md"
    assert "You said: one" in Path(markdown.value.path()).read_text(encoding="utf-8")
    messages = json.loads(Path(plain.value.path()).read_text(encoding="utf-8"))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    title = page.locator("#chat-title").get_by_role("textbox")
    title.fill("My talk")
    title.press("Enter")
    expect(titles(page)).to_have_text(["My talk"])
    say(page, "again")
    expect(title).to_have_value("My talk")
    begin_another(page)
    expect(title).to_have_value("")
    say(page, "two")
    choose(page, "two", "Delete")
    expect(page.get_by_role("dialog")).to_contain_text("ten seconds")
    page.locator("#confirm-yes").click()
    expect(titles(page)).to_have_text(["My talk"])
    page.locator("#undo button").click()
    expect(titles(page)).to_have_text(["two", "My talk"])
    expect(answers(page)).to_have_text(["You said: two"])
    more = page.get_by_role("button", name="More: two")
    more.press("Enter")
    for key in ("End", "Enter", "Escape"):  # Delete, and away from the dialog
        page.keyboard.press(key)
    expect(more).to_be_focused()
    more.press("Enter")
    for key in ("End", "Enter", "Tab", "Enter"):  # Delete, and in the dialog past Cancel
        page.keyboard.press(key)
    expect(titles(page)).to_have_text(["My talk"])
    expect(page.get_by_role("button", name="More: My talk")).to_be_focused()
    expect(answers(page)).to_have_text(["You said: one", "You said: again"])
    page.reload()
    expect(titles(page)).to_have_text(["My talk"])
