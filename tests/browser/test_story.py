"""The story tab in a real browser: written, worked on, undone, kept over a reload, saved to files."""

import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from docx import Document
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.fakes import FakeModel

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("author")]
COURSE = "请编写一个300字的小故事，描述你作为一个语言模型是如何被训练的。"
OpenPage = Callable[..., Page]


@pytest.fixture
def page(open_page: OpenPage, story_address: str) -> Page:
    page = open_page(story_address)
    page.get_by_role("tab", name="Story").click()
    return page


def paragraphs(page: Page) -> Locator:
    return page.locator("#story-paper p[data-place]")


def write(page: Page, length: int = 120) -> list[str]:
    page.locator("#story-premise textarea").fill("A lamp in the fog")
    page.locator("#story-length input").fill(str(length))
    page.locator("#story-write").click()
    expect(paragraphs(page).first).to_be_visible()
    return paragraphs(page).all_inner_texts()


def test_a_story_is_written_worked_on_kept_and_saved(page: Page) -> None:
    first = write(page)
    expect(page.locator("#story-status")).to_contain_text("of 120")
    expect(page.locator("#story-status")).to_contain_text("Click a paragraph")
    paragraphs(page).first.click()
    expect(page.locator("#story-keep")).to_be_in_viewport()
    page.get_by_role("button", name="Rewrite").click()
    expect(paragraphs(page).first).not_to_have_text(first[0])
    page.locator("#story-undo").click()
    expect(paragraphs(page).first).to_have_text(first[0])
    paragraphs(page).first.click()
    page.locator("#story-edited textarea").fill("Typed by <b>hand</b>.")
    page.locator("#story-keep").click()
    expect(paragraphs(page).first).to_have_text("Typed by <b>hand</b>.")
    page.reload()
    page.get_by_role("tab", name="Story").click()
    expect(paragraphs(page).first).to_have_text("Typed by <b>hand</b>.")
    expect(page.locator("#story-premise textarea")).to_have_value("A lamp in the fog")
    for button, name in (("Markdown", "A lamp in the fog.md"), ("Word", "A lamp in the fog.docx")):
        with page.expect_download() as saved:
            page.locator("#story-bar").get_by_role("button", name=button).click()
        assert saved.value.suggested_filename == name
    assert Document(str(saved.value.path())).paragraphs[1].text == "Typed by <b>hand</b>."
    with page.expect_download() as saved:
        page.locator("#story-bar").get_by_role("button", name="Zip").click()
    packed = ZipFile(BytesIO(Path(saved.value.path()).read_bytes()))
    assert packed.namelist() == ["story.md", "story.docx"]
    page.locator("#story-undo").click()
    expect(paragraphs(page).first).to_have_text(first[0])
    page.locator("#story-clear").press("Enter")
    expect(page.locator("#story-empty")).to_be_visible()
    expect(paragraphs(page)).to_have_count(0)
    expect(page.locator("#story-clear")).to_be_focused()


def test_stop_keeps_what_is_there(page: Page, author: FakeModel) -> None:
    author.gate = threading.Semaphore(40)
    page.locator("#story-premise textarea").fill("A lamp in the fog")
    page.locator("#story-write").click()
    expect(page.locator("#story-paper p")).to_be_visible()
    page.locator("#story-stop").click()
    expect(page.locator("#story-write")).to_be_visible()
    expect(page.locator("#story-status")).to_contain_text("stopped")
    assert author.generations[0].cancelled.wait(120)
    expect(paragraphs(page)).to_have_count(1)
    page.reload()
    page.get_by_role("tab", name="Story").click()
    expect(paragraphs(page)).to_have_count(1)


def test_a_draft_of_the_bible_is_stopped_and_keeps_what_is_there(page: Page, author: FakeModel) -> None:
    author.script = lambda _: ["Synopsis: A lamp burns.\n", "Characters:\n", "Mara: the keeper\n", *["and on "] * 500]
    author.gate = threading.Semaphore(2)
    page.locator("#story-premise textarea").fill("A lamp in the fog")
    page.locator("#story-draft-bible").click()
    expect(page.locator("#story-synopsis textarea")).to_have_value("A lamp burns.")
    expect(page.locator("#story-draft-bible")).to_be_hidden()
    page.locator("#story-stop-bible").click()
    expect(page.locator("#story-draft-bible")).to_be_visible()
    assert author.generations[0].cancelled.wait(120)
    expect(page.locator("#story-budget")).to_contain_text("4 of 512 tokens")  # it was kept, and the model is loaded
    page.reload()
    page.get_by_role("tab", name="Story").click()
    expect(page.locator("#story-synopsis textarea")).to_have_value("A lamp burns.")


