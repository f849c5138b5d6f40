"""Guard Gradio's own routes (ASGI middleware): known routes only, bodies checked, sessions kept apart.

An event is named by its endpoint or by its number; both come through here. A session's hash is the client's choice, so
the first to use one holds it: whoever else names it is refused.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from errno import ENAMETOOLONG
from secrets import token_hex
from typing import Any

from gradio.block_function import BlockFunction
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.client_address import address_of, public_network
from app.access.identity import TOKEN_COOKIE, guest_of, token_in
from app.errors import BadInput, NoSuchPlace, NotLoggedIn, StudioError, Unexpected
from app.settings import Settings
from app.texts import chosen_language
from app.web.gradio_sessions import SessionClaims, SessionStates

log = logging.getLogger(__name__)
PREFIX = "/gradio_api/"
# what no page here uses: links to a state, recordings, streams, histories on the hub, generated code, proxied addresses
CLOSED = re.compile(
    r"/(gradio_api/)?(deep_link|proxy=|process_recording|stream/|run-history|runs|vibe-|undo-vibe|dev/|profiling/"
    r"|component_server|monitoring|pwa_icon)"
)
EVENT = re.compile(r"/gradio_api/(?:queue/join|(?:call|run|api)/.+)/?")
RESULT = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/([^/]+)/?")
DIRECT_CALL = re.compile(r"/gradio_api/(?:run|api)/.+")
HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)/?")
SESSION = re.compile(r"[!-~]{1,128}")
LARGEST_BODY = 16 * 2**20
KEPT_S = 365 * 86_400  # the cookie that keeps a browser's sessions its own


class WrongRequest(BadInput):
    status = 422
    zh = "请求的 {what} 不可用。请按 /gradio_api/info 里的说明发送。"
    en = "The request's {what} cannot be used. Send it as /gradio_api/info describes."


class NoSuchEvent(WrongRequest):
    status = 404
    zh = "没有名为 {what} 的接口。可用的接口见 /gradio_api/info。"
    en = "There is no endpoint {what}. Those that exist are listed at /gradio_api/info."


class LargeBody(BadInput):
    status = 413
    zh = "请求太大：最多 {mib} MB。文件请先上传。"
    en = "The request is too large: at most {mib} MB. Upload files first."


class GradioGuard:
    """`login_of` tells the login of a request; with `needs_login` nobody else reaches these routes.

    `frames` are the sites whose pages may show this one inside them; empty: all.
    """

    def __init__(self, app: ASGIApp, login_of: Callable[[Request], str | None], needs_login: bool, frames: str) -> None:
        self._app, self._login_of, self._needs_login, self._frames = app, login_of, needs_login, frames
        self._claims = SessionClaims()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = _Answer(send, request, self._frames)
        try:
            await self._pass_on(request, answer)
        except StudioError as error:
            await answer.refuse(error)
        except Exception as error:
            if answer.has_begun:
                raise
            if "/call/v2/" in scope["path"] and isinstance(error, ValueError | TypeError | KeyError):
                await answer.refuse(WrongRequest(what="parameters"))
                return
            if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
                await answer.refuse(NoSuchPlace())
                return
            log.exception("%s %s failed", request.method, request.scope["path"])
            await answer.refuse(Unexpected())

    async def _pass_on(self, request: Request, answer: "_Answer") -> None:
        path = request.scope["path"]
        if CLOSED.match(path):
            raise NoSuchPlace
        if not path.startswith(PREFIX):
            await self._app(request.scope, request.receive, answer.send)
            return
        if beat := HEARTBEAT.fullmatch(path):
            await self._heartbeat(request, beat[1], answer)
            return
        receive = request.receive
        if request.method == "POST" and "upload" not in path:
            receive = await self._checked(request, answer)
        elif found := RESULT.fullmatch(path):
            self._claim(request, _session_of_event(request, found[1]))
        elif "session_hash" in request.query_params:
            self._claim(request, request.query_params["session_hash"])
        await self._app(request.scope, receive, answer.send)

    async def _heartbeat(self, request: Request, session: str, answer: "_Answer") -> None:
        self._claim(request, session)
        network, states = public_network(request), request.app.state_holder
        self._claims.open_page(network)
        try:
            if isinstance(states, SessionStates):
                states.opened(session)
            await self._app(request.scope, request.receive, answer.send)
        finally:
            self._claims.close_page(network)
            if isinstance(states, SessionStates):
                states.closed(session)

    async def _checked(self, request: Request, answer: "_Answer") -> Receive:
        """The request's body read and looked through; returns it to be read again."""
        self._holder(request)
        raw = await _read(request)
        body = _parsed(raw)
        if isinstance(session := body.get("session_hash"), str):
            self._claim(request, session)
        elif EVENT.fullmatch(request.scope["path"]):
            self._claims.begin(public_network(request))
        if EVENT.fullmatch(request.scope["path"]):
            answer.is_of_page = _checked_event(request, body).api_visibility == "private"
        return _replayed(raw, request.receive)

    def _claim(self, request: Request, session: str) -> None:
        if not SESSION.fullmatch(session):
            raise WrongRequest(what="session_hash")
        self._claims.claim(session, self._holder(request), public_network(request))

    def _holder(self, request: Request) -> str:
        if login := self._login_of(request):
            return f"login {login}"
        if self._needs_login:
            raise NotLoggedIn
        token = token_in(request.headers)
        return guest_of(token) if token else address_of(request)


