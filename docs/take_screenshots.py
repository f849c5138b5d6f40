"""The documentation's pictures, in one go: python docs/take_screenshots.py [--only chat,models] [--into FOLDER]

Starts a server of its own over data/screenshots, where the assistant that was trained, judged and evaluated for the
pictures stays: a second run only looks. The packaged model answers with its full weights, asked what it knows. Without
--into, the pictures that the documentation shows go to docs/screenshots; with it, every page in both languages, light
and dark, at desktop and phone width.
"""

import argparse
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.paths import ROOT
from app.process import prepare_process
from app.services import build_services
from app.settings import read_settings
from app.web import ui
from app.web.server import launch

FOLDER = Path(__file__).parent / "screenshots"
DATA = ROOT / "data" / "screenshots"
PORT = "7890"  # what a browser keeps belongs to an address
BROWSER = DATA / "browser.json"  # what the browser keeps of the assistant's owner, who alone sees it
TRAINED = {"tune", "compare"}  # pictures of the assistant
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
LOCALES = {"zh": "zh-CN", "en": "en-GB"}
PATIENCE_MS = 180_000
TRAINING_MS = 1_200_000
QUESTION = "Why are safetensors considered safer?"  # in English: the packaged model knows little else


@dataclass(frozen=True)
class Look:
    """How a visitor sees the page."""

    language: str
    size: str = "desktop"
    scheme: str = "light"

    @property
    def suffix(self) -> str:
        return f"{self.language}-{self.size}-{self.scheme}"


def chat(page: Page, look: Look) -> None:
    if look.size == "desktop":
        page.locator("#chat-settings").get_by_label(re.compile("温度|Temperature")).first.fill("0")
    box = page.locator("#chat-box textarea")
    box.fill("What is the capital of France?")
    box.press("Enter")
    page.get_by_text(re.compile(r"每秒 [1-9\d.]+ 个|[1-9\d.]+ tokens/s")).first.wait_for()
    answered(page, "#chat-box")


def answered(page: Page, box: str) -> None:
    """An answer that has begun is at its end."""
    page.locator(f"{box} .stop-button").wait_for(state="hidden")


def knowledge(page: Page, _: Look) -> None:
    page.get_by_text("model-files.md").first.wait_for()
    page.locator("#knowledge-box textarea").fill(QUESTION)
    page.locator("#knowledge-box textarea").press("Enter")
    page.locator("#knowledge-sources .source").first.wait_for()
    answered(page, "#knowledge-box")


def story(page: Page, _: Look) -> None:
    page.locator("#story-premise textarea").fill("A lighthouse keeper finds a letter in a bottle")
    page.locator("#story-length input").fill("80")
    more = page.locator("#story-more")
    more.locator("button").first.click()
    more.get_by_label(re.compile("温度|Temperature")).first.fill("0.3")
    more.get_by_label(re.compile("种子|[Ss]eed")).first.fill("3")
    more.locator("button").first.click()
    page.locator("#story-write").click()
    page.locator("#story-stop").wait_for()
    page.locator("#story-write").wait_for()


def agent(page: Page, _: Look) -> None:
    page.locator("#agent-box textarea").fill("What is 37 times 48?")
    page.locator("#agent-box textarea").press("Enter")
    page.locator("#agent-chat pre").first.wait_for()
    answered(page, "#agent-box")


def tune(page: Page, _: Look) -> None:
    page.locator("#tune-status .finished").wait_for()
    page.locator("#tab-compare .vega-embed svg").nth(1).wait_for()


def compare(page: Page, _: Look) -> None:
    page.locator("#compare-side-button").click()
    page.locator("#judge-again").wait_for()
    page.locator("#compare-message textarea").fill("What is your name?")
    page.locator("#compare-send").click()
    page.locator("#compare-right-receipt .receipt").wait_for()


def evaluate(page: Page, _: Look) -> None:
    told = page.locator("#evaluate-progress, #evaluate-results").filter(has_text=re.compile(r"\S"))
    told.first.wait_for()  # what there is to show has come
    if not page.locator("#evaluate-results .table").count():  # a run stays: another look shows it
        for name in ("Multiple choice, Chinese|选择题（中文）", "Short answers, Chinese|简答题（中文）"):
            page.get_by_label(re.compile(name)).uncheck()
        page.locator("#evaluate-start").click()
        page.get_by_text(re.compile("完成。|Done.")).wait_for(timeout=TRAINING_MS)
    page.locator("#evaluate-results .table").first.wait_for()


