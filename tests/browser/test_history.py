"""Conversations found, sorted, brought in and taken out; with a login the same on two devices, and shared by a link."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
from playwright.sync_api import Page, expect

from app.chat.history_routes import history_routes
from app.chat.storage import History
from app.story.illustrating import IllustrationService
from app.story.service import StoryService
from app.web import ui
from app.web.server import login_of
from tests.browser.chat_page import answers, begin_another, choose, say, titles
from tests.conftest import OpenPage, Serve
from tests.fakes import FakeModel, FakeRegistry, fake_services

pytestmark = pytest.mark.browser
LOGINS = [("ada", "her password"), ("lin", "his password")]


def node(name: str, parent: str | None, role: str = "", content: Any = None, **more: Any) -> dict[str, Any]:
    """A node of ChatGPT's `mapping`."""
    content = {"content_type": "text", "parts": [content]} if isinstance(content, str) else content
    message = (
        {"author": {"role": role}, "content": content, "metadata": {}, "recipient": "all"} | more if role else None
    )
    return {"id": name, "parent": parent, "children": [], "message": message}


CHATGPT = [
    {
        "title": "Bridges",
        "conversation_id": "g-1",
        "update_time": 1_700_000_000.5,
        "current_node": "a2",
        "mapping": {
            one["id"]: one
            for one in (
                node("root", None),
                node("s", "root", "system", "", metadata={"is_visually_hidden_from_conversation": True}),
                node(
                    "q", "s", "user", {"content_type": "multimodal_text", "parts": [{"asset": "file"}, "Which bridge?"]}
                ),
                node("a1", "q", "assistant", "The old one."),
                node("t", "q", "assistant", {"content_type": "thoughts", "thoughts": [{"content": "steel or stone"}]}),
                node("c", "t", "assistant", {"content_type": "code", "text": "search()"}, recipient="web"),
                node("r", "c", "tool", "results"),
                node(
                    "a2", "r", "assistant", "The stone one\ue200cite\ue202turn0\ue201.", metadata={"model_slug": "big"}
                ),
            )
        },
    },
    {"title": "broken", "mapping": 3},
]
OPEN_WEBUI = [
    {
        "id": "w-1",
        "pinned": True,
        "updated_at": 1_700_000_100,
        "chat": {
            "title": "Harbours",
            "history": {
                "currentId": "y",
                "messages": {
                    "x": {"id": "x", "parentId": None, "role": "user", "content": "Which harbour?"},
                    "y": {
                        "id": "y",
                        "parentId": "x",
                        "role": "assistant",
                        "model": "m",
                        "content": '<details type="reasoning" done="true">\n<summary>Thought</summary>\n&gt; wide\n'
                        "</details>\nThe northern one.",
                    },
                },
            },
        },
    }
]


UNPACK = """([archive, most]) => {
    const file = new File([Uint8Array.from(atob(archive), (letter) => letter.charCodeAt(0))], "export.zip");
    return window.studio.archives.texts(file, /json$/, most).then((texts) => texts.length, String);
}"""


def bring(page: Page, folder: Path, content: object, packed: int | None = None) -> None:
    """Import a file with this content; `packed` as a ZIP file by this method, in parts as ChatGPT gives it."""
    file = folder / "conversations.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    if packed is not None:
        with ZipFile(folder / "export.zip", "w", packed) as archive:
            archive.writestr("chat.html", "<p>[not this]</p>")
            archive.writestr("shared_conversations.json", json.dumps(OPEN_WEBUI))
            for number, part in enumerate(content if isinstance(content, list) else []):
                archive.writestr(f"some folder/conversations-{number:03}.json", json.dumps([part]))
        file = folder / "export.zip"
    with page.expect_file_chooser() as chooser:
        page.locator("#chat-more").click()
        page.get_by_role("menuitem", name="Import…").click()
    chooser.value.set_files(file)


