"""Links that open a document at a passage: random keys in a table, checked for one reader when followed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute

from app.access.links import Links
from app.errors import StudioError
from app.knowledge.answer.document_pages import HEADERS, pdf_page, pdfjs, text_page, viewer_routes
from app.knowledge.ingest.documents import Text
from app.knowledge.store.collections import FileGone, Owner
from app.texts import chosen_language

PATH = "knowledge/document"  # relative, so that it also holds behind a proxy's prefix
ADDRESS = PATH + "?key={key}#passage"


class NotOpen(StudioError):
    zh = "这个链接不是给您的，或已过期。请在页面上重新提问，再点来源中的链接。"
    en = "This link is not yours or has expired. Ask again on the page and follow the link under its sources."


@dataclass(frozen=True)
class Place:
    """A passage of a file in a collection, for one reader, and the spans in it that are marked (none: all of it).

    `path` is the file's name: ids are given again.
    """

    owner: Owner
    collection: str
    file_id: int
    path: str
    start: int
    end: int
    marks: tuple[tuple[int, int], ...] = ()


class Documents(Protocol):
    """What the route reads: the knowledge service."""

    links: Links[Place]

    def document(self, owner: Owner, name: str, file_id: int) -> tuple[str, Text]: ...

    def original(self, owner: Owner, name: str, file_id: int) -> Path | None: ...


def document_routes(documents: Documents, user_of: Callable[[Request], str | None] = lambda _: None) -> list[BaseRoute]:
    """The routes that links lead to. `user_of` names the login of a request, where logins are used.

    A login's link opens for that login; whoever has a guest's link may read that one document.
    """
    routes = APIRouter()

    def opened(request: Request, key: str) -> tuple[Place, Text, Path | None]:
        place, language = documents.links.read(key), chosen_language(request.cookies, request.headers)
        if place is None or (not place.owner.guest and user_of(request) != place.owner.name):
            raise HTTPException(403, NotOpen().text(language))
        try:
            name, text = documents.document(place.owner, place.collection, place.file_id)
            if name != place.path:
                raise FileGone
            file = documents.original(place.owner, place.collection, place.file_id)
        except StudioError as error:
            raise HTTPException(404, error.text(language)) from error
        return place, text, file if file and name.lower().endswith(".pdf") and text.page_starts else None

    @routes.get(f"/{PATH}")
    def open_document(request: Request, key: str, as_: Annotated[str, Query(alias="as")] = "") -> HTMLResponse:
        place, text, file = opened(request, key)
        language = chosen_language(request.cookies, request.headers)
        shown, drawable = (place.start, place.end), file is not None and pdfjs() is not None
        if drawable and as_ != "text":
            return HTMLResponse(pdf_page(place.path, text, shown, place.marks, language, key), headers=HEADERS)
        pages = f"document?key={key}" if drawable else ""
        return HTMLResponse(text_page(place.path, text, shown, place.marks, language, pages), headers=HEADERS)

    @routes.get(f"/{PATH}/original")
    def original(request: Request, key: str) -> Response:
        _, _, file = opened(request, key)
        if file is None:
            raise HTTPException(404, FileGone().text(chosen_language(request.cookies, request.headers)))
        return FileResponse(file, media_type="application/pdf", headers=HEADERS)

    return [*routes.routes, *viewer_routes()]
