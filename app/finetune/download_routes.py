"""HTTP route of downloads of trained models: a ZIP file that is written while it is sent."""

from collections import Counter
from collections.abc import Callable, Generator
from itertools import chain
from threading import Lock
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from app.access.identity import Login
from app.access.links import Links
from app.errors import StudioError
from app.finetune.downloads import PATH, Download
from app.texts import chosen_language

AT_ONCE = 4  # downloads of one owner


class NotOffered(StudioError):
    status = 404
    zh = "这个下载链接不是给您的，或已失效。请在页面上重新打包。"
    en = "This download is not yours, or is over. Ask for it again on the page."


class TooManyDownloads(StudioError):
    status = 429
    zh = "您已有 {limit} 个下载正在进行。请等其中一个结束或取消它，再打开这个链接。"
    en = "{limit} downloads of yours are under way. Wait until one has ended, or cancel one, and open this link again."


class Sending:
    """The downloads that are under way, a few of each owner: what is deleted meanwhile keeps its room on the disk."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._lock = Lock()

    def parts(self, download: Download) -> Generator[bytes, None, None]:
        """Raises TooManyDownloads before the first."""
        with self._lock:
            if self._count[download.owner] >= AT_ONCE:
                raise TooManyDownloads(limit=AT_ONCE)
            self._count[download.owner] += 1
        try:
            yield from download.stream()
        finally:
            with self._lock:
                self._count[download.owner] -= 1


class ClosingResponse(StreamingResponse):
    """Closes what it sends however it ends: whoever hangs up holds no file any more."""

    def __init__(self, parts: Generator[bytes, None, None], first: bytes, name: str) -> None:
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
        super().__init__(chain([first], parts), media_type="application/zip", headers=headers)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._parts.close()


def download_routes(links: Links[Download], login_of: Callable[[Request], str | None]) -> list[BaseRoute]:
    """The route; a login's link opens for that login, a guest's for whoever has it."""
    sending = Sending()

    def fetch(request: Request) -> Response:
        found = links.read(request.query_params.get("key", ""))
        try:
            if found is None or (isinstance(found.owner, Login) and login_of(request) != found.owner):
                raise NotOffered
            parts = sending.parts(found)
            return ClosingResponse(parts, next(parts), found.name)
        except (StudioError, OSError) as error:
            refused = error if isinstance(error, StudioError) else NotOffered()
            told = refused.text(chosen_language(request.cookies, request.headers))
            return PlainTextResponse(told, refused.status)

    return [Route(f"/{PATH}", fetch)]