def test_conversations_are_brought_in_found_sorted_and_taken_out(
    page: Page, open_page: OpenPage, tmp_path: Path
) -> None:
    bring(page, tmp_path, CHATGPT, ZIP_DEFLATED)
    expect(page.locator("#said")).to_have_text("Conversations imported: 1. 1 could not be read.")
    bring(page, tmp_path, CHATGPT, ZIP_STORED)
    expect(page.locator("#said")).to_contain_text("1 were here already.")
    bring(page, tmp_path, OPEN_WEBUI)
    expect(titles(page)).to_have_text(["Harbours", "Bridges"])
    archive = b64encode((tmp_path / "export.zip").read_bytes()).decode()
    with ZipFile(tmp_path / "export.zip") as packed:
        sizes = [part.file_size for part in packed.infolist() if part.filename.endswith("json")]
    assert page.evaluate(UNPACK, [archive, sum(sizes)]) == len(sizes) == 3
    assert page.evaluate(UNPACK, [archive, sum(sizes) - 1]) == "RangeError", "of all together"
    bring(page, tmp_path, "no json")
    expect(page.locator("#said")).to_contain_text("no conversations in this file")
    search = page.get_by_role("searchbox", name="Search")
    search.fill("STONE bridge")
    expect(titles(page)).to_have_count(1)
    expect(page.locator("#chat-list small")).to_contain_text("The stone one.")
    search.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(answers(page)).to_contain_text("The stone one.")
    expect(page.locator("#chatbot .versions").last).to_contain_text("2 / 2")
    search.fill("")
    expect(titles(page)).to_have_count(2)
    choose(page, "Harbours", "Unpin")
    expect(page.locator("#chat-list h3")).to_have_count(0)
    page.get_by_role("button", name="More: Bridges").press("Enter")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator("#ask input").fill("Travel")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-list summary")).to_have_text("Travel")
    page.reload()
    expect(page.locator("#chat-list details button[data-id]")).to_have_text("Bridges")
    with page.expect_download() as saved:
        page.locator("#chat-more").click()
        page.get_by_role("menuitem", name="Export all as JSON").click()
    with page.expect_download() as markdown:
        page.locator("#chat-more").click()
        page.get_by_role("menuitem", name="Export all as Markdown").click()
    assert "# Harbours\n\n**Me**\n\nWhich harbour?" in Path(markdown.value.path()).read_text(encoding="utf-8")
    other = open_page(page.url.partition("?")[0])
    bring(other, tmp_path, Path(saved.value.path()).read_text(encoding="utf-8"))
    expect(other.locator("#said")).to_contain_text("Conversations imported: 2.")
    other.locator("#chat-list details button[data-id]").click()
    expect(other.locator("#chatbot .versions").last).to_contain_text("2 / 2")


def test_the_model_names_a_conversation_unless_its_visitor_has(
    page: Page, model: FakeModel, registry: FakeRegistry
) -> None:
    registry.mib = 900

    def script(messages: Any) -> list[str]:
        return ["«Colours of ", "the sky»"] if "at most six words" in messages[-1]["content"] else ["it is blue"]

    try:
        model.script = script
        page.locator("#chat-box textarea").fill("why is the sky blue")
        page.locator("#chat-box textarea").press("Enter")
        expect(titles(page)).to_have_text(["Colours of the sky"])
        expect(page.locator("#chat-title :is(input, textarea)")).to_have_value("Colours of the sky")
        page.locator("#chat-box textarea").fill("and why")
        page.locator("#chat-box textarea").press("Enter")
        expect(answers(page)).to_have_count(2)
        page.reload()
        expect(titles(page)).to_have_text(["Colours of the sky"])
        assert sum("at most six words" in prompt[0][-1]["content"] for prompt in model.prompts) == 1
    finally:
        registry.mib = 260


