"""The chat tab in a real browser, over a model that answers from a script."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from app.web import ui
from tests.fakes import FakeModel, FakeRegistry, fake_services

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]

RICH = """**bold** and $x^2$

```python
def prime() -> bool:
    return True
```

<img src="nothing" onerror="document.title='taken over'">
![far](http://far.example/pixel.png)
"""


@pytest.fixture(scope="module")
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture(scope="module")
def address(serve_module: Callable[..., str], registry: FakeRegistry) -> str:
    return serve_module(ui.build(fake_services(registry)))


@pytest.fixture(autouse=True)
def model(registry: FakeRegistry) -> FakeModel:
    registry.reset(FakeModel("tiny"))
    return registry.models["tiny"]


@pytest.fixture
def page(open_page: OpenPage, address: str) -> Page:
    return open_page(address)


def box(page: Page) -> Locator:
    return page.locator("#chat-box textarea")


def ask(page: Page, text: str) -> None:
    box(page).fill(text)
    box(page).press("Enter")


def answers(page: Page) -> Locator:
    return page.locator("#chatbot [data-testid=bot]:not(:has(.thought-group))")


def notes(page: Page) -> Locator:
    return page.locator("#chatbot .thought-group")


def settled(page: Page) -> None:
    """The send button is back: nothing is being written."""
    expect(page.locator("#chat-box .submit-button")).to_be_visible()


def say(page: Page, text: str) -> None:
    before = answers(page).count()
    ask(page, text)
    expect(answers(page)).to_have_count(before + 1)
    expect(answers(page).last).to_have_text(f"You said: {text}")
    settled(page)


def test_an_answer_streams_with_its_figures(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "hello to you")
    expect(answers(page)).to_have_text("You")
    model.gate.release(20)
    expect(answers(page)).to_have_text("You said: hello to you")
    expect(notes(page)).to_contain_text("5 tokens")
    settled(page)
    expect(box(page)).to_have_value("")


def test_stop_ends_this_answer_and_nobody_else_s(
    page: Page, open_page: OpenPage, address: str, model: FakeModel
) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "first of all")
    expect(answers(page)).to_have_text("You")
    other = open_page(address)
    ask(other, "second of all")
    model.gate.release(1)
    page.locator("#chat-box .stop-button").click()
    settled(page)
    assert model.generations[0].cancelled.wait(30)
    assert not model.generations[1].cancelled.is_set()
    expect(notes(page)).to_contain_text("stopped")
    model.gate.release(20)
    expect(answers(other)).to_have_text("You said: second of all")
    say(page, "again")


def test_stop_while_still_in_the_queue_gives_the_question_back(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(0)
    model.queue_ahead = 2
    ask(page, "are you there")
    expect(notes(page)).to_contain_text("2 requests before this one")
    page.locator("#chat-box .stop-button").click()
    expect(box(page)).to_have_value("are you there")
    assert model.generations[0].cancelled.wait(30)
    expect(page.locator("#chatbot [data-testid=user]")).to_have_count(0)


def test_leaving_the_page_ends_the_answer(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "first of all")
    expect(answers(page)).to_have_text("You")
    page.close()
    assert model.generations[0].cancelled.wait(30)


def test_retry_asks_the_same_again(page: Page, model: FakeModel) -> None:
    say(page, "one")
    say(page, "two")
    page.locator("#chatbot").get_by_role("button", name="Retry").click()
    for _ in range(100):  # the page looks the same before and after
        if len(model.prompts) == 3:
            break
        page.wait_for_timeout(50)
    expect(notes(page)).to_have_count(2)
    settled(page)
    assert [message["content"] for message in model.prompts[2][0]] == ["one", "You said: one", "two"]


def test_editing_an_earlier_message_takes_its_place(page: Page, model: FakeModel) -> None:
    say(page, "one")
    say(page, "two")
    page.locator("#chatbot").get_by_role("button", name="Edit").first.click()
    page.locator("#chatbot textarea").fill("three")
    page.locator("#chatbot").get_by_role("button", name="Submit").click()
    expect(answers(page)).to_have_text(["You said: three"])
    settled(page)
    assert [message["content"] for message in model.prompts[2][0]] == ["three"]


def test_undo_takes_the_question_back(page: Page) -> None:
    say(page, "one")
    say(page, "two")
    page.locator("#chatbot").get_by_role("button", name="Undo").click()
    expect(box(page)).to_have_value("two")
    expect(answers(page)).to_have_text(["You said: one"])


def test_copy_takes_the_answer_without_its_figures(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    say(page, "one")
    page.locator("#chatbot .message-buttons-left").get_by_role("button", name="Copy").click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.trim() === 'You said: one')")


def test_an_example_is_a_question(page: Page) -> None:
    example = page.locator("#chatbot .example").first
    text = example.inner_text().strip()
    example.click()
    expect(answers(page)).to_have_text(f"You said: {text}")


def test_a_reload_keeps_the_conversations(page: Page) -> None:
    say(page, "one")
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)
    say(page, "two")
    page.reload()
    expect(answers(page)).to_have_text("You said: two")
    page.locator("#chat-talks label", has_text="one").click()
    expect(answers(page)).to_have_text("You said: one")
    expect(page.locator("#chat-talks label")).to_have_text(["two", "one"])


def test_another_conversation_may_be_opened_while_one_is_written(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "first of all")
    expect(answers(page)).to_have_text("You")
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)
    assert model.generations[0].cancelled.wait(30)
    model.gate.release(20)
    say(page, "second")
    page.locator("#chat-talks label", has_text="first").click()
    expect(answers(page)).to_have_text("You")


def test_renaming_and_deleting_a_conversation(page: Page) -> None:
    say(page, "one")
    title = page.locator("#chat-title").get_by_role("textbox")
    title.fill("My talk")
    title.press("Enter")
    expect(page.locator("#chat-talks label")).to_have_text(["My talk"])
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)
    say(page, "two")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.locator("#confirm-yes").click()
    expect(page.locator("#chat-talks label")).to_have_text(["My talk"])
    expect(answers(page)).to_have_text("You said: one")
    page.reload()
    expect(page.locator("#chat-talks label")).to_have_text(["My talk"])


def test_conversations_are_saved_as_markdown_and_json(page: Page) -> None:
    say(page, "one")
    with page.expect_download() as markdown:
        page.get_by_role("button", name="Markdown").click()
    with page.expect_download() as plain:
        page.get_by_role("button", name="JSON").click()
    assert markdown.value.suggested_filename == "one.md"
    assert "You said: one" in Path(markdown.value.path()).read_text(encoding="utf-8")
    messages = json.loads(Path(plain.value.path()).read_text(encoding="utf-8"))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


def test_markdown_code_and_formulas_are_shown_and_nothing_is_run_or_fetched(page: Page, model: FakeModel) -> None:
    model.script = lambda _: [RICH]
    ask(page, "show me")
    expect(answers(page).locator("strong")).to_have_text("bold")
    expect(answers(page).locator(".katex")).to_have_count(1)
    expect(answers(page).locator("pre code")).to_contain_text("    return True")
    settled(page)
    assert page.title() != "taken over"


def test_a_refusal_is_a_sentence_and_the_question_stays(page: Page) -> None:
    model = page.locator("#chat-settings").get_by_role("combobox", name="Model")
    model.fill("nope")
    model.press("Enter")
    ask(page, "hello")
    expect(page.locator(".toast-body")).to_contain_text("There is no model named nope")
    expect(box(page)).to_have_value("hello")
    settled(page)


def test_the_language_turns_over_and_keeps_what_is_there(page: Page) -> None:
    say(page, "one")
    box(page).fill("half a question")
    page.locator("#language").click()
    expect(page.get_by_role("tab", name="对话")).to_be_visible()
    expect(page.locator("#chat-new")).to_contain_text("新对话")
    expect(box(page)).to_have_value("half a question")
    expect(answers(page)).to_have_text("You said: one")
    page.locator("#chat-box .submit-button").click()
    expect(notes(page).last).to_contain_text("个 token")


def test_a_phone_shows_it_all_without_sideways_scrolling(open_page: OpenPage, address: str) -> None:
    page = open_page(address, width=390, height=844)
    say(page, "one")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#chat-new")).to_be_hidden()
    page.locator("#chat-side-switch").click()
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)
    expect(page.locator("#chat-new")).to_be_hidden()
    page.locator("#chat-settings-switch").click()
    expect(page.locator("#chat-settings")).to_be_visible()
