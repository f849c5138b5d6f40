"""Answers in the chat in a real browser: streamed, stopped, asked for again, shown as they are."""

import threading

import pytest
from playwright.sync_api import Page, expect

from app.models.interface import Part, SamplingDefaults
from tests.browser.chat_page import answers, ask, box, notes, say, settled, versions
from tests.conftest import OpenPage
from tests.fakes import FakeModel, FakeRegistry
from tests.waiting import wait_for

pytestmark = pytest.mark.browser
TYPED = "__init__ <b>x</b> a<b and c>d $5 and $6 `x` <think>hm</think> <script>y</script> \\(y\\)\n\n# head\n    * dot"
RICH = """**bold** and $x^2$

```python
def prime() -> bool:
    return True
```

<img src="nothing" onerror="document.title='taken over'">
![far](http://far.example/pixel.png)
"""


def test_an_answer_streams_with_its_figures(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "hello to you")
    expect(answers(page)).to_have_text(["You"])
    model.gate.release(20)
    expect(answers(page)).to_have_text(["You said: hello to you"])
    expect(notes(page)).to_contain_text("5 tokens")
    settled(page)
    expect(box(page)).to_have_value("")


def test_stop_ends_this_answer_and_nobody_else_s(
    page: Page, open_page: OpenPage, address: str, model: FakeModel
) -> None:
    model.gate = threading.Semaphore(1)
    ask(page, "first of all")
    expect(answers(page)).to_have_text(["You"])
    other = open_page(address)
    ask(other, "second of all")
    wait_for(lambda: len(model.generations) == 2)
    model.gate.release(1)
    page.locator("#chat-box .stop-button").click()
    settled(page)
    assert model.generations[0].cancelled.wait(120)
    assert not model.generations[1].cancelled.is_set()
    expect(notes(page)).to_contain_text("stopped")
    model.gate.release(20)
    expect(answers(other)).to_have_text(["You said: second of all"])
    say(page, "again")


def test_stop_while_still_in_the_queue_gives_the_question_back(page: Page, model: FakeModel) -> None:
    model.gate = threading.Semaphore(0)
    model.queue_ahead = 2
    ask(page, "are you there")
    expect(notes(page)).to_contain_text("2 requests before this one")
    page.locator("#chat-box .stop-button").click()
    expect(box(page)).to_have_value("are you there")
    assert model.generations[0].cancelled.wait(120)
    expect(page.locator("#chatbot [data-testid=user]")).to_have_count(0)


def test_a_turn_is_asked_again_changed_and_taken_back_and_every_version_stays(page: Page, model: FakeModel) -> None:
    counts = iter("abcd")
    model.script = lambda messages: [f"{messages[-1]['content']} {next(counts)}"]
    chatbot = page.locator("#chatbot")
    for question, answer in (("one", "one a"), ("two", "two b")):
        ask(page, question)
        expect(answers(page).last).to_have_text(answer)
        settled(page)
    chatbot.get_by_role("button", name="Retry").click()
    expect(answers(page)).to_have_text(["one a", "two c"])
    settled(page)
    assert [message["content"] for message in model.prompts[2][0]] == ["one", "one a", "two"]
    expect(versions(page)).to_have_text(["2 / 2"])
    chatbot.get_by_role("button", name="Edit").first.click()
    expect(page.locator("#chatbot textarea")).to_have_value("one")
    page.locator("#chatbot textarea").fill("three")
    chatbot.get_by_role("button", name="Submit").click()
    expect(answers(page)).to_have_text(["three d"])
    settled(page)
    assert [message["content"] for message in model.prompts[3][0]] == ["three"]
    expect(versions(page)).to_have_text(["2 / 2"])
    versions(page).get_by_role("link").press("Enter")
    expect(answers(page)).to_have_text(["one a", "two c"])
    versions(page).last.get_by_role("link").press("Enter")
    expect(answers(page)).to_have_text(["one a", "two b"])
    page.reload()
    expect(answers(page)).to_have_text(["one a", "two b"])
    expect(versions(page)).to_have_text(["1 / 2", "1 / 2"])
    chatbot.get_by_role("button", name="Undo").click()
    expect(box(page)).to_have_value("two")
    expect(answers(page)).to_have_text(["one a"])
    page.reload()
    expect(answers(page)).to_have_text(["one a"])


