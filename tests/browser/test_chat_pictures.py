"""Pictures in the chat, in a real browser, over models that answer from a script."""

import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from app.models.interface import Message
from app.web import ui
from tests.browser.chat_page import answers, ask, settled
from tests.fakes import FakeModel, FakeRegistry, fake_services
from tests.waiting import wait_for

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]


def look(messages: Sequence[Message]) -> Sequence[str]:
    """Says the sizes of all pictures it was shown."""
    images = [image for message in messages for image in message.get("images", ())]
    return ["I see " + ", ".join("×".join(map(str, Image.open(io.BytesIO(image)).size)) for image in images)]


@pytest.fixture(scope="module")
def registry() -> FakeRegistry:
    return FakeRegistry(FakeModel("eyes", look, is_multimodal=True), FakeModel("blind"))


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the server puts what is uploaded."""
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def address(serve_module: Callable[..., str], registry: FakeRegistry, uploads: Path) -> str:  # noqa: ARG001
    return serve_module(ui.build(fake_services(registry)))


@pytest.fixture
def vision_model(registry: FakeRegistry) -> FakeModel:
    registry.reset(FakeModel("eyes", look, is_multimodal=True), FakeModel("blind"))
    return registry.models["eyes"]


@pytest.fixture
def page(open_page: OpenPage, address: str, vision_model: FakeModel) -> Page:  # noqa: ARG001
    return open_page(address)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (3000, 1500), "teal").save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def attach(page: Page, *files: Path) -> Locator:
    with page.expect_file_chooser() as chooser:
        page.locator("#chat-attach").click()
    chooser.value.set_files(files)
    tray = page.locator("#chat-tray img")
    expect(tray).to_have_count(len(files))
    return tray


def hand_over(page: Page, event: str) -> None:
    """A picture that is pasted into the question, or dropped on it."""
    page.locator("#chat-box textarea").evaluate(
        """async (box, kind) => {
            const canvas = Object.assign(document.createElement("canvas"), {width: 40, height: 20});
            const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
            const parcel = new DataTransfer();
            parcel.items.add(new File([blob], "handed.png", {type: "image/png"}));
            const how = {bubbles: true, cancelable: true, clipboardData: parcel, dataTransfer: parcel};
            box.dispatchEvent(kind === "drop" ? new DragEvent(kind, how) : new ClipboardEvent(kind, how));
        }""",
        event,
    )


def choose(page: Page, model: str) -> None:
    choice = page.locator("#chat-settings").get_by_role("combobox", name="Model")
    choice.fill(model)
    choice.press("Enter")


def test_a_picture_is_sent_shown_and_kept_for_the_follow_up(page: Page, photo: Path, vision_model: FakeModel) -> None:
    attach(page, photo)
    ask(page, "What is this?")
    expect(answers(page)).to_have_text(["I see 1536×768"])
    expect(page.locator("#chat-tray img")).to_have_count(0)
    thumbnail = page.locator("#chatbot [data-testid=user] img.chat-picture")
    expect(thumbnail).to_have_count(1)
    assert thumbnail.evaluate("image => image.decode().then(() => image.naturalWidth)") == 288
    settled(page)
    ask(page, "And why?")
    expect(answers(page)).to_have_text(["I see 1536×768", "I see 1536×768"])
    settled(page)
    assert [message["content"] for message in vision_model.prompts[1][0]] == [
        "What is this?",
        "I see 1536×768",
        "And why?",
    ]
    page.reload()
    expect(thumbnail).to_have_count(1)
    ask(page, "Still?")
    expect(answers(page).last).to_have_text("I see 288×144")


def test_a_model_that_does_not_see_is_told_of_before_sending_and_nothing_is_lost(page: Page, photo: Path) -> None:
    tray = attach(page, photo)
    choose(page, "blind")
    expect(page.locator("#chat-tray p")).to_contain_text("The model blind cannot see pictures")
    ask(page, "What is this?")
    expect(page.locator(".toast-body")).to_contain_text("cannot see pictures")
    expect(page.locator("#chat-box textarea")).to_have_value("What is this?")
    expect(tray).to_have_count(1)
    choose(page, "eyes")
    expect(page.locator("#chat-tray p")).to_have_count(0)
    page.locator("#chat-box .submit-button").click()
    expect(page.locator("#chatbot [data-testid=bot]").first).to_have_text("I see 1536×768")


def test_a_pasted_picture_and_one_that_cannot_be_used(page: Page, tmp_path: Path) -> None:
    hand_over(page, "paste")
    expect(page.locator("#chat-tray img")).to_have_count(1)
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    with page.expect_file_chooser() as chooser:
        page.locator("#chat-attach").click()
    chooser.value.set_files(tmp_path / "drawing.svg")
    expect(page.locator(".toast-body")).to_contain_text("drawing.svg is an SVG drawing")
    page.locator("#chat-remove").click()
    expect(page.locator("#chat-tray img")).to_have_count(0)


def written_in(folder: Path) -> list[Path]:
    """Its files that are not empty; others go meanwhile."""
    found = []
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if file.is_file() and file.stat().st_size:
                found.append(file)
    return found


def test_a_dropped_picture_and_the_camera(uploads: Path, page: Page) -> None:
    for earlier in uploads.iterdir():
        shutil.rmtree(earlier, ignore_errors=True) if earlier.is_dir() else earlier.unlink(missing_ok=True)
    hand_over(page, "drop")
    expect(page.locator("#chat-tray img")).to_have_count(1)
    page.locator("#chat-camera").click()
    lens = page.locator("#chat-lens")
    lens.get_by_role("button", name="Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#chat-lens video').videoWidth > 0")
    lens.get_by_role("button", name="capture photo").click()
    expect(page.locator("#chat-tray img")).to_have_count(2)
    expect(lens).to_have_count(0)
    ask(page, "What are these?")
    expect(answers(page)).to_have_text(re.compile(r"I see 40×20, \d{3,4}×\d{3,4}"))
    assert len(written_in(uploads)) <= 2, "gradio makes no copy of its own: the uploads themselves, which go soon"


def test_retry_and_edit_keep_the_pictures_of_the_question(page: Page, photo: Path, vision_model: FakeModel) -> None:
    attach(page, photo)
    ask(page, "What is this?")
    expect(answers(page)).to_have_text(["I see 1536×768"])
    settled(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#chatbot").get_by_role("button", name="Copy").first.click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.trim() === 'What is this?')")
    page.locator("#chatbot").get_by_role("button", name="Retry").click()
    asked(page, vision_model, 2)
    page.locator("#chatbot").get_by_role("button", name="Edit").first.click()
    edited = page.locator("#chatbot textarea")
    expect(edited).to_have_value("What is this?")
    edited.fill("And where?")
    page.locator("#chatbot").get_by_role("button", name="Submit").click()
    asked(page, vision_model, 3)
    expect(answers(page)).to_have_text(["I see 1536×768"])
    expect(page.locator("#chatbot [data-testid=user] img.chat-picture")).to_have_count(1)
    assert [[turn["content"] for turn in prompt[0]] for prompt in vision_model.prompts] == [
        ["What is this?"],
        ["What is this?"],
        ["And where?"],
    ]


def test_a_model_that_cannot_see_says_what_it_left_out(page: Page, photo: Path) -> None:
    attach(page, photo)
    ask(page, "What is this?")
    expect(answers(page)).to_have_text(["I see 1536×768"])
    settled(page)
    choose(page, "blind")
    ask(page, "And why?")
    expect(answers(page).last).to_have_text("You said: And why?")
    expect(page.locator("#chatbot .thought-group").last).to_contain_text(
        "this model cannot see pictures; earlier ones left out: 1"
    )


def asked(page: Page, model: FakeModel, times: int) -> None:
    """Wait until the model was asked so often; the page may look the same before and after."""
    wait_for(lambda: len(model.prompts) == times)
    settled(page)
