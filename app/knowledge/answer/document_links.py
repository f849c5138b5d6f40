"""Signed links that open a document at a passage, checked for one reader when followed."""

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from secrets import token_bytes

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from app.errors import StudioError
from app.knowledge.ingest.documents import Text
from app.knowledge.store.collections import Owner

SECONDS = 12 * 3600
PATH = "knowledge/document"  # relative, so that it also holds behind a proxy's prefix
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{max-width:50rem;margin:2rem auto;padding:0 1rem;font:16px/1.7 system-ui,sans-serif;white-space:pre-wrap;
overflow-wrap:anywhere;color-scheme:light dark}}mark{{padding:.1em 0}}h1{{font-size:1.1rem}}</style>
<h1>{title}</h1>{before}<mark id="passage">{passage}</mark>{after}"""


@dataclass(frozen=True)
class Place:
    """A span of a file in a collection, for one reader."""

    owner: str
    guest: bool
    collection: str
    file_id: int
    start: int
    end: int


class Links:
    """Signs and reads links; the secret lives as long as the process."""

    def __init__(self) -> None:
        self._secret = token_bytes(32)

    def make(self, place: Place, now: float | None = None) -> str:
        """The address that opens this place."""
        expires = (time.time() if now is None else now) + SECONDS
        fields = [place.owner, place.guest, place.collection, place.file_id, place.start, place.end, expires]
        body = json.dumps(fields).encode()
        key = urlsafe_b64encode(self._sign(body) + body).decode()
        return f"{PATH}?key={key}#passage"

    def read(self, key: str) -> Place | None:
        """The place, or None if the key was not made here or is too old."""
        try:
            raw = urlsafe_b64decode(key.encode())
        except ValueError:
            return None
        signature, body = raw[:32], raw[32:]
        if not hmac.compare_digest(signature, self._sign(body)):
            return None
        *fields, expires = json.loads(body)
        return Place(*fields) if time.time() < expires else None

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, sha256)


def router(
    links: Links,
    document: Callable[[Owner, str, int], tuple[str, Text]],
    user_of: Callable[[Request], str | None] = lambda _: None,
) -> APIRouter:
    """The route that links lead to. `user_of` names the login of a request, where logins are used."""
    routes = APIRouter()

    @routes.get(f"/{PATH}")
    def open_document(request: Request, key: str) -> HTMLResponse:
        place = links.read(key)
        if place is None or (not place.guest and user_of(request) != place.owner):
            raise HTTPException(403, "This link is not yours or has expired.")
        try:
            name, text = document(Owner(place.owner, place.guest), place.collection, place.file_id)
        except StudioError as error:
            raise HTTPException(404, error.text("en")) from error
        return HTMLResponse(page(name, text, place.start, place.end), headers=HEADERS)

    return routes


def page(name: str, text: Text, start: int, end: int) -> str:
    """The whole text with the passage marked; everything escaped."""
    content = text.content
    return PAGE.format(
        title=escape(name),
        before=escape(content[:start]),
        passage=escape(content[start:end]),
        after=escape(content[end:]),
    )