def test_while_an_answer_is_written_no_other_begins_beside_it(page: Page, model: FakeModel) -> None:
    say(page, "one")
    model.gate = threading.Semaphore(0)
    retry = page.locator("#chatbot").get_by_role("button", name="Retry")
    retry.click()
    expect(notes(page).last).to_contain_text("One moment")
    expect(retry).to_be_hidden()
    box(page).fill("two")
    box(page).press("Enter")
    model.gate.release(50)
    settled(page)
    expect(answers(page)).to_have_text(["You said: one"])
    expect(box(page)).to_have_value("two")
    box(page).press("Enter")
    expect(answers(page)).to_have_text(["You said: one", "You said: two"])


def test_an_answer_is_edited_and_the_model_goes_on_from_there(page: Page, model: FakeModel) -> None:
    switch = page.get_by_label("Think before answering")
    expect(switch).to_be_hidden()
    model.thinking = "optional"  # known once it is loaded
    model.script = lambda _: [Part("let me see", "reasoning"), "so **it** is"]
    ask(page, "one")
    settled(page)
    expect(switch).to_be_visible()
    say_more = page.locator("#chat-go-on")
    page.locator("#chatbot .message-buttons-left").get_by_role("button", name="Edit").click()
    edited = page.locator("#chatbot .edit-textarea:visible")
    expect(edited).to_have_value("so **it** is")
    edited.fill("it **was**")
    page.locator("#chatbot").get_by_role("button", name="Submit").click()
    expect(answers(page)).to_have_text(["it was"])
    model.script = lambda _: [" long ago"]
    say_more.click()
    expect(answers(page)).to_have_text(["it was long ago"])
    settled(page)
    expect(say_more).to_be_hidden()
    assert [message["content"] for message in model.prompts[1][0]] == ["one", "it **was**"]
    versions(page).get_by_role("link", name="Earlier version").click()
    expect(answers(page).locator(".thinking")).to_have_count(1)
    expect(answers(page).locator("p").last).to_have_text("so it is")


def test_another_model_answers_anew(page: Page, registry: FakeRegistry) -> None:
    registry.models["other"] = FakeModel("other", script=lambda _: ["I differ"])
    say(page, "one")
    choice = page.locator("#chat-settings").get_by_role("combobox", name="Model")
    choice.fill("other")
    choice.press("Enter")
    page.get_by_role("button", name="Answer again with other").click()
    expect(answers(page)).to_have_text(["I differ"])
    settled(page)
    expect(page.locator("#chat-retry")).to_be_hidden()
    expect(notes(page)).to_contain_text("2 / 2 other · ")
    versions(page).get_by_role("link").click()
    expect(notes(page)).to_contain_text("1 / 2 tiny · ")
    expect(answers(page)).to_have_text(["You said: one"])


def test_two_models_answer_side_by_side_and_one_is_kept(page: Page, model: FakeModel, registry: FakeRegistry) -> None:
    other = registry.models["tiny+other"] = FakeModel(
        "tiny+other", script=lambda _: ["I ", "differ"], gate=threading.Semaphore(1)
    )
    model.gate = threading.Semaphore(1)
    compare = page.locator("#chat-settings").get_by_role("combobox", name="Compare with")
    compare.fill("tiny+other")
    compare.press("Enter")
    ask(page, "one")
    expect(answers(page)).to_have_count(2)
    expect(answers(page).nth(0)).to_contain_text("You")
    expect(answers(page).nth(1)).to_contain_text("I")  # both are being written
    for gate in (model.gate, other.gate):
        gate.release(99)  # type: ignore[union-attr]
    settled(page)
    expect(answers(page).nth(0)).to_contain_text("You said: one")
    expect(answers(page).nth(1)).to_contain_text("I differ")
    assert registry.by_weights == {"tiny", "tiny+other"}, "base and tuned: one batch"
    left, right = (answers(page).nth(place).bounding_box() for place in range(2))
    assert left and right and abs(left["y"] - right["y"]) < 8 and left["x"] + left["width"] <= right["x"]
    page.get_by_role("link", name="Keep this answer").last.click()
    expect(answers(page)).to_have_text(["I differ"])  # a list waits until the other one has gone
    expect(notes(page)).to_contain_text("2 / 2 tiny+other · ")
    versions(page).get_by_role("link").click()
    expect(answers(page)).to_have_text(["You said: one"])


