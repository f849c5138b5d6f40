"""Sign-in with OAuth / OpenID Connect: an account at Hugging Face or at any other provider.

A visitor is sent to the provider and comes back with a code; what it is exchanged for says who they are. From then on
they hold one of gradio's own login tokens, so pages, endpoints and files are guarded as with a users file. Tokens
live in this process only: nothing that a browser could make up is trusted.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import urlsplit

from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from app.errors import Language, SettingsError, StudioError
from app.paths import ASSETS
from app.settings import HUGGING_FACE, Settings
from app.texts import preferred_language, sentence

log = logging.getLogger(__name__)
PAGE = ASSETS / "sign_in.html"
PAGES = ("/", "/gradio_api/runs", "/gradio_api/runs/")
BACK_S = 600  # how long one may take at the provider
LASTS_S = 24 * 3600.0  # then the provider is asked again, who may have forgotten them
LONGEST_NAME = 100
LoginOf = Callable[[Request], str | None]


class SignInFailed(StudioError):
    zh = "登录没有完成，请再试一次。"
    en = "Signing in did not work. Please try again."


class NotInvited(StudioError):
    zh = "账号 {name} 没有使用这台服务器的权限。请联系服务器的管理者，或换一个账号登录。"
    en = "The account {name} may not use this server. Ask whoever runs it, or sign in with another account."


@dataclass
class SignIn:
    """What the server adds for it: the routes there and back, and the page for who has not signed in."""

    settings: Settings
    login_of: LoginOf
    _until: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.settings
        self._provider = settings.openid_provider.rstrip("/")
        oauth = OAuth()
        self._client: Any = oauth.register(
            name="provider",
            client_id=settings.oauth_client_id,
            client_secret=settings.oauth_client_secret,
            server_metadata_url=f"{self._provider}/.well-known/openid-configuration",
            client_kwargs={"scope": settings.oauth_scopes, "code_challenge_method": "S256"},
        )

    def routes(self) -> list[Route]:
        """`/sign-in` and `/login/callback`; what is remembered between the two is signed with a key of this process."""
        secret = secrets.token_hex(32)
        between = [
            Middleware(SessionMiddleware, secret_key=secret, session_cookie="studio-sign-in", max_age=BACK_S),
        ]
        return [
            Route("/sign-in", self._leave, middleware=between),
            Route("/login/callback", self._return, middleware=between),
        ]

    def middleware(self) -> Middleware:
        """Shows the sign-in page in place of the application's."""
        return Middleware(Gate, sign_in=self)

    def forget_old(self, tokens: MutableMapping[str, str]) -> None:
        """Take away logins whose time is over."""
        now = time.monotonic()
        for token in [token for token, end in self._until.items() if end < now]:
            del self._until[token]
            tokens.pop(token, None)

    def page(self, request: Request, error: StudioError | None = None) -> Response:
        """One sentence and the button, in the visitor's language."""
        language = self._language(request)
        texts = {
            "language": "zh-CN" if language == "zh" else "en",
            "title": sentence(language, "app.title"),
            "brand": sentence(language, "app.brand"),
            "why": escape(sentence(language, "app.sign_in_why")),
            "button": escape(sentence(language, "app.sign_in", provider=self._provider_name())),
            "error": escape(error.text(language)) if error else "",
        }
        page = PAGE.read_text(encoding="utf-8")
        for key, text in texts.items():
            page = page.replace(f"{{{{{key}}}}}", text)
        return HTMLResponse(page, status_code=403 if error else 200, headers={"Cache-Control": "no-store"})

    def _language(self, request: Request) -> Language:
        asked = self.settings.language
        return preferred_language(request.headers.get("accept-language", ""), "zh") if asked == "auto" else asked

    def _provider_name(self) -> str:
        return "Hugging Face" if self._provider == HUGGING_FACE else str(urlsplit(self._provider).hostname)

    async def _leave(self, request: Request) -> Response:
        try:
            return await self._client.authorize_redirect(request, self._address_back(request))
        except Exception:
            log.exception("the sign-in provider cannot be reached")
            return self.page(request, SignInFailed())

    async def _return(self, request: Request) -> Response:
        try:
            name = await self._who(request)
        except StudioError as error:
            return self.page(request, error)
        except Exception as error:  # whatever a provider or a made-up answer may cause
            log.warning("a sign-in failed: %s", error)
            return self.page(request, SignInFailed())
        token = secrets.token_urlsafe(32)
        self.forget_old(request.app.tokens)
        request.app.tokens[token] = name
        self._until[token] = time.monotonic() + LASTS_S
        response = RedirectResponse("/", status_code=303)
        # gradio's own cookies; a Space is shown in a frame of another site
        if _is_https(request):
            key = f"access-token-{request.app.cookie_id}"
            response.set_cookie(key, token, httponly=True, secure=True, samesite="none")
        else:
            response.set_cookie(f"access-token-unsecure-{request.app.cookie_id}", token, httponly=True, samesite="lax")
        return response

    async def _who(self, request: Request) -> str:
        token = await self._client.authorize_access_token(request)
        about: Mapping[str, Any] = token.get("userinfo") or {}
        if not about.get("sub"):
            raise SignInFailed
        metadata = await self._client.load_server_metadata()
        if "userinfo_endpoint" in metadata:
            more = await self._client.userinfo(token=token)
            if more.get("sub") != about["sub"]:
                raise SignInFailed
            about = {**about, **more}
        name = str(about.get("preferred_username") or about["sub"])
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise SignInFailed
        if not self._may_enter(name, about):
            log.warning("a sign-in as %r was refused", name)
            raise NotInvited(name=name)
        return f"{'hf' if self._provider == HUGGING_FACE else 'sso'}:{name}"

    def _may_enter(self, name: str, about: Mapping[str, Any]) -> bool:
        allowed = self.settings.invited
        return not allowed or "*" in allowed or not allowed.isdisjoint({name, *_organisations(about)})

    def _address_back(self, request: Request) -> str:
        if self.settings.space_host:
            return f"https://{self.settings.space_host}/login/callback"
        host = request.headers.get("x-forwarded-host") or request.headers["host"]
        return f"{'https' if _is_https(request) else 'http'}://{host.split(',')[0].strip()}/login/callback"


