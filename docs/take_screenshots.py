"""The README's pictures, from a running server: python docs/take_screenshots.py http://127.0.0.1:7860

Each tab in both languages, in light and dark, at desktop and phone width, into docs/screenshots or a folder given.
"""

import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent / "screenshots"
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
LOCALES = {"zh": "zh-CN", "en": "en-GB"}
QUESTION = "What is the capital of France?"


def main(address: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        for language in LOCALES:
            for size in SIZES:
                for scheme in ("light", "dark") if language == "zh" else ("light",):
                    visit(browser, address, folder, language, size, scheme)
        browser.close()


def visit(browser: Browser, address: str, folder: Path, language: str, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(locale=LOCALES[language], viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(address)
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    if scheme == "dark":
        page.locator("#theme").click()
    ask(page)
    page.screenshot(path=folder / f"chat-{language}-{size}-{scheme}.png")
    names = page.get_by_role("tab").all_text_contents()
    for number in range(1, len(names)):
        page.get_by_role("tab").nth(number).click(force=True)
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / f"tab{number}-{language}-{size}-{scheme}.png")
    context.close()


def ask(page: Page) -> None:
    box = page.locator("#tab-chat textarea:visible, textarea:visible").first
    box.fill(QUESTION)
    box.press("Enter")
    page.get_by_text(re.compile(r"每秒 [1-9\d.]+ 个|[1-9\d.]+ tokens/s")).first.wait_for(timeout=120_000)
    page.wait_for_timeout(6000)  # a short answer is whole by then


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER)
