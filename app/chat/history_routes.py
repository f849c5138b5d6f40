"""HTTP routes of the chat history of logins (`/history`), and the read-only page of a share link (`/shared/KEY`)."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.access.identity import Login
from app.chat.share_page import HEADERS, missing_page, share_page
from app.chat.storage import KINDS, LARGEST_RECORD, Changed, History, NotARecord, RecordTooLarge
from app.errors import NoSuchPlace, NotLoggedIn, StudioError
from app.texts import chosen_language

Answer = Callable[[Request, Login], Awaitable[object]]
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def history_routes(history: History, login_of: Callable[[Request], str | None]) -> list[BaseRoute]:
    """The routes; `login_of` names the login of a request, whose records alone are reached."""
    handlers = Handlers(history)

    def route(path: str, method: str, handler: Answer) -> Route:
        async def answered(request: Request) -> Response:
            try:
                login = login_of(request)
                if login is None:
                    raise NotLoggedIn
                return JSONResponse(await handler(request, Login(login)), headers=PRIVATE)
            except StudioError as error:
                told: dict[str, Any] = {"error": error.text(chosen_language(request.cookies, request.headers))}
                if isinstance(error, Changed):
                    told["record"] = error.record
                return JSONResponse(told, error.status, headers=PRIVATE)

        return Route(path, answered, methods=[method])

    async def shared(request: Request) -> Response:
        found = await run_in_threadpool(history.shared, request.path_params["key"])
        language = chosen_language(request.cookies, request.headers)
        page = share_page(found, language) if found else missing_page(language)
        return HTMLResponse(page, 200 if found else 404, headers=HEADERS)

    record, link = "/history/{kind}/{name}", "/history/conversation/{name}/link"
    return [
        route("/history/found", "POST", handlers.search),
        route("/history/{kind}", "GET", handlers.list),
        route(link, "GET", handlers.link),
        route(link, "PUT", handlers.share),
        route(link, "DELETE", handlers.withdraw),
        route(record, "GET", handlers.read),
        route(record, "PUT", handlers.write),
        route(record, "DELETE", handlers.delete),
        Route("/shared/{key}", shared, methods=["GET"]),
    ]


class Handlers:
    """What a login may ask of its own history."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def list(self, request: Request, owner: Login) -> object:
        since = _number(request, "since")
        revision, briefs = await run_in_threadpool(self._history.briefs, owner, _kind(request), since)
        return {"revision": revision, "records": briefs}

    async def search(self, request: Request, owner: Login) -> object:
        """By `words` in the body: a proxy may log addresses."""
        words = (await _body(request)).get("words")
        return await run_in_threadpool(self._history.search, owner, words[:500] if isinstance(words, str) else "")

    async def read(self, request: Request, owner: Login) -> object:
        """The record, or null: a browser would log a 404 as an error of the page."""
        return await run_in_threadpool(self._history.read, owner, _kind(request), _name(request))

    async def write(self, request: Request, owner: Login) -> object:
        body = await _body(request)
        place = owner, _kind(request), _name(request)
        return {
            "revision": await run_in_threadpool(self._history.write, *place, body, _number(request, "revision")),
        }

    async def delete(self, request: Request, owner: Login) -> object:
        await run_in_threadpool(self._history.delete, owner, _kind(request), _name(request))
        return {}

    async def link(self, request: Request, owner: Login) -> object:
        return {"key": await run_in_threadpool(self._history.share_of, owner, _name(request))}

    async def share(self, request: Request, owner: Login) -> object:
        body = await _body(request)
        return {"key": await run_in_threadpool(self._history.share, owner, _name(request), body)}

    async def withdraw(self, request: Request, owner: Login) -> object:
        await run_in_threadpool(self._history.withdraw, owner, _name(request))
        return {}


def _kind(request: Request) -> str:
    kind = str(request.path_params["kind"])
    if kind not in KINDS:
        raise NoSuchPlace
    return kind


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _number(request: Request, key: str) -> int:
    given = request.query_params.get(key, "0")
    if not (given.isascii() and given.isdecimal()) or len(given) > 18:
        raise NotARecord
    return int(given)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. A page of another site cannot send this type unasked."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise NotARecord
    raw = bytearray()
    async for part in request.stream():
        raw.extend(part)
        if len(raw) > LARGEST_RECORD * 2:
            raise RecordTooLarge(limit=LARGEST_RECORD // 2**20)
    return await run_in_threadpool(_record_in, raw)  # megabytes take their time, and others wait for this thread


def _record_in(raw: bytearray) -> dict[str, Any]:
    try:
        body = json.loads(raw)
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()  # half a letter, or Infinity
    except (ValueError, RecursionError) as error:
        raise NotARecord from error
    if not isinstance(body, dict):
        raise NotARecord
    return body
