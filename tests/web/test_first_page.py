"""The first page over HTTP: in its visitor's language from the first byte, its scripts kept by server and browser."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from app.errors import Language
from app.texts import LANGUAGE_COOKIE
from app.web import ui
from tests.fakes import FakeModel, FakeRegistry, fake_services

Served = Callable[..., str]


@pytest.fixture(scope="module")
def addresses(serve_module: Served) -> Iterator[dict[Language | None, str]]:
    """By the language that the operator asked for."""
    forced: tuple[Language | None, ...] = (None, "en")
    yield {one: serve_module(ui.build(fake_services(FakeRegistry(FakeModel("tiny")))), forced=one) for one in forced}


def shown_language(page: str) -> str:
    """By the language button of the page as it is drawn, which names the other one."""
    found = re.search(r"window\.gradio_config = (\{.*?\});</script>", page, re.DOTALL)
    assert found
    config = json.loads(found[1])
    (button,) = (one["props"] for one in config["components"] if one["props"].get("elem_id") == "language")
    return {"English": "zh", "中文": "en"}[button["value"]]


@pytest.mark.parametrize(
    ("forced", "asked", "noted", "shown"),
    [
        (None, "zh-CN,zh;q=0.9", "", "zh"),
        (None, "en-GB,en;q=0.9", "", "en"),
        (None, "en-GB,en;q=0.9", "zh", "zh"),
        ("en", "zh-CN", "", "en"),
        ("en", "zh-CN", "zh", "zh"),
    ],
)
def test_a_page_is_drawn_in_its_visitor_s_language(
    addresses: dict[Language | None, str], forced: Language | None, asked: str, noted: str, shown: str
) -> None:
    cookies = {LANGUAGE_COOKIE: noted} if noted else None
    page = httpx.get(addresses[forced], headers={"accept-language": asked}, cookies=cookies)
    assert shown_language(page.text) == shown
    assert f'lang="{"zh-CN" if shown == "zh" else "en"}"' in page.text
    assert {"Accept-Language", "Cookie"} <= {*page.headers["vary"].split(", ")}  # for caches on the way


@pytest.mark.browser
def test_it_need_not_be_turned_and_gradio_s_own_words_are_in_that_language_too(
    addresses: dict[Language | None, str], open_page: Callable[..., Page]
) -> None:
    page = open_page(addresses[None], locale="en-GB")
    assert page.evaluate("[navigator.language, document.documentElement.dataset.studioReady]") == ["en", "en"]
    page.locator("#language").click()
    page.locator("html[data-studio-ready=zh]").wait_for(state="attached")
    expect(page.locator("#language")).to_have_text("English")
    page.reload()
    page.locator("html[data-studio-ready=zh]").wait_for(state="attached")
    expect(page.locator("#language")).to_have_text("English")
    assert page.evaluate("navigator.language") == "zh-CN"
    page.context.clear_cookies()  # as inside another site's frame
    page.reload()
    page.locator("html[data-studio-ready=zh]").wait_for(state="attached")
    expect(page.locator("#language")).to_have_text("English")
    assert page.evaluate("navigator.language") == "en"


def test_gradio_s_scripts_are_the_same_in_every_encoding_and_kept_for_good(
    addresses: dict[Language | None, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = addresses[None]
    (script, *_) = re.findall(r"assets/index-[\w-]+\.js", httpx.get(address).text)

    def fetched() -> dict[str, Any]:
        return {
            encoding: httpx.get(f"{address}/{script}", headers={"accept-encoding": encoding})
            for encoding in ("br", "gzip", "identity")
        }

    first = fetched()
    assert first["br"].headers["content-encoding"] == "br" and "content-encoding" not in first["identity"].headers
    assert len({answer.text for answer in first.values()}) == 1
    assert all("immutable" in answer.headers["cache-control"] for answer in first.values())
    monkeypatch.setattr("starlette.responses.FileResponse.__call__", None)  # whatever is read anew fails
    again = fetched()
    assert all(again[encoding].text == first[encoding].text for encoding in first)
    assert httpx.get(f"{address}/assets/none.js").status_code != 200
