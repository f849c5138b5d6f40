"""Put a script first in the head of gradio's page (ASGI middleware): before its own modules, which run first else."""

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.paths import ASSETS

GRADIO = b"window.gradio_config"


class EarlyScript:
    """Gradio hands its `head` to the page only when its modules have run."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        script = (ASSETS / "early.js").read_bytes()
        self._head = b"<head><script>" + script + b"</script>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)  # until it is known how long the page is
                return
            if held:
                start = held.pop()
                headers = MutableHeaders(scope=start)
                if GRADIO in message["body"]:  # the page to sign in has the same address
                    message["body"] = message["body"].replace(b"<head>", self._head, 1)
                    headers["content-length"] = str(len(message["body"]))
                await send(start)
            await send(message)

        of_page = scope["type"] == "http" and (scope["method"], scope["path"]) == ("GET", "/")
        await self._app(scope, receive, sending if of_page else send)


def early_script() -> Middleware:
    return Middleware(EarlyScript)
