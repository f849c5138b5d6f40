"""Identity of a request: server, login, API key or guest. Made here; no name that a client sends is trusted.

Trust hangs on the class, never on how the text begins. As text an identity is the key under which services keep what
is its owner's; it may be logged only as a mark (`app.models.registry.metering.mark_of`).
"""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from secrets import token_hex

from starlette.requests import cookie_parser

from app.errors import BadInput

TOKEN_HEADER = "x-studio-visitor"
TOKEN_COOKIE = "studio-visitor"
TOKEN = re.compile(r"[!-:<-~]{32,200}")  # printable and no semicolon, so that it fits into a cookie
BROWSER_SECRET_FORM = re.compile(r"[0-9a-f]{32}")
MOST_SESSIONS = 10_000  # of guests without a secret; the oldest is forgotten
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
    """Somebody without a login: a browser, a program with a token, or a passing session."""

    __slots__ = ()


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
    """The secret that a client sends of its own accord, in the header or the cookie. Raises BadToken for a weak one."""
    return header_token(headers) or _cookie_token(headers)


def header_token(headers: Mapping[str, str]) -> str | None:
    """The secret in the header alone, which no page of another site can send. Raises BadToken for a weak one."""
    token = headers.get(TOKEN_HEADER)
    if token is not None and not TOKEN.fullmatch(token):
        raise BadToken
    return token


def _cookie_token(headers: Mapping[str, str]) -> str | None:
    token = cookie_parser(headers.get("cookie", "")).get(TOKEN_COOKIE, "")
    return token if TOKEN.fullmatch(token) else None


class Identifier:
    """Tells who sends a request. Thread-safe.

    Who brings no secret is a guest with a random number of ours for one session from one address: another address, or
    a session of somebody else, is somebody else.
    """

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._guests: OrderedDict[tuple[str, str], Guest] = OrderedDict()
        self._lock = threading.Lock()

    def identify(
        self,
        login: str | None,
        headers: Mapping[str, str],
        *,
        page_secret: str | None = None,
        session: str = "",
        host: str = "",
    ) -> Identity:
        """By the login; else by the token in the header, the page's secret, the cookie; else by where it comes from.

        Raises BadToken.
        """
        if login:
            return Login(login)
        secret = header_token(headers) or page_secret or _cookie_token(headers)
        return guest_of(secret) if secret else self._passing(session, host)

    def _passing(self, session: str, host: str) -> Guest:
        if not session:
            return new_guest()
        with self._lock:
            guest = self._guests.setdefault((session, host), new_guest())
            self._guests.move_to_end((session, host))
            if len(self._guests) > self._most:
                self._guests.popitem(last=False)
            return guest
