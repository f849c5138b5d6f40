"""Measure the page in Chromium against its goals: load, bytes, layout shift, rest, 200 % zoom, many conversations.

python -m bench.page [--usual]    with --usual also what it costs as gradio serves it by itself
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import gradio as gr
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from app.services import Services, build_services
from app.settings import read_settings
from app.web import ui
from app.web.server import launch
from bench.browser import launched
from bench.measure import line, machine

WORK = "TaskDuration"  # what Chromium calls the processor seconds that its page took
WATCHED_S = 15
QUIET_S, QUIET_SHARE = 5, 0.1  # a server has settled that takes so little of a processor for so long
LOADS = 8  # of each kind that is compared
TABS = ("chat", "story", "knowledge", "agent", "compare", "evaluate", "models")
WINDOWS = {"desktop": (1280, 800), "phone": (390, 844), "desktop at 200 %": (640, 400)}
GOALS = {"load_s": 2.5, "load_mb": 3.0, "layout_shift": 0.1, "console": 0, "too_wide": 0, "rest_share": 0.02}
GOALS |= {"list_s": 0.3, "search_s": 0.3, "switch_s": 0.3}
CONVERSATIONS, TURNS = 500, 40
FILL = """async ([conversations, turns]) => {
  const words = "the quick brown fox jumps over the lazy dog while rain falls on the old stone bridge ".repeat(5);
  for (let at = 0; at < conversations; at++) {
    const of = (turn) => ({id: `c${at}t${turn}`, parent: turn ? `c${at}t${turn - 1}` : "", whole: true, pictures: [],
      role: turn % 2 ? "assistant" : "user", content: `number ${at} of turn ${turn}: ${words}`});
    const record = {id: `c${at}`, title: `Conversation ${at}`, updated: at + 1, settings: {},
      turns: Array.from({length: turns}, (_, turn) => of(turn))};
    await window.studio.storage.browser.update(record.id, () => record);
  }
}"""
LISTED = """async () => {
  const began = performance.now();
  (await window.studio.storage.browser.list()).forEach(window.studio.list.note);
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  return (performance.now() - began) / 1000;
}"""
UNTIL = """([deed, done]) => new Promise((end) => {
  const began = performance.now(), is = new Function("return " + done);
  const passed = () => (performance.now() - began) / 1000;  // apart: the page slows down frames that only count time
  new Function(deed)();
  const look = () => is() ? end(passed()) : requestAnimationFrame(look);
  look();
})"""
TYPE = """const box = document.querySelector("#chat-list input");
box.value = "%s"; box.dispatchEvent(new Event("input"))"""
SENT = """() => [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
    .reduce((sum, one) => sum + one.transferSize, 0)"""
SHIFTS = """window.shifts = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifts += one.value;
}).observe({type: "layout-shift", buffered: true});"""


@dataclass(frozen=True)
class Visit:
    """An open page, what it wrote to the console, how long it took until it could be used, its Chromium's counters."""

    page: Page
    said: list[str]
    load_s: float
    metrics: CDPSession

    def busy_s(self) -> float:
        """Seconds of a processor since it was opened."""
        told = self.metrics.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in told if one["name"] == WORK))

    def to_tab(self, tab: str) -> None:
        self.page.evaluate("tab => document.querySelector(`#tabs > .tab-wrapper [data-tab-id=${tab}]`).click()", tab)
        self.page.locator(f"#tab-{tab}").wait_for()
        self.page.wait_for_timeout(1000)

    def rest_share(self) -> float:
        """The share of one processor that the page takes while nobody touches it, 0 to 1."""
        before, began = self.busy_s(), time.perf_counter()
        self.page.wait_for_timeout(WATCHED_S * 1000)
        return (self.busy_s() - before) / (time.perf_counter() - began)


def opened(browser: Browser, address: str, window: str = "desktop") -> Visit:
    """A visitor with an empty browser."""
    width, height = WINDOWS[window]
    page = browser.new_context(locale="en-GB", viewport={"width": width, "height": height}).new_page()
    page.add_init_script(SHIFTS)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
    began = time.perf_counter()
    page.goto(address)
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    return Visit(page, said, time.perf_counter() - began, metrics)


def walk(browser: Browser, address: str, window: str) -> None:
    """Load, then every tab in turn."""
    visit = opened(browser, address, window)
    found: dict[str, float] = {"load_s": visit.load_s, "load_mb": visit.page.evaluate(SENT) / 1e6}
    processor_s, too_wide, at = visit.busy_s(), [], {}
    for tab in TABS:
        before = float(visit.page.evaluate("window.shifts"))
        visit.to_tab(tab)
        at[tab] = float(visit.page.evaluate("window.shifts")) - before
        if visit.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            too_wide.append(tab)
    found |= {"layout_shift": float(visit.page.evaluate("window.shifts")), "console": len(visit.said)}
    found["too_wide"] = len(too_wide)
    shifted = {tab: round(share, 3) for tab, share in at.items() if share > 0.01}
    line(window=window, **found, load_processor_s=processor_s, shifted=shifted, wide=too_wide, said=visit.said)
    judge(found)
    visit.page.context.close()


