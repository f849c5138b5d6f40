"""Upload limits (ASGI middleware): bytes per visitor and hour; broken-off uploads are deleted."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.client_address import address_of
from app.access.lifetimes import BROKEN_UPLOAD_S, UPLOAD_SWEEP_S
from app.access.rate_window import RateWindow
from app.errors import StudioError
from app.texts import chosen_language

HOUR_S = 3600.0
ROUTE = "/gradio_api/upload"


class UploadsSpent(StudioError):
    zh = "每小时最多上传 {limit} MB，已用完；请 {wait} 分钟后再试，或上传更小的文件。"
    en = "You may upload {limit} MB in an hour; that is used up. Try again in {wait} min, or upload a smaller file."


class NoLength(StudioError):
    zh = "上传时必须说明文件大小。"
    en = "An upload has to say how large it is."


class UploadBudget:
    """Bytes of the last hour by visitor. `mib` 0 is no limit."""

    def __init__(self, mib: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.mib = mib
        self._spent = RateWindow(HOUR_S, clock)

    def spend(self, visitor: str, size: int) -> None:
        """Raises UploadsSpent."""
        if not self.mib:
            return
        spent, wait_s = self._spent.of(visitor)
        if spent + size > self.mib * 2**20:
            raise UploadsSpent(limit=self.mib, wait=max(1, round(wait_s / 60)))
        self._spent.add(visitor, size)


class UploadGate:
    """Around gradio's upload route. On the event loop only, so it needs no lock."""

    def __init__(
        self, app: ASGIApp, budget: UploadBudget, login_of: Callable[[Request], str | None], sweep_s: float
    ) -> None:
        self._app, self._budget, self._login_of, self._sweep_s = app, budget, login_of, sweep_s
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].rstrip("/").endswith(ROUTE):
            return await self._app(scope, receive, send)
        request = Request(scope)
        try:
            self._admit(request)
        except StudioError as error:
            language = chosen_language(request.cookies, request.headers)
            status = 429 if isinstance(error, UploadsSpent) else 411
            return await PlainTextResponse(error.text(language), status_code=status)(scope, receive, send)
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1
            folder = Path(request.app.uploaded_file_dir)
            asyncio.get_running_loop().call_later(self._sweep_s, self._sweep, folder)

    def _admit(self, request: Request) -> None:
        """Raises UploadsSpent or NoLength."""
        length = request.headers.get("content-length", "")
        if not length.isdecimal() and self._budget.mib:
            raise NoLength
        if length.isdecimal():
            self._budget.spend(self._login_of(request) or address_of(request), int(length))

    def _sweep(self, folder: Path) -> None:
        """gradio leaves the beginnings of uploads that broke off, and the folders of files that were taken away."""
        if self._under_way:
            return
        long_ago = time.time() - BROKEN_UPLOAD_S
        for path in folder.iterdir() if folder.is_dir() else ():
            try:
                if path.stat().st_mtime > long_ago:
                    continue
                if path.is_dir():
                    path.rmdir()
                elif path.name.startswith("tmp"):
                    path.unlink()
            except OSError:
                continue  # not empty, or gone meanwhile


def gate(mib_per_hour: int, login_of: Callable[[Request], str | None], sweep_s: float = UPLOAD_SWEEP_S) -> Middleware:
    """For the application that serves the page."""
    return Middleware(UploadGate, budget=UploadBudget(mib_per_hour), login_of=login_of, sweep_s=sweep_s)