def test_a_second_model_that_fails_leaves_the_first_s_answer(page: Page) -> None:
    compare = page.locator("#chat-settings").get_by_role("combobox", name="Compare with")
    compare.fill("nope")
    compare.press("Enter")
    ask(page, "one")
    expect(page.locator(".toast-body")).to_contain_text("There is no model named nope")
    expect(answers(page)).to_have_text(["You said: one"])
    settled(page)


def test_an_example_is_a_question_and_rich_answers_run_and_fetch_nothing(page: Page, model: FakeModel) -> None:
    example = page.locator("#chatbot .example").first
    text = example.inner_text().strip()
    example.click()
    expect(answers(page)).to_have_text(f"You said: {text}")
    settled(page)
    model.script = lambda _: [RICH]
    ask(page, "show me")
    rich = answers(page).last
    expect(rich.locator("strong")).to_have_text("bold")
    expect(rich.locator(".katex")).to_have_count(1)
    expect(rich.locator("pre code")).to_contain_text("    return True")
    settled(page)
    assert page.title() != "taken over"


def test_what_is_typed_is_shown_copied_and_edited_as_it_was_typed(page: Page, model: FakeModel) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, TYPED)
    expect(answers(page)).to_contain_text("You said")
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


def test_a_refusal_is_a_sentence_and_the_question_stays(page: Page) -> None:
    model = page.locator("#chat-settings").get_by_role("combobox", name="Model")
    model.fill("nope")
    model.press("Enter")
    ask(page, "hello")
    expect(page.locator(".toast-body")).to_contain_text("There is no model named nope")
    expect(box(page)).to_have_value("hello")
    settled(page)


def test_the_settings_show_the_model_s_own_sampling_until_the_visitor_changes_them(
    page: Page, registry: FakeRegistry
) -> None:
    hot = FakeModel("hot", sampling_defaults=SamplingDefaults(temperature=0.65, top_p=0.8))
    registry.models["hot"] = hot
    settings = page.locator("#chat-settings")
    choice, temperature = settings.get_by_role("combobox", name="Model"), settings.get_by_label("number input").first
    expect(temperature).to_have_value("0.2")
    choice.fill("hot")
    choice.press("Enter")
    expect(temperature).to_have_value("0.65")
    say(page, "one")
    assert (hot.prompts[-1][1].temperature, hot.prompts[-1][1].top_p) == (None, None), "the checkpoint's own"
    temperature.fill("0.3")
    temperature.press("Enter")
    choice.fill("tiny")
    choice.press("Enter")
    expect(settings.get_by_label("number input").nth(1)).to_have_value("0.9")
    expect(temperature).to_have_value("0.3")


def test_the_language_turns_over_and_keeps_what_is_there(page: Page) -> None:
    say(page, "one")
    box(page).fill("half a question")
    page.locator("#language").click()
    expect(page.get_by_role("tab", name="对话")).to_be_visible()
    expect(page.locator("#chat-new")).to_contain_text("新对话")
    expect(box(page)).to_have_value("half a question")
    expect(answers(page)).to_have_text(["You said: one"])
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
    page.locator("#chat-settings textarea").first.press("Escape")
    expect(page.locator("#chat-settings")).to_be_hidden()
    expect(page.locator("#chat-settings-switch")).to_be_focused()
