"""The stream of a page's events: nothing is lost where its end is on its way for long."""

import asyncio
from pathlib import Path

import pytest
from playwright.sync_api import expect
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.evaluate.service import EvaluationService
from app.web import ui
from tests.browser.test_evaluate import run_short_answers
from tests.conftest import OpenPage, Serve
from tests.fakes import FakeModel, FakeRegistry, fake_services

pytestmark = pytest.mark.browser


class LateEnd:
    """Holds the end of each stream back, as a slow network does; counts the ends."""

    ends = 0

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def late(message: Message) -> None:
            if b'"close_stream"' in message.get("body", b""):
                LateEnd.ends += 1
                await asyncio.sleep(0.3)
            await send(message)

        await self._app(scope, receive, late)


def test_what_follows_an_answer_is_answered_while_the_stream_ends(
    serve: Serve, open_page: OpenPage, tmp_path: Path
) -> None:
    registry = FakeRegistry(FakeModel("tiny"))
    blocks = ui.build(fake_services(registry, evaluate=EvaluationService(registry, tmp_path)))
    page = open_page(serve(blocks, app_kwargs={"middleware": [Middleware(LateEnd)]}), locale="en-US")
    run_short_answers(page)
    expect(page.locator("#evaluate-start")).to_be_enabled()
    assert LateEnd.ends