def test_a_draft_that_is_refused_can_be_asked_for_again(page: Page) -> None:
    page.locator("#story-draft-outline").click()
    expect(page.locator(".toast-body")).to_contain_text("Say first what the story is about")
    expect(page.locator("#story-draft-outline")).to_be_visible()
    expect(page.locator("#story-stop-outline")).to_be_hidden()


def test_the_bible_costs_tokens_and_knows_its_names(page: Page, author: FakeModel) -> None:
    author.script = lambda _: ["Mara met Maara near the red lamp by the sea that night. Then Boris came along too."]
    page.locator("#story-characters textarea").fill("Mara: the keeper")
    page.locator("#story-characters textarea").blur()
    expect(page.locator("#story-budget")).to_contain_text("of 1024 tokens")
    write(page, 50)
    expect(page.locator("#story-warnings")).to_contain_text("Maara (1): is it Mara?")
    assert "Mara: the keeper" in author.prompts[0][0][0]["content"]


def test_a_refusal_is_a_sentence(page: Page) -> None:
    page.locator("#story-write").click()
    expect(page.locator(".toast-body")).to_contain_text("Say first what the story is about")
    expect(page.locator("#story-write")).to_be_visible()


def test_an_example_becomes_the_premise_and_a_phone_shows_it_all(open_page: OpenPage, story_address: str) -> None:
    page = open_page(story_address, locale="zh-CN", width=390, height=844)
    page.get_by_role("tab", name="故事").click()
    page.locator("#story-empty button").first.click()
    expect(page.locator("#story-premise textarea")).to_have_value(
        "请编写一个300字的小故事，描述你作为一个语言模型是如何被训练的。"
    )
    page.locator("#story-write").click()
    expect(paragraphs(page).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_story_is_illustrated_from_one_s_own_pictures(page: Page, tmp_path: Path) -> None:
    write(page, 600)
    paths = []
    for number, colour in enumerate(("red", "green", "blue", "white")):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (80, 50), colour).save(paths[-1])
    paths.append(tmp_path / "broken.jpg")
    paths[-1].write_bytes(b"no picture")
    with page.expect_file_chooser() as chooser:
        page.locator("#article-upload").click()
    chooser.value.set_files(paths)
    expect(page.locator("#article-status")).to_contain_text("4 pictures")
    expect(page.locator("#article-status")).to_contain_text("broken.jpg is no picture")
    page.locator("#article-start").click()
    images = page.locator("#article-paper figure img")
    expect(images.first).to_be_visible()
    paragraphs(page).first.click()
    page.locator("#story-edited textarea").fill("Typed by <b>hand</b>.")
    page.locator("#story-keep").click()
    expect(page.locator("#article-paper p").first).to_have_text("Typed by <b>hand</b>.")
    before = images.first.get_attribute("src") or ""
    images.first.click()
    page.locator("#article-next").click()
    expect(images.first).not_to_have_attribute("src", before)
    other = page.locator("#article-choices img:not(.chosen)").first
    picture = other.get_attribute("data-picture") or ""
    other.click()
    expect(page.locator("#article-choices img.chosen")).to_have_attribute("data-picture", picture)
    first, second = (images.nth(place).get_attribute("src") for place in (0, 1))
    page.locator("#article-swap").click()
    expect(page.locator("#article-status")).to_contain_text("Now click the picture")
    images.nth(1).click()
    expect(images.first).to_have_attribute("src", second or "")
    expect(images.nth(1)).to_have_attribute("src", first or "")
    expect(page.locator("#article-status")).to_contain_text("4 pictures")
    for button, ending in (("#article-markdown", "md"), ("#article-word", "docx")):
        with page.expect_download() as saved:
            page.locator(button).click()
        assert saved.value.suggested_filename == f"A lamp in the fog.{ending}"
    with page.expect_download() as saved:
        page.locator("#story-bar").get_by_role("button", name="Zip").click()
    in_story = ZipFile(BytesIO(Path(saved.value.path()).read_bytes())).namelist()
    with page.expect_download() as saved:
        page.locator("#article-zip").click()
    count = images.count()
    names = ZipFile(BytesIO(Path(saved.value.path()).read_bytes())).namelist()
    assert sum(name.startswith("pictures/") for name in names) == count
    assert in_story == names
    page.locator("#article-remove").click()
    expect(images).to_have_count(count - 1)
