"""Reverse proxies: `Forwarded` and `X-Forwarded-*` are read from trusted addresses only and removed from all others.

Behind this middleware `client` and `scheme` are the visitor's, and a forwarded header that is left can be believed.
"""

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

X_FOR, X_HOST, X_PROTO = "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"
FORWARDED = "forwarded"
OTHERS = ("x-forwarded-port", "x-forwarded-prefix", "x-forwarded-server", "x-real-ip")


class ProxyHeaders:
    """`trusted`: addresses and networks with commas between, `*` for all; empty: none."""

    def __init__(self, app: ASGIApp, trusted: str) -> None:
        self._app = app
        self._rewriting = ProxyHeadersMiddleware(app, trusted.replace(" ", ""))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        trusted = self._rewriting.trusted_hosts
        if (scope.get("client") or ("",))[0] in trusted:
            if FORWARDED in headers:
                self._translate(headers)
        else:
            for name in (X_FOR, X_HOST, X_PROTO, *OTHERS):
                del headers[name]
        del headers[FORWARDED]
        await self._rewriting(scope, receive, send)  # type: ignore[arg-type]

    def _translate(self, headers: MutableHeaders) -> None:
        """Replace what else the proxy says by the standard header's element of the outermost trusted proxy."""
        elements = [_parameters(element) for element in ",".join(headers.getlist(FORWARDED)).split(",")]
        trusted = self._rewriting.trusted_hosts
        known = [element for element in elements if "for" in element]
        chosen = next((one for one in reversed(known) if _bare(one["for"]) not in trusted), known[0] if known else {})
        for name, value in ((X_FOR, chosen.get("for")), (X_HOST, chosen.get("host")), (X_PROTO, chosen.get("proto"))):
            del headers[name]
            if value:
                headers[name] = value


def trust_proxies(trusted: str) -> Middleware:
    """Outermost of the application's middleware."""
    return Middleware(ProxyHeaders, trusted=trusted)


def _parameters(element: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs if value}


def _bare(node: str) -> str:
    """The address of `192.0.2.1:80` or `[2001:db8::1]:80`."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node