class _Answer:
    """Sends what comes back; a page gets the cookie that keeps its sessions apart from other browsers'."""

    def __init__(self, send: Send, request: Request, frames: str) -> None:
        self._send, self._request, self._frames = send, request, frames
        self.has_begun = False
        self.is_of_page = False  # an event of the page: no program needs to know what its inputs are
        self._failed = b""

    async def send(self, message: Message) -> None:
        if self._failed or (message["type"] == "http.response.start" and self._is_failed_call(message)):
            await self._explain(message)
            return
        if message["type"] == "http.response.start":
            self.has_begun = True
            if self._request.method == "GET" and self._request.scope["path"] == "/":
                _set_cookie(message, self._request)
                if self._frames:  # only a header can say it, not the page
                    policy = f"frame-ancestors {self._frames}"
                    MutableHeaders(scope=message).append("content-security-policy", policy)
        await self._send(message)

    def _is_failed_call(self, start: Message) -> bool:
        return start["status"] == 500 and DIRECT_CALL.fullmatch(self._request.scope["path"]) is not None

    async def _explain(self, message: Message) -> None:
        """Gradio answers 500 to whatever an endpoint refuses."""
        self._failed += message.get("body", b"") or b" "
        if message["type"] == "http.response.start" or message.get("more_body"):
            return
        try:
            told = json.loads(self._failed).get("error")
        except ValueError:
            told = None
        bug = told in (Unexpected().text("zh"), Unexpected().text("en"))
        error = BadInput(reason_zh=told, reason_en=told) if told else WrongRequest(what="data")
        if bug and self.is_of_page:
            error, bug = WrongRequest(what="data"), False
        self._failed = b""
        await self.refuse(error, 500 if bug else 422)

    async def refuse(self, error: StudioError, status: int | None = None) -> None:
        text = error.text(chosen_language(self._request.cookies, self._request.headers, otherwise="en"))
        response = JSONResponse({"detail": text, "error": text}, status or error.status)
        await response(self._request.scope, self._request.receive, self._send)


def guard_gradio(login_of: Callable[[Request], str | None], settings: Settings) -> Middleware:
    """For the application that serves the page. A page that is open to all may stand in other sites' pages."""
    around = "'self' https://huggingface.co" if settings.space_host else "'self'"
    frames = around if settings.is_private or settings.auth else ""
    return Middleware(GradioGuard, login_of=login_of, needs_login=bool(settings.auth), frames=frames)


def _set_cookie(start: Message, request: Request) -> None:
    if TOKEN_COOKIE in request.cookies:
        return
    # a Space is shown in a frame of another site
    where = "Secure; SameSite=None; Partitioned" if request.url.scheme == "https" else "SameSite=Lax"
    cookie = f"{TOKEN_COOKIE}={token_hex(16)}; Path=/; Max-Age={KEPT_S}; HttpOnly; {where}"
    MutableHeaders(scope=start).append("set-cookie", cookie)


def _session_of_event(request: Request, event_id: str) -> str:
    """As gradio finds it: the session that the event was sent with, else the event's own id."""
    queue = request.app.get_blocks()._queue
    event = queue.event_ids_to_events.get(event_id)
    if event is not None:
        return str(event.session_hash)
    waiting = queue.pending_event_ids_session.items()
    return next((session for session, events in waiting if event_id in events), event_id)


async def _read(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise LargeBody(mib=LARGEST_BODY // 2**20)
    return body


def _parsed(raw: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(raw or b"{}", parse_constant=_number, parse_int=_number, parse_float=_number)
        json.dumps(body, ensure_ascii=False).encode()  # half a letter could be read here, and answered nowhere
    except (ValueError, RecursionError) as error:
        raise WrongRequest(what="body (JSON)") from error
    if not isinstance(body, dict):
        raise WrongRequest(what="body (JSON)")
    return body


def _number(text: str) -> float:
    """NaN and Infinity are no JSON; what is larger could be read here, and answered nowhere."""
    number = float(text) if set(text) & set(".eE") else int(text)
    if not -(2**63) <= number < 2**64:
        raise ValueError
    return number


def _checked_event(request: Request, body: Mapping[str, Any]) -> BlockFunction:
    """Which event is meant. Raises NoSuchEvent or WrongRequest for what gradio would fail at."""
    functions, path = request.app.get_blocks().fns, request.scope["path"].rstrip("/")
    number, name = body.get("fn_index"), path.rpartition("/")[2]
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise WrongRequest(what="fn_index")
    named = [fn for fn in functions.values() if fn.api_name == name]
    if not path.endswith("/queue/join") and not named:
        raise NoSuchEvent(what=name[:80])
    meant = functions.get(number) if number is not None else next(iter(named), None)
    if meant is None or meant.fn is None:  # without a function it runs in browsers alone
        raise NoSuchEvent(what=str(number)[:80])
    if "/call/v2/" not in path:
        data, needed = body.get("data"), sum(not block.skip_api for block in meant.inputs)
        if not isinstance(data, list) or len(data) < needed:
            raise WrongRequest(what="data")
    return meant


def _replayed(raw: bytes, receive: Receive) -> Receive:
    first: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
