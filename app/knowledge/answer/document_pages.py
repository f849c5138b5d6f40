"""HTML pages of documents: converted text with marks, or a PDF's own pages drawn by pdf.js; their static files."""

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from app.errors import Language
from app.knowledge.ingest.documents import Text
from app.knowledge.ingest.tables import as_read
from app.paths import ASSETS
from app.texts import sentence

VIEWER = "/knowledge/viewer"
OWN_FILES = ("document.css", "document.js")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:;"
    " font-src 'self' data: blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
FIELD = re.compile(r"\{\{(\w+)\}\}")
Spans = Sequence[tuple[int, int]]


def pdfjs() -> Path | None:
    """The folder of pdf.js in its package, which itself is never imported (it would want a desktop toolkit)."""
    package = find_spec("pdfjs_viewer")
    folder = Path(package.origin or "").parent / "pdfjs" if package else None
    return folder if folder is not None and (folder / "build" / "pdf.mjs").is_file() else None


def viewer_routes() -> list[BaseRoute]:
    """Script and style of these pages, and pdf.js. Public: they are the same for everyone."""

    def own(request: Request) -> FileResponse:
        return FileResponse(ASSETS / Path(request.url.path).name, headers={"Cache-Control": "no-cache"})

    routes: list[BaseRoute] = [Route(f"{VIEWER}/{name}", own) for name in OWN_FILES]
    folder = pdfjs()
    return [*routes, Mount(f"{VIEWER}/pdfjs", StaticFiles(directory=folder))] if folder else routes


def text_page(name: str, text: Text, passage: tuple[int, int], marks: Spans, language: Language, pages: str) -> str:
    """The whole text, the passage's marks in it; everything escaped. `pages` is the address of the PDF's pages."""
    content, (start, end) = text.content, passage
    parts, at = [escape(content[:start]), '<span id="passage">'], start
    for first, last in sorted(marks) or [passage]:
        first = max(first, at)
        if first < last <= end:
            parts += [escape(content[at:first]), f"<mark>{escape(content[first:last])}</mark>"]
            at = last
    parts += [escape(content[at:end]), "</span>", escape(content[end:])]
    body = as_read("".join(parts)) if text.markup == "markdown" else "".join(parts)
    tools = f'<a href="{escape(pages)}">{_told(language, "as_pages")}</a>' if pages else ""
    return _page(name, language, tools, f'<main id="text">{body}</main>')


def pdf_page(name: str, text: Text, passage: tuple[int, int], marks: Spans, language: Language, key: str) -> str:
    """A page on which pdf.js draws the file, opened where the passage begins."""
    wanted: dict[int, list[str]] = {}
    for start, end in sorted(marks) or [passage]:
        for number, first, last in _by_page(text, start, end):
            wanted.setdefault(number, []).append(text.content[first:last])
    data = {
        "file": f"document/original?key={key}",
        "page": next(iter(wanted), text.page_at(passage[0]) or 1),
        "marks": json.dumps([{"page": page, "words": words} for page, words in wanted.items()]),
        "unmarked": sentence(language, "knowledge.viewer.unmarked"),
    }
    zoom = "".join(
        f'<button type="button" id="{each}" aria-label="{_told(language, each)}">{sign}</button>'
        for each, sign in (("smaller", "−"), ("larger", "+"))
    )
    link = f'<a id="as-text" href="document?key={key}&amp;as=text#passage">{_told(language, "as_text")}</a>'
    return _page(name, language, f'<span id="place"></span>{zoom}{link}', '<main id="pages"></main>', data)


def _by_page(text: Text, start: int, end: int) -> list[tuple[int, int, int]]:
    """(page, start, end) of a span, which may go over the end of a page."""
    ends = [*text.page_starts[1:], len(text.content)]
    places = enumerate(zip(text.page_starts, ends, strict=True), 1)
    return [(page, max(start, a), min(end, b)) for page, (a, b) in places if a < end and start < b]


def _told(language: Language, key: str) -> str:
    return escape(sentence(language, f"knowledge.viewer.{key}"))


def _page(name: str, language: Language, tools: str, body: str, data: dict[str, object] | None = None) -> str:
    values = {
        "language": "zh-CN" if language == "zh" else "en",
        "title": escape(name),
        "tools": tools,
        "close": _told(language, "close"),
        "data": "".join(f' data-{key}="{escape(str(value))}"' for key, value in (data or {}).items()),
        "body": body,
    }
    page = (ASSETS / "document.html").read_text(encoding="utf-8")
    return FIELD.sub(lambda field: values[field[1]], page)
