"""Identity of a request: server, login, API key or guest. Made here; no name that a client sends is trusted.

Trust hangs on the class, never on how the text begins. As text an identity is the key under which services keep what
is its owner's; it may be logged only as a mark (`app.models.registry.metering.mark_of`).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex

from starlette.requests import cookie_parser

from app.errors import BadInput

TOKEN_HEADER = "x-studio-visitor"
TOKEN_COOKIE = "studio-visitor"
TOKEN = re.compile(r"[!-:<-~]{32,200}")  # printable and no semicolon, so that it fits into a cookie
BROWSER_SECRET_FORM = re.compile(r"[0-9a-f]{32}")
_SERVER, _GUEST = "server:", "guest:"  # how these are stored; no login, key or account elsewhere begins like this


class BadToken(BadInput):
    zh = (
        "x-studio-visitor 里的令牌不可用：需要 32 到 200 个可见字符，不含空格和分号。"
        '可以用 python -c "import secrets; print(secrets.token_hex(16))" 生成。'
    )
    en = (
        "The token in x-studio-visitor cannot be used: 32 to 200 visible characters without space or semicolon."
        ' Make one with python -c "import secrets; print(secrets.token_hex(16))".'
    )


class Identity(str):
    """Who asks."""

    __slots__ = ()


class Server(Identity):
    """Work of the server itself, or of whoever sits at its terminal: sees everything and has no limits."""

    __slots__ = ()


class Login(Identity):
    """A person with a login here or with an account elsewhere (`hf:ada`, `sso:ada`)."""

    __slots__ = ()


class ApiKey(Identity):
    """A program with an API key: it has what the login of the same name has."""

    __slots__ = ()


class Guest(Identity):
    """Somebody without a login: a browser, a program with a token, or a single request."""

    __slots__ = ()


MACHINE_USER = Guest(f"{_GUEST}machine")  # programs without a token on a private start: one person's machine


def server(task: str) -> Server:
    """The server's own identity for one kind of work, such as `judging`."""
    return Server(_SERVER + task)


def guest_of(secret: str) -> Guest:
    """The guest who holds this secret; nobody learns the secret from the identity."""
    return Guest(_GUEST + hashlib.sha256(b"puyu guest " + secret.encode()).hexdigest()[:32])


def new_guest() -> Guest:
    """Somebody who brought nothing to be known by."""
    return Guest(_GUEST + token_hex(16))


def stored_identity(owner: str) -> Identity:
    """An identity as this server wrote it to disk; earlier versions kept a browser's secret itself."""
    if owner.startswith(_SERVER):
        return Server(owner)
    if owner.startswith(_GUEST):
        return Guest(owner)
    return guest_of(owner) if BROWSER_SECRET_FORM.fullmatch(owner) else Login(owner)


def belongs(owner: str, visitor: str) -> bool:
    """Whether what `owner` made is there for `visitor`; nobody's and the server's things are there for everyone."""
    return not owner or owner == visitor or isinstance(owner, Server) or isinstance(visitor, Server)


def token_in(headers: Mapping[str, str]) -> str | None:
    """The secret that a client sends of its own accord, in a header or a cookie. Raises BadToken for a weak one."""
    token = headers.get(TOKEN_HEADER)
    if token is not None and not TOKEN.fullmatch(token):
        raise BadToken
    kept = cookie_parser(headers.get("cookie", "")).get(TOKEN_COOKIE, "")
    return token or (kept if TOKEN.fullmatch(kept) else None)


@dataclass(frozen=True)
class Identifier:
    """Tells who sends a request. `private`: only this machine's own people can come in."""

    private: bool = True

    def identify(self, login: str | None, headers: Mapping[str, str], browser_secret: str | None = None) -> Identity:
        """By the login; else by the token a program sends, the page's secret, the cookie; else a new guest.

        Raises BadToken.
        """
        if login:
            return Login(login)
        token = token_in(headers)
        secret = headers.get(TOKEN_HEADER) or browser_secret or token
        if secret:
            return guest_of(secret)
        return MACHINE_USER if self.private else new_guest()
