"""All pages over the real services in one browser: axe-core, console, weight, and the
card that offers a better model than the packaged one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from gguf import GGUFWriter
from playwright.sync_api import Locator, Page, expect

from app.models.better_model import BetterModel
from app.models.catalog import bundled, known_models
from app.services import Services, build_services
from app.settings import read_settings
from app.web import ui
from app.web.server import launch
from tests.models.catalog.fake_hub import FakeHub, in_reach, running
from tests.real_server import StudioData
from tests.waiting import wait_for

pytestmark = pytest.mark.browser
TABS = ("chat", "story", "knowledge", "agent", "compare", "evaluate", "models")
FADED_IN = """document.getAnimations().every((one) =>
    one.playState !== "running" || one.effect.getComputedTiming().iterations === Infinity)"""
SENT = """() => [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
    .reduce((sum, one) => sum + one.transferSize, 0)"""
FRAMES = """window.frames_asked = 0;
const frame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (deed) => { window.frames_asked++; return frame(deed); };"""
AT_REST = """async () => {
    const before = frames_asked;
    await new Promise((done) => setTimeout(done, 1000));
    return frames_asked - before < 20;
}"""
OFFERED = "qwen3-0.6b-gguf"


@pytest.fixture(scope="module")
def services(studio_data: StudioData) -> Iterator[Services]:
    made = build_services(read_settings(["--data", str(studio_data("access")), "--device", "cpu", "--port", "0"]))
    yield replace(made, better=BetterModel(made.registry, bandwidth=lambda: 3e9, hub=lambda: True))
    made.close()


@pytest.fixture(scope="module")
def address(services: Services) -> Iterator[str]:
    blocks = ui.build(services)
    yield launch(blocks, services)[0]
    blocks.close(verbose=False)


def opened(page: Page, tab: str) -> None:
    page.evaluate("name => document.querySelector(`#tabs > .tab-wrapper [data-tab-id=${name}]`).click()", tab)
    expect(page.locator(f"#tab-{tab}")).to_be_visible()
    expect(page.locator(f"#tabs > .tab-wrapper [data-tab-id={tab}]")).to_be_in_viewport()
    page.wait_for_function(FADED_IN)  # what fades in is pale for a moment


def small_gguf(file: Path) -> Path:
    """A GGUF file as small as one can be: it is listed, its answers would be none."""
    writer = GGUFWriter(file, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_head_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return file


def dropped_on(place: Locator, file: Path) -> None:
    """A file from another window, drawn over the page and let go there."""
    session, at = place.page.context.new_cdp_session(place.page), {}
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}

    def is_over() -> bool:
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        assert box is not None
        at.update(x=box["x"] + box["width"] / 2, y=box["y"] + box["height"] / 2)
        for step in ("dragEnter", "dragOver"):
            session.send("Input.dispatchDragEvent", {"type": step, **at, "data": data})
        return place.get_attribute("data-over") is not None

    wait_for(is_over)  # what stands above it may still be drawn
    session.send("Input.dispatchDragEvent", {"type": "drop", **at, "data": data})


@pytest.mark.parametrize(("locale", "width", "dark"), [("zh-CN", 1440, False), ("en-US", 390, True)])
def test_no_page_has_a_serious_violation_or_an_error(
    open_page: Callable[..., Page], address: str, locale: str, width: int, dark: bool
) -> None:
    page = open_page(address, locale=locale, width=width)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    expect(page.locator("#better-open")).to_be_visible()
    assert page.evaluate(SENT) < 3_000_000
    if dark:
        page.locator("#theme").click()
    for tab in TABS:
        opened(page, tab)
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert not [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found], tab
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{tab} scrolls sideways"
    assert said == []


def test_the_card_is_put_away_by_keyboard_and_stays_away(open_page: Callable[..., Page], address: str) -> None:
    page = open_page(address)
    expect(page.locator("#better")).to_contain_text("a tiny English model")
    page.locator("#better-start").focus()
    page.keyboard.press("Escape")
    expect(page.locator("#better")).to_be_hidden()
    expect(page.locator("#better-open")).to_be_focused()
    page.add_init_script(FRAMES)
    page.reload()
    expect(page.locator("#better-open")).to_be_visible()
    expect(page.locator("#better")).to_be_hidden()
    page.wait_for_function(AT_REST)
    page.locator("#better-open").press("Enter")
    expect(page.locator("#better-start")).to_be_visible()
    page.locator("#chat-settings select").focus()  # the card lies over it
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.locator("#better")).to_be_hidden()
    expect(page.locator("#chat-settings select")).to_be_focused()


def test_the_card_goes_when_its_visitor_turns_to_the_page(open_page: Callable[..., Page], address: str) -> None:
    page = open_page(address)
    expect(page.locator("#better-start")).to_be_visible()
    page.locator("#chat-box textarea").press_sequentially("H")
    expect(page.locator("#better")).to_be_hidden()
    page.locator("#better-open").click()
    expect(page.locator("#better-start")).to_be_visible()
    page.locator("#better-what").click()
    expect(page.locator("#better-start")).to_be_visible()
    page.locator("#chat-box textarea").click()
    expect(page.locator("#better")).to_be_hidden()


def test_a_better_model_is_one_click_and_can_be_deleted_again(
    open_page: Callable[..., Page],
    address: str,
    services: Services,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = known_models.find(OFFERED)
    file = bundled.gguf_file(known_models.find(known_models.PACKAGED))
    page = open_page(address)
    with running(FakeHub({card.gguf: file.read_bytes()}, repository=card.location)) as hub:
        in_reach(hub, tmp_path / "hub", monkeypatch)
        page.get_by_label(OFFERED).check()
        page.locator("#better-start").click()
        expect(page.locator("#better-told")).to_contain_text("every page uses it now")
        expect(page.locator("#chat-model")).to_have_text(OFFERED)
        again = open_page(address)
        expect(again.locator("#chat-model")).to_have_text(OFFERED)
        expect(again.locator("#better-open")).to_be_hidden()
        opened(again, "models")
        expect(again.locator("#ledger")).to_contain_text("temperature")
        again.locator("#models-stored button").click()
        expect(again.locator("#confirm-title")).to_contain_text(card.location)
        again.locator("#confirm-yes").click()
        expect(again.locator("#models-told")).to_contain_text("is deleted")
        assert services.registry.default_name == known_models.PACKAGED
        expect(again.locator("#chat-model")).to_have_text(known_models.PACKAGED)
        dropped_on(again.locator("#models-drop"), small_gguf(tmp_path / "Brought.gguf"))
        expect(again.locator("#models-told")).to_contain_text("brought is here")
        expect(again.locator("#models-stored li")).to_have_count(1)
        for seen, tab, name in ((again, "chat", "Model"), (page, "evaluate", "Models")):
            opened(seen, tab)
            seen.locator(f"#tab-{tab} input[aria-label={name}]").click()
            expect(seen.get_by_role("option", name="brought")).to_be_visible()
