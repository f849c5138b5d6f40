"""The documentation's pictures, from a running server: python docs/take_screenshots.py http://127.0.0.1:7860

Uses each page as a newcomer would. Without a folder, the pictures that the documentation shows go to
docs/screenshots; into a folder named as second argument goes every page in both languages, light and dark, at desktop
and phone width.
"""

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent / "screenshots"
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
LOCALES = {"zh": "zh-CN", "en": "en-GB"}
PATIENCE_MS = 180_000
NAMES = {"zh": "林晓宇", "en": "Lin Xiaoyu"}
QUESTIONS = {"zh": "为什么 safetensors 更安全？", "en": "Why are safetensors considered safer?"}


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
        page.get_by_label(re.compile("温度|Temperature")).first.fill("0")  # else a small model may wander off
    box = page.locator("#chat-box textarea")
    box.fill("What is the capital of France?")
    box.press("Enter")
    page.get_by_text(re.compile(r"每秒 [1-9\d.]+ 个|[1-9\d.]+ tokens/s")).first.wait_for()
    answered(page, "#chat-box")


def answered(page: Page, box: str) -> None:
    """An answer that has begun is at its end."""
    page.locator(f"{box} .stop-button").wait_for(state="hidden")


def knowledge(page: Page, look: Look) -> None:
    page.get_by_text("model-files.md").first.wait_for()
    page.locator("#knowledge-box textarea").fill(QUESTIONS[look.language])
    page.locator("#knowledge-box textarea").press("Enter")
    page.locator("#knowledge-sources .source").first.wait_for()
    answered(page, "#knowledge-box")


def story(page: Page, _: Look) -> None:
    page.locator("#story-premise textarea").fill("A lighthouse keeper finds a letter in a bottle")
    page.locator("#story-length input").fill("150")
    page.locator("#story-write").click()
    page.locator("#story-stop").wait_for()
    page.locator("#story-write").wait_for()


def agent(page: Page, _: Look) -> None:
    page.locator("#agent-chat .example").first.click()
    page.locator("#agent-chat pre").first.wait_for()
    answered(page, "#agent-box")


def compare(page: Page, look: Look) -> None:
    page.get_by_label(re.compile("助手的主人|Whose assistant")).fill(NAMES[look.language])


def untouched(_page: Page, _look: Look) -> None:
    """Nothing to do: the page is shown as it opens."""


STEPS: dict[str, Callable[[Page, Look], None]] = {  # in the order of the tabs
    "chat": chat,
    "story": story,
    "knowledge": knowledge,
    "agent": agent,
    "compare": compare,
    "evaluate": untouched,
    "models": untouched,
}
SHOWN = [
    *((tab, Look(language)) for tab in STEPS for language in LOCALES),
    ("chat", Look("zh", "phone", "dark")),
    ("knowledge", Look("en", "phone")),
]
ALL = [
    (tab, Look(language, size, scheme))
    for tab in STEPS
    for language in LOCALES
    for size in SIZES
    for scheme in ("light", "dark")
]


def take(browser: Browser, address: str, tab: str, look: Look) -> Page:
    """The page of `tab` after its steps, in a context of its own."""
    width, height = SIZES[look.size]
    context = browser.new_context(locale=LOCALES[look.language], viewport={"width": width, "height": height})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(address)
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    if look.scheme == "dark":
        page.locator("#theme").click()
    page.get_by_role("tab").nth(list(STEPS).index(tab)).click()
    STEPS[tab](page, look)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # animations
    return page


def main(address: str, folder: Path | None) -> None:
    wanted, into = (ALL, folder) if folder else (SHOWN, FOLDER)
    into.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        for tab, look in wanted:
            page = take(browser, address, tab, look)
            page.screenshot(path=into / f"{tab}-{look.suffix}.png")
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