def models(page: Page, _: Look) -> None:
    page.locator("#ledger .card").first.wait_for()


STEPS: dict[str, tuple[str, Callable[[Page, Look], None]]] = {  # the picture's name: its tab, what is done there
    "chat": ("chat", chat),
    "story": ("story", story),
    "knowledge": ("knowledge", knowledge),
    "agent": ("agent", agent),
    "tune": ("compare", tune),
    "compare": ("compare", compare),
    "evaluate": ("evaluate", evaluate),
    "models": ("models", models),
}
SHOWN = [
    *((name, Look(language)) for name in STEPS for language in LOCALES),
    ("chat", Look("zh", "phone", "dark")),
    ("knowledge", Look("en", "phone")),
]
ALL = [
    (name, Look(language, size, scheme))
    for name in STEPS
    for language in LOCALES
    for size in SIZES
    for scheme in ("light", "dark")
]


def opened(browser: Browser, address: str, look: Look, known: Any = None) -> Page:
    """The page in a context of its own; `known` is what an earlier one's browser kept."""
    width, height = SIZES[look.size]
    size: Any = {"width": width, "height": height}
    context = browser.new_context(locale=LOCALES[look.language], viewport=size, storage_state=known)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script("localStorage.setItem('studio-better', 'away')")  # the card would hide the settings
    page = context.new_page()
    page.goto(address)
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    if page.locator("html").get_attribute("data-studio-ready") != look.language:  # one chosen before
        page.locator("#language").click()
        page.locator(f"html[data-studio-ready={look.language}]").wait_for(state="attached")
        page.reload()
        page.locator("html[data-studio-ready]").wait_for(state="attached")
    if look.scheme == "dark":
        page.locator("#theme").click()
    return page


def to_tab(page: Page, tab: str) -> None:
    """On a phone the name may lie outside of the window."""
    page.evaluate("tab => document.querySelector(`#tabs > .tab-wrapper [data-tab-id=${tab}]`).click()", tab)
    page.locator(f"#tab-{tab}").wait_for()


def train(browser: Browser, address: str) -> None:
    """A personal assistant, trained and judged; whatever of it is there already is not done again."""
    page = opened(browser, address, Look("en"), BROWSER if BROWSER.exists() else None)
    page.set_default_timeout(TRAINING_MS)
    page.context.storage_state(path=BROWSER, indexed_db=True)  # whose the assistant is
    to_tab(page, "compare")
    page.locator("#tune-status :is(.tune-state, p)").first.wait_for()
    if not page.locator("#tune-runs input").input_value():
        page.get_by_label("Whose assistant is it?").fill("Lin Xiaoyu")
        page.locator("#tune-start").click()
    page.locator("#tune-status .finished").wait_for()
    page.locator("#compare-side-button").click()
    page.locator("#judge-again").wait_for()  # every checkpoint was judged
    page.context.close()


def take(browser: Browser, address: str, wanted: list[tuple[str, Look]], into: Path) -> None:
    """One picture after another, those of one look in one page."""
    for look, pictures in groupby(sorted(wanted, key=lambda one: one[1].suffix), key=lambda one: one[1]):
        page = opened(browser, address, look, BROWSER if BROWSER.exists() else None)
        for name, _ in pictures:
            began, (tab, steps) = time.monotonic(), STEPS[name]
            to_tab(page, tab)
            steps(page, look)
            page.mouse.move(0, 0)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(1000)  # animations
            page.screenshot(path=into / f"{name}-{look.suffix}.png")
            sys.stdout.write(f"{name}-{look.suffix}.png: {time.monotonic() - began:.0f} s\n")
        page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="names of pictures, with commas between")
    parser.add_argument("--into", type=Path, help="a folder for all pages, languages, shades and sizes")
    options = parser.parse_args()
    into = options.into or FOLDER
    into.mkdir(parents=True, exist_ok=True)
    names = options.only.split(",") if options.only else list(STEPS)
    prepare_process("warning")
    services = build_services(read_settings(["--data", str(DATA), "--port", PORT, "--dtype", "float32"]))
    blocks = ui.build(services)
    address, _ = launch(blocks, services)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        wanted = [one for one in (ALL if options.into else SHOWN) if one[0] in names]
        take(browser, address, [one for one in wanted if one[0] not in TRAINED], into)
        if TRAINED & set(names):
            train(browser, address)
        take(browser, address, [one for one in wanted if one[0] in TRAINED], into)
        browser.close()
    blocks.close(verbose=False)
    services.close()


if __name__ == "__main__":
    main()
