"""Keep gradio's scripts and styles in memory, compressed once, and let browsers keep them (ASGI middleware)."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASSETS = "/assets/"  # their names hold a hash of what is in them
FOREVER = "public, max-age=31536000, immutable"

Kept = dict[tuple[str, str], list[Message]]  # answers by path and encoding


class AssetCache:
    """A page asks for a hundred of them: read and compressed anew, they took the server longer than all else of it."""

    def __init__(self, app: ASGIApp, kept: Kept | None = None) -> None:
        self._app = app
        self._kept: Kept = {} if kept is None else kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asset = scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(ASSETS)
        headers = Headers(scope=scope) if is_asset else Headers()
        if not is_asset or "origin" in headers:  # to another site's page the answer says which site may read it
            await self._app(scope, receive, send)
            return
        taken = headers.get("accept-encoding", "")
        key = scope["path"], next((encoding for encoding in ("br", "gzip") if encoding in taken), "")
        if key not in self._kept:
            messages: list[Message] = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await self._app(scope, receive, keep)
            if messages[0]["status"] == 200:
                MutableHeaders(scope=messages[0])["cache-control"] = FOREVER
                self._kept[key] = messages
        else:
            messages = self._kept[key]
        for message in messages:
            await send(message)


def asset_cache(kept: Kept | None = None) -> Middleware:
    """`kept` is for several servers that share it."""
    return Middleware(AssetCache, kept=kept)
