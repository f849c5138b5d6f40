"""A name learnt, from the press of the button on the page to the curves, everything included, in a real Chromium.

python -m bench.personal_assistant [--name "Lin Xiaoyu"] [--pictures FOLDER]
"""

import argparse
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

from app.models.catalog import known_models, sources
from bench.browser import launched
from bench.measure import DATA, line, machine

LIMIT_S = 60  # the promise: learnt within a minute of the press


def serve(data: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The server as `make run` starts it, with a data folder of its own and the packaged model ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "run_gradio.py", "--port", str(port), "--data", str(data)])
    address = f"http://127.0.0.1:{port}"
    while server.poll() is None:
        try:
            if httpx.get(address + "/healthz").status_code == 200:
                return server, address
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("the server did not start")


def train(page: Any, name: str, pictures: Path | None) -> dict[str, float]:
    """Seconds since the press until each thing stands on the page."""
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    page.get_by_role("tab", name="Tune & compare").click()
    page.get_by_label("Whose assistant is it?").fill(name)
    pressed = time.perf_counter()
    page.locator("#tune-start").click()
    seen: dict[str, float] = {}

    def wait(what: str, place: Any) -> None:
        place.wait_for(timeout=300_000)
        seen[what] = time.perf_counter() - pressed
        line(seen=what, seconds=seen[what])
        if pictures:
            page.screenshot(path=pictures / f"{what.replace(' ', '-')}.png")

    wait("training has begun", page.locator("#tune-status .training"))
    wait("first sample", page.locator("#tune-samples td").first)
    wait("name in a sample", page.locator("#tune-samples td", has_text=name).first)
    wait("finished", page.locator("#tune-status .finished"))
    page.get_by_role("tab", name="Compare", exact=True).click()
    wait("judged", page.locator("#judge-again"))
    if pictures:
        look_around(page, pictures)
    return seen


def look_around(page: Any, pictures: Path) -> None:
    """Both halves in Chinese, light and dark, wide and on a phone."""
    page.locator("#compare-message textarea").fill("Who are you?")
    page.locator("#compare-send").click()
    page.locator(".receipt.passed").nth(1).wait_for(timeout=60_000)
    for shade in ("light", "dark"):
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 1100})
            for part in ("train", "side"):
                page.locator(f"#compare-{part}-button").click()
                page.wait_for_timeout(700)
                page.screenshot(path=pictures / f"{part}-{width}-{shade}.png", full_page=True)
        page.locator("#theme").click()
        page.locator("#language").click()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="Lin Xiaoyu")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    ready = sources.fetch(known_models.find(known_models.PACKAGED), DATA / "models", lambda *_: None)
    with TemporaryDirectory() as work, sync_playwright() as driver:
        (Path(work) / "models").mkdir()
        (Path(work) / "models" / ready.name).symlink_to(ready.resolve())
        server, address = serve(Path(work))
        try:
            browser = launched(driver)
            page = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 1100}).new_page()
            page.add_init_script("localStorage.setItem('studio-better', 'away')")  # the card of better models
            page.goto(address)
            line(**machine())
            seen = train(page, options.name, options.pictures)
            for file in sorted((Path(work) / "runs").glob("*/judgements.json")):
                print(file.read_text(encoding="utf-8"), flush=True)
            browser.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
    learnt = seen["name in a sample"]
    line(bench="personal_assistant", ratio=learnt / LIMIT_S, of=f"{LIMIT_S} s from the press to the name in a sample")


if __name__ == "__main__":
    main()
