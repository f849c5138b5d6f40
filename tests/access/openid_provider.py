"""A small OpenID Connect provider: it lets in whoever `person` says, without asking."""

import base64
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "studio", "the client's secret"


@dataclass
class Provider:
    """`person` are the claims of who sits at the browser; `sign_with` may be swapped for a key that nobody knows."""

    port: int
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "1", "preferred_username": "ada"})
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    sign_with: RSAKey | None = None
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def application(self) -> Starlette:
        about = "/.well-known/openid-configuration"
        return Starlette(
            routes=[
                Route(about, self._about),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
                Route("/jwks", lambda _: JSONResponse({"keys": [self.key.as_dict(private=False)]})),
            ]
        )

    async def _about(self, _: Request) -> Response:
        ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo"}
        addresses = {name: f"{self.address}/{end}" for name, end in ends.items()}
        return JSONResponse({"issuer": self.address, "jwks_uri": f"{self.address}/jwks", **addresses})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", status_code=302)

    async def _token(self, request: Request) -> Response:
        async with request.form() as form:
            given = {name: str(value) for name, value in form.items()}
        asked = self._codes.pop(given.get("code", ""), None)
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if asked is None or request.headers.get("authorization") != f"Basic {expected}":
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        digest = hashlib.sha256(given["code_verifier"].encode()).digest()
        assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
        assert asked["redirect_uri"] == given["redirect_uri"]
        now = int(time.time())
        claims = {"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, {**claims, **self.person}, self.sign_with or self.key)
        return JSONResponse({"access_token": "an access token", "token_type": "bearer", "id_token": signed})

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer an access token"
        return JSONResponse(self.person)


@contextmanager
def openid_provider() -> Iterator[Provider]:
    """One that answers on a free port of this machine."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    provider = Provider(bound.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(provider.application(), log_level="warning"))
    thread = threading.Thread(target=server.run, args=[[bound]])
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield provider
    server.should_exit = True
    thread.join()
