"""What an open page costs its browser: as it is, and with gradio's own progress, which is on every output.

python -m bench.page
"""

import shutil
import time
from tempfile import TemporaryDirectory

import gradio as gr
from playwright.sync_api import Browser, sync_playwright

from app.services import Services, build_services
from app.settings import read_settings
from app.web import ui
from bench.measure import line, machine

WORK = "TaskDuration"  # what Chromium calls the seconds that its page was busy
WATCHED_S = 15  # the Models tab, which is drawn again every 1.5 s


def page(services: Services, *, usual: bool) -> gr.Blocks:
    blocks = ui.build(services)
    if usual:
        for event in blocks.fns.values():
            event.show_progress_on = None
    return blocks


def busy(browser: Browser, address: str) -> float:
    """The share of one processor that the page takes, 0 to 1, after every tab was seen."""
    view = browser.new_page()
    view.goto(address)
    view.locator("html[data-studio-ready]").wait_for(state="attached")
    for tab in ("story", "knowledge", "agent", "compare", "evaluate", "models"):
        view.locator(f"#tab-{tab}-button").click()
        view.wait_for_timeout(1000)
    told = view.context.new_cdp_session(view)
    told.send("Performance.enable")

    def spent() -> float:
        return float(next(m["value"] for m in told.send("Performance.getMetrics")["metrics"] if m["name"] == WORK))

    before, began = spent(), time.perf_counter()
    view.wait_for_timeout(WATCHED_S * 1000)
    share = (spent() - before) / (time.perf_counter() - began)
    view.close()
    return share


def main() -> None:
    line(**machine())
    shares = {}
    with TemporaryDirectory() as work, sync_playwright() as driver:
        services = build_services(read_settings(["--data", work]))
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
        )
        for name, usual in (("usual", True), ("ours", False)):
            blocks = page(services, usual=usual).queue(default_concurrency_limit=None)
            _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, max_threads=64, **ui.appearance())
            shares[name] = busy(browser, address)
            line(page=name, processor_share=shares[name])
            blocks.close(verbose=False)
        browser.close()
        services.close()
    line(bench="page", ratio=shares["ours"] / shares["usual"], of="a processor's time with progress on every output")


if __name__ == "__main__":
    main()
