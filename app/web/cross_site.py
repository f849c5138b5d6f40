"""Reject cross-site requests (CSRF) and foreign host names (DNS rebinding): ASGI middleware.

A browser says where a request comes from (`Sec-Fetch-Site`; `Origin` where the page is not encrypted); a program says
neither. A name that was made to lead to this machine for the moment (DNS rebinding) is seen in `Host`.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import answer_error
from app.errors import StudioError
from app.settings import Settings
from app.texts import chosen_language

KEYED = ("/v1/", "/mcp")  # these know visitors by a key that no other web site has, never by a cookie


class OtherHost(StudioError):
    zh = (
        "这台服务器只供本机使用，请打开 http://127.0.0.1:{port} 。若要经由代理访问，请在启动时加上 --auth 或 --public。"
    )
    en = (
        "This server is for its own machine only: open http://127.0.0.1:{port}. To reach it through a proxy, start it"
        " with --auth or --public."
    )


class OtherSite(StudioError):
    zh = "请求来自别的网站的页面，已拒绝。请直接打开本页面；程序请使用 /v1。"
    en = "A page of another web site asked for this, so it was refused. Open this page itself; programs use /v1."


class CrossSiteGuard:
    """`only_here`: the server is for its own machine, and no host name but the machine's own is right."""

    def __init__(self, app: ASGIApp, settings: Settings, only_here: bool) -> None:
        self._app, self._settings, self._only_here = app, settings, only_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            request = Request(scope)
            try:
                self._admit(request)
            except StudioError as error:
                language = chosen_language(request.cookies, request.headers)
                app = PlainTextResponse(error.text(language), status_code=403)
                if request.url.path.startswith("/v1"):
                    app = answer_error(error, language, status=403)
        await app(scope, receive, send)

    def _admit(self, request: Request) -> None:
        """Raises OtherHost or OtherSite."""
        host = request.headers.get("host", "")
        if self._only_here and not (_is_local(host, self._settings.host) and _is_near(request, self._settings.host)):
            raise OtherHost(port=request.scope["server"][1])
        if not (_is_own(request, host) or _is_harmless(request)):
            raise OtherSite


def guard(settings: Settings) -> list[Middleware]:
    """For the application that serves the page. A page that is open to all may stand in other sites' pages."""
    only_here = settings.is_private
    return [Middleware(CrossSiteGuard, settings=settings, only_here=only_here)] if only_here or settings.auth else []


def _is_local(host: str, listening: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in ("127.0.0.1", "localhost", "::1", listening) or name.endswith(".localhost")


def _is_near(request: Request, listening: str) -> bool:
    """Whether it comes from this machine: a proxy here hands on the requests of others under a host name of ours."""
    peer = request.client.host if request.client else ""
    try:
        return peer == listening or ip_address(peer).is_loopback
    except ValueError:
        return True  # no network: a socket of this machine


def _is_own(request: Request, host: str) -> bool:
    if site := request.headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc in (host, request.headers.get("x-forwarded-host"))
    except ValueError:
        return False


def _is_harmless(request: Request) -> bool:
    """A link that is followed; a question about what is allowed; or a request with a key."""
    if request.method in ("GET", "HEAD"):
        return request.headers.get("sec-fetch-mode") == "navigate"
    return request.method == "OPTIONS" or ("authorization" in request.headers and request.url.path.startswith(KEYED))