@pytest.fixture(scope="module")
def logins(serve_module: Serve, registry: FakeRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with two logins, and their history on the server."""
    history = History(tmp_path_factory.mktemp("history") / "history.db", mib=1)
    illustration = IllustrationService(registry, nullcontext)
    services = fake_services(registry, story=StoryService(registry), illustration=illustration)
    yield serve_module(ui.build(services), auth=LOGINS, app_kwargs={"routes": history_routes(history, login_of)})
    history.close()


@pytest.fixture
def enter(open_page: OpenPage, logins: str, model: FakeModel) -> Callable[..., Page]:  # noqa: ARG001
    """`enter(0)`: the page of a person on a device of its own."""

    def come(login: int, **device: Any) -> Page:
        page = open_page("about:blank", ready=False, **device)
        name, password = LOGINS[login]
        page.context.request.post(f"{logins}/login", form={"username": name, "password": password})
        page.goto(logins)
        page.locator("html[data-studio-ready]").wait_for(state="attached")
        return page

    return come


def look(page: Page) -> None:
    """As if its window came to the front."""
    page.evaluate("dispatchEvent(new Event('focus'))")


def test_a_login_has_its_conversations_on_every_device_and_nobody_else_has(
    enter: Callable[..., Page], open_page: OpenPage, logins: str
) -> None:
    desktop, phone, other = enter(0), enter(0, width=390), enter(1)
    say(desktop, "one")
    look(phone)
    phone.locator("#chat-side-switch").click()
    expect(titles(phone)).to_have_text(["one"])
    titles(phone).click()
    expect(answers(phone)).to_have_text(["You said: one"])
    say(phone, "two")
    look(desktop)
    expect(answers(desktop)).to_have_text(["You said: one", "You said: two"])
    desktop.reload()
    expect(answers(desktop)).to_have_text(["You said: one", "You said: two"])
    assert desktop.evaluate("window.studio.storage.browser.list().then((all) => all.length)") == 0
    look(other)
    other.reload()
    other.locator("html[data-studio-ready]").wait_for(state="attached")
    expect(titles(other)).to_have_count(0)
    name = desktop.evaluate("window.studio.conversations.current()")
    assert other.evaluate("(id) => window.studio.storage.conversations.read(id)", name) is None

    choose(desktop, "one", "Share")
    desktop.locator("#ask-yes").click()
    link = desktop.locator("#ask input")
    expect(link).to_have_value(re.compile(f"^{re.escape(logins)}/shared/"))
    address = link.input_value()
    desktop.keyboard.press("Escape")
    reader = open_page(address, ready=False)
    expect(reader.locator("main")).to_contain_text("You said: two")
    choose(desktop, "one", "Share")
    desktop.get_by_role("button", name="Withdraw").click()
    expect(desktop.locator("#said")).to_contain_text("withdrawn")
    reader.reload()
    expect(reader.locator("main")).to_contain_text("not any more")

    choose(desktop, "one", "Delete")
    desktop.locator("#confirm-yes").click()
    expect(titles(desktop)).to_have_count(0)
    look(phone)
    expect(answers(phone)).to_have_count(0)


def test_a_login_has_its_presets_and_its_story_on_every_device_and_nobody_else_has(
    enter: Callable[..., Page],
) -> None:
    desktop, phone = enter(0), enter(0)
    written: list[str] = []
    phone.on("request", lambda asked: written.append(asked.url) if asked.method == "PUT" else None)
    desktop.get_by_text("Manage presets").click()
    desktop.get_by_role("textbox", name="Name").fill("Pirate")
    with desktop.expect_response(lambda answer: "/history/preset/" in answer.url and answer.request.method == "PUT"):
        desktop.get_by_role("button", name="Save settings").click()
    phone.locator("#chat-preset").focus()
    expect(phone.locator("#chat-preset option", has_text="Pirate")).to_have_count(1)
    desktop.get_by_role("tab", name="Story").click()
    premise = desktop.locator("#story-premise textarea")
    premise.fill("A lamp in the fog")
    with desktop.expect_response(lambda answer: "A lamp" in (answer.request.post_data or "") and "draft" in answer.url):
        premise.blur()
    phone.reload()
    phone.get_by_role("tab", name="Story").click()
    expect(phone.locator("#story-premise textarea")).to_have_value("A lamp in the fog")
    assert not written, "a page that is only opened writes nothing over what another has written"
    for page in (desktop, phone):
        assert "A lamp" not in page.evaluate("JSON.stringify(localStorage)")
    other = enter(1)
    expect(other.locator("#chat-preset option", has_text="Pirate")).to_have_count(0)
    told = [page.evaluate("async () => (await fetch('history/draft/story')).text()") for page in (phone, other)]
    assert ["A lamp" in one for one in told] == [True, False]
    other.get_by_role("tab", name="Story").click()
    expect(other.locator("#story-premise textarea")).to_have_value("")
    with other.expect_request(lambda asked: asked.method == "PUT" and "/history/draft/story" in asked.url) as moved:
        other.evaluate("window.studio.drafts.read({inputs: {premise: 'before the login'}})")
    assert "before the login" in (moved.value.post_data or ""), "a browser's own draft moves in with its login"


def test_a_browser_s_conversations_move_in_and_a_full_place_says_so(enter: Callable[..., Page], tmp_path: Path) -> None:
    page = enter(1)
    page.evaluate(
        """() => window.studio.storage.browser.update("old", () => ({id: "old", title: "older", updated: 5, turns: [
            {id: "q", role: "user", content: "from before"}, {id: "a", role: "assistant", content: "kept"}]}))"""
    )
    page.evaluate(
        """() => localStorage.setItem("studio-presets", '[{"name": "mine", "settings": {"system": "be kind"}}]')"""
    )
    page.reload()
    page.get_by_role("button", name="Move 1 conversations").click()
    expect(titles(page)).to_have_text(["older"])
    expect(page.locator("#chat-move")).to_be_hidden()
    page.reload()
    page.locator("#chat-preset").select_option("mine")
    expect(page.get_by_role("textbox", name="System prompt")).to_have_value("be kind")
    assert page.evaluate("localStorage.getItem('studio-presets')") is None
    titles(page).click()
    expect(answers(page)).to_have_text(["kept"])
    large = {"title": "large", "messages": [{"role": "user", "content": "x" * 900_000}]}
    bring(page, tmp_path, [large, large | {"title": "larger"}])
    expect(page.locator("#said")).to_contain_text("fill the 1 MB")
    begin_another(page)
    say(page, "small")