class Gate:
    """ASGI: who has not signed in gets the sign-in page where the application's would be."""

    def __init__(self, app: Callable[..., Awaitable[None]], sign_in: SignIn) -> None:
        self._app, self._sign_in = app, sign_in

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            application: Any = scope["app"]
            assert isinstance(application, Starlette)
            self._sign_in.forget_old(application.tokens)  # type: ignore[attr-defined]  # gradio's
            if scope["path"] in PAGES and self._sign_in.login_of(request) is None:
                await self._sign_in.page(request)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def no_password(_name: str, _password: str) -> bool:
    """Gradio's `auth` where signing in is the only way in: its routes are guarded, its password form opens nothing."""
    return False


def require_client(settings: Settings) -> None:
    """Raises SettingsError where the provider would not know this server."""
    if not settings.oauth_client_id or not settings.oauth_client_secret:
        need = (
            "OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET (a Space: hf_oauth: true) 需要这两项；Space 里由 hf_oauth: true 给出"
        )
        raise SettingsError(key="auth", value=settings.auth, allowed=need)


def _is_https(request: Request) -> bool:
    return (request.headers.get("x-forwarded-proto") or request.url.scheme).split(",")[0].strip() == "https"


def _organisations(about: Mapping[str, Any]) -> list[str]:
    """Hugging Face says `orgs`, many others `groups`."""
    listed = [*(about.get("orgs") or ()), *(about.get("groups") or ())]
    names = [one.get("preferred_username") if isinstance(one, Mapping) else one for one in listed]
    return [str(name) for name in names if name]
