"""Serve gradio's page in its visitor's language, with scripts before gradio's own modules (ASGI middleware)."""

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Language
from app.paths import ASSETS
from app.texts import chosen_language
from tabs.shell.translated_blocks import asked_language

SCRIPTS = "early.js", "event_stream.js"
GRADIO = b"window.gradio_config"
TAGS: dict[Language, str] = {"zh": "zh-CN", "en": "en"}
SPOKEN = "Object.defineProperty(navigator, 'language', {value: '%s', configurable: true});"  # for gradio's own words


class FirstPage:
    """Gradio hands its `head` to the page only when its modules have run."""

    def __init__(self, app: ASGIApp, forced: Language | None) -> None:
        self._app = app
        self._forced = forced
        self._scripts = "".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("GET", "/"):
            await self._app(scope, receive, send)
            return
        request, held = Request(scope), list[Message]()
        language = chosen_language(request.cookies, request.headers, forced=self._forced)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)  # until it is known how long the page is
                return
            if held:
                start = held.pop()
                headers = MutableHeaders(scope=start)
                if GRADIO in message["body"]:  # the page to sign in has the same address
                    message["body"] = self._told(message["body"], TAGS[language])
                    headers["content-length"] = str(len(message["body"]))
                    headers.add_vary_header("Accept-Language, Cookie")
                await send(start)
            await send(message)

        with asked_language(language):
            await self._app(scope, receive, sending)

    def _told(self, body: bytes, tag: str) -> bytes:
        script = f"<head><script>{SPOKEN % tag}{self._scripts}</script>"
        return body.replace(b'lang="en"', f'lang="{tag}"'.encode(), 1).replace(b"<head>", script.encode(), 1)


def first_page(forced: Language | None) -> Middleware:
    """`forced` is the operator's language, for visitors who have chosen none."""
    return Middleware(FirstPage, forced=forced)
