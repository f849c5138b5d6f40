"""Links that open a document at a passage: random keys in a table, checked for one reader when followed."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from secrets import token_urlsafe
from threading import Lock

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from app.errors import StudioError
from app.knowledge.ingest.documents import Text
from app.knowledge.store.collections import FileGone, Owner
from app.texts import chosen_language

SECONDS = 12 * 3600
MOST = 20_000  # about ten megabytes; an answer has twenty links at most
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


class NotOpen(StudioError):
    zh = "这个链接不是给您的，或已过期。请在页面上重新提问，再点来源中的链接。"
    en = "This link is not yours or has expired. Ask again on the page and follow the link under its sources."


@dataclass(frozen=True)
class Place:
    """A span of a file in a collection, for one reader. `path` is the file's name: ids are given again."""

    owner: Owner
    collection: str
    file_id: int
    path: str
    start: int
    end: int


class Links:
    """Random addresses of places, kept in memory: an address tells nothing of its reader. Safe from several threads.

    When there are more than `most`, the oldest are forgotten.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._keys: OrderedDict[Place, str] = OrderedDict()
        self._places: dict[str, tuple[Place, float]] = {}
        self._lock = Lock()

    def make(self, place: Place, now: float | None = None) -> str:
        """The address that opens this place; the same as before while that is known."""
        expires = (time.time() if now is None else now) + SECONDS
        with self._lock:
            key = self._keys.setdefault(place, token_urlsafe(24))
            self._keys.move_to_end(place)
            self._places[key] = place, expires
            if len(self._keys) > self._most:
                _, oldest = self._keys.popitem(last=False)
                del self._places[oldest]
        return f"{PATH}?key={key}#passage"

    def read(self, key: str) -> Place | None:
        """The place, or None if the key was not made here, is too old or forgotten."""
        place, expires = self._places.get(key, (None, 0.0))
        return place if time.time() < expires else None


def router(
    links: Links,
    document: Callable[[Owner, str, int], tuple[str, Text]],
    user_of: Callable[[Request], str | None] = lambda _: None,
) -> APIRouter:
    """The route that links lead to. `user_of` names the login of a request, where logins are used.

    A login's link opens for that login; whoever has a guest's link may read that one document.
    """
    routes = APIRouter()

    @routes.get(f"/{PATH}")
    def open_document(request: Request, key: str) -> HTMLResponse:
        place, language = links.read(key), chosen_language(request.cookies, request.headers)
        if place is None or (not place.owner.guest and user_of(request) != place.owner.name):
            raise HTTPException(403, NotOpen().text(language))
        try:
            name, text = document(place.owner, place.collection, place.file_id)
            if name != place.path:
                raise FileGone
        except StudioError as error:
            raise HTTPException(404, error.text(language)) from error
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
