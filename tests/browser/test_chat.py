"""The chat tab in a real browser, over a model that answers from a script."""

import json
import re
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
    page.locator("#chat-list button", has_text="one").click()
    expect(answers(page)).to_have_text("You said: one")
    expect(page.locator("#chat-list button")).to_have_text(["two", "one"])


def test_another_conversation_may_be_opened_while_one_is_written(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "first of all")
    expect(answers(page)).to_have_text("You")
    page.locator("#chat-new").click()
    expect(page.locator(".toast-body")).to_contain_text("«first of all» was stopped")
    expect(answers(page)).to_have_count(0)
    assert model.generations[0].cancelled.wait(30)
    model.gate.release(20)
    say(page, "second")
    page.locator("#chat-list button", has_text="first").click()
    expect(answers(page)).to_have_text("You")


def test_a_reload_in_mid_answer_keeps_what_had_come_and_goes_on(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(2)
    ask(page, "hello to you")
    expect(answers(page)).to_have_text("You said:")
    page.reload()
    expect(answers(page)).to_have_text("You said:")
    expect(notes(page)).to_contain_text("broken off")
    model.gate = None
    model.script = lambda _: ["hello", " to you"]
    page.locator("#chat-go-on").click()
    expect(answers(page)).to_have_text("You said: hello to you")
    settled(page)
    expect(page.locator("#chat-go-on")).to_have_count(0)
    assert [message["content"] for message in model.prompts[1][0][:2]] == ["hello to you", "You said:"]


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
    expect(answers(page)).to_have_text("You said: are you there")
    settled(page)
    model.gate = threading.Semaphore(0)
    ask(page, "and now")
    expect(notes(page).last).to_contain_text("One moment")
    page.reload()
    expect(notes(page).last).to_contain_text("not answered")
    model.gate = None
    say(page, "still there?")
    expect(page.locator("#chatbot [data-testid=user]")).to_have_text(["are you there", "and now", "still there?"])


def test_a_reload_keeps_the_settings_which_are_each_conversation_s_own(page: Page, model: FakeModel) -> None:
    system = page.get_by_role("textbox", name="System prompt")
    system.fill("be brief")
    say(page, "one")
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)
    system.fill("be long")
    say(page, "two")
    page.reload()
    expect(answers(page)).to_have_text("You said: two")
    expect(system).to_have_value("be long")
    page.locator("#chat-list button", has_text="one").click()
    expect(system).to_have_value("be brief")
    ask(page, "three")
    expect(answers(page)).to_have_count(2)
    assert model.prompts[-1][0][0] == {"role": "system", "content": "be brief"}


def test_two_tabs_lose_nothing_of_each_other_s(page: Page, model: FakeModel) -> None:
    """Other conversations, the same one while nothing is written, and the same one while both write."""
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("html[data-studio-ready]").wait_for(state="attached")
    say(page, "one")
    say(other, "two")
    titles = ["two", "one"]
    expect(page.locator("#chat-list button")).to_have_text(titles)
    expect(other.locator("#chat-list button")).to_have_text(titles)
    other.locator("#chat-list button", has_text="one").click()
    expect(answers(other)).to_have_text("You said: one")
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
    page.reload()
    expect(answers(page)).to_have_count(4)
    assert {f"You said: {word}" for word in ("one", "three", "four", "five")} == set(answers(page).all_inner_texts())


def test_tab_and_conversation_have_an_address(page: Page) -> None:
    say(page, "one")
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)
    say(page, "two")
    page.get_by_role("tab", name="Models").click()
    expect(page).to_have_url(re.compile(r"tab=models"))
    page.reload()
    expect(page.get_by_role("tab", name="Models")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.get_by_role("tab", name="Chat")).to_have_attribute("aria-selected", "true")
    expect(answers(page)).to_have_text("You said: two")
    page.go_back()
    expect(answers(page)).to_have_text("You said: one")
    page.go_forward()
    expect(answers(page)).to_have_text("You said: two")


TYPED = "__init__ <b>x</b> a<b and c>d $5 and $6 `x` <think>hm</think> <script>y</script> \\(y\\)\n\n# head\n    * dot"


def test_what_is_typed_is_shown_copied_and_edited_as_it_was_typed(page: Page, model: FakeModel) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, TYPED)
    settled(page)
    question = page.locator("#chatbot [data-testid=user] .typed")
    assert question.evaluate("element => element.innerText") == TYPED
    page.locator("#chatbot .message-buttons-right").get_by_role("button", name="Copy").click()
    page.wait_for_function("typed => navigator.clipboard.readText().then((text) => text.trim() === typed)", arg=TYPED)
    page.locator("#chatbot").get_by_role("button", name="Edit").first.click()
    edited = page.locator("#chatbot .edit-textarea")
    expect(edited).to_have_value(TYPED)
    assert edited.bounding_box()["width"] > 400  # type: ignore[index]
    edited.press("Escape")
    expect(edited).to_have_count(0)
    page.reload()
    assert question.evaluate("element => element.innerText") == TYPED
    assert model.prompts[0][0][-1]["content"] == TYPED


def test_renaming_and_deleting_a_conversation(page: Page) -> None:
    say(page, "one")
    title = page.locator("#chat-title").get_by_role("textbox")
    title.fill("My talk")
    title.press("Enter")
    expect(page.locator("#chat-list button")).to_have_text(["My talk"])
    page.locator("#chat-new").click()
    expect(answers(page)).to_have_count(0)
    say(page, "two")
    page.locator("#chat-delete").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.locator("#confirm-yes").click()
    expect(page.locator("#chat-list button")).to_have_text(["My talk"])
    expect(answers(page)).to_have_text("You said: one")
    page.reload()
    expect(page.locator("#chat-list button")).to_have_text(["My talk"])


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