def rest(browser: Browser, address: str) -> None:
    """The page that is open most, and the one that is drawn again every 1.5 s, after every tab was seen."""
    visit = opened(browser, address)
    for tab in TABS:
        visit.to_tab(tab)
    for tab in ("chat", "models"):
        visit.to_tab(tab)
        found = {"rest_share": visit.rest_share()}
        line(tab=tab, **found)
        judge(found)
    visit.page.context.close()


def many(browser: Browser, address: str) -> None:
    """The list, the search and the switch with 500 conversations of 40 turns; the second of each, the first warms."""
    visit = opened(browser, address)
    visit.page.evaluate(FILL, [CONVERSATIONS, TURNS])
    visit.page.reload()
    visit.page.locator("#chat-list button[data-id]").nth(CONVERSATIONS - 1).wait_for(state="attached")
    row, shown = "document.querySelector('#chat-list [data-id=c%d]').click()", "#chatbot [data-testid=bot]"
    until = f"[...document.querySelectorAll('{shown}')].at(-1)?.textContent.includes('number %d of')"
    rows = "document.querySelectorAll('#chat-list button[data-id]').length === 1"
    for turn in (1, 2):
        found = {"list_s": float(visit.page.evaluate(LISTED))}
        found["search_s"] = visit.page.evaluate(UNTIL, [TYPE % f"number 12{turn} of", rows])
        found["switch_s"] = visit.page.evaluate(UNTIL, [row % (120 + turn), until % (120 + turn)])
        visit.page.evaluate(UNTIL, [TYPE % "", rows.replace("=== 1", f"=== {CONVERSATIONS}")])
    line(conversations=CONVERSATIONS, turns=TURNS, **found)
    judge(found)
    visit.page.context.close()


def judge(found: dict[str, float]) -> None:
    """Each figure beside its goal."""
    for name, value in found.items():
        line(goal=name, value=round(value, 4), most=GOALS[name], met=value <= GOALS[name])


def compare_loads(browser: Browser, services: Services) -> None:
    """The same page as gradio serves it, turned to its visitor's language after it was drawn, and as it is served here.

    Loads take turns; the server's share is this whole process's, its browser's driver included.
    """
    usual, ours = ui.build(services), ui.build(services)
    _, plain, _ = usual.queue(default_concurrency_limit=None).launch(
        prevent_thread_lock=True, quiet=True, max_threads=64, **ui.appearance()
    )
    addresses = {"usual": plain, "ours": launch(ours, services)[0]}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in addresses}
    for _ in range(LOADS + 1):
        for name, address in addresses.items():
            before = time.process_time()
            visit = opened(browser, address)
            taken[name].append((visit.load_s, time.process_time() - before, visit.busy_s()))
            visit.page.context.close()
    found = {name: [statistics.median(one) for one in zip(*loads[1:], strict=True)] for name, loads in taken.items()}
    for name, (load_s, server_s, page_s) in found.items():
        line(page=name, loads=LOADS, load_s=load_s, server_processor_s=server_s, browser_processor_s=page_s)
    for place, what in enumerate(("wait until the page can be used", "server's processor time", "browser's")):
        line(bench="page", ratio=found["ours"][place] / found["usual"][place], of=f"median of a load: {what}")
    for blocks in (usual, ours):
        blocks.close(verbose=False)


def compare_rest(browser: Browser, services: Services) -> None:
    """The same page with gradio's own progress on every output."""
    shares = {}
    for name in ("usual", "ours"):
        blocks = ui.build(services)
        for event in blocks.fns.values() if name == "usual" else ():
            event.show_progress_on = None
        served = blocks.queue(default_concurrency_limit=None)
        _, address, _ = served.launch(prevent_thread_lock=True, quiet=True, max_threads=64, **ui.appearance())
        visit = opened(browser, address)
        for tab in TABS:
            visit.to_tab(tab)
        shares[name] = visit.rest_share()
        line(page=name, processor_share=shares[name])
        blocks.close(verbose=False)
    line(bench="page", ratio=shares["ours"] / shares["usual"], of="a processor's time with progress on every output")


def settle() -> None:
    """Wait until the work of a first start is over: the samples are indexed, the model is read."""
    quiet = 0
    while quiet < QUIET_S:
        before = time.process_time()
        time.sleep(1)
        quiet = quiet + 1 if time.process_time() - before < QUIET_SHARE else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--usual", action="store_true", help="also as gradio serves it by itself")
    options = parser.parse_args()
    line(**machine())
    with TemporaryDirectory() as work, sync_playwright() as driver:
        services = build_services(read_settings(["--data", work, "--port", "0"]))
        browser = launched(driver)
        blocks: gr.Blocks = ui.build(services)
        address, _ = launch(blocks, services)
        settle()
        opened(browser, address).page.context.close()  # warm
        for window in WINDOWS:
            walk(browser, address, window)
        rest(browser, address)
        many(browser, address)
        blocks.close(verbose=False)
        if options.usual:
            compare_loads(browser, services)
            compare_rest(browser, services)
        browser.close()
        services.close()


if __name__ == "__main__":
    main()
