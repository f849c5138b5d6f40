"""EPUB to Markdown: what the book says of itself, then its pages in reading order."""

import io
import posixpath
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from app.knowledge.ingest.encoding import decode
from app.knowledge.ingest.html_pages import html_to_markdown
from app.knowledge.ingest.packages import parsed

TOLD = ("title", "creator", "language", "publisher", "date", "description", "identifier")
NAMES = {"creator": "Authors"}


def book(raw: bytes) -> str:
    """Raises KeyError for what is no book."""
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        names = frozenset(package.namelist())
        place = next(_named(parsed(package.read("META-INF/container.xml")), "rootfile")).get("full-path", "")
        contents = parsed(package.read(place))
        pages = [package.read(name) for name in _reading_order(contents, posixpath.dirname(place)) if name in names]
    told = "\n".join(_told(contents))
    return "\n\n".join(filter(None, [told, *(html_to_markdown(decode(page)[0]) for page in pages if page.strip())]))


def _named(parent: Element, name: str) -> Iterator[Element]:
    """Elements of this name, whatever their namespace."""
    return (element for element in parent.iter() if str(element.tag).rpartition("}")[2] == name)


def _told(contents: Element) -> Iterator[str]:
    for name in TOLD:
        said = ", ".join("".join(element.itertext()).strip() for element in _named(contents, name))
        if said:
            yield f"**{NAMES.get(name, name.capitalize())}:** {said}"


def _reading_order(contents: Element, folder: str) -> Iterator[str]:
    """The parts of the package that the spine names."""
    files = {item.get("id"): item.get("href", "") for item in _named(contents, "item")}
    for entry in _named(contents, "itemref"):
        if entry.get("idref") in files:
            yield posixpath.normpath(posixpath.join(folder, unquote(files[entry.get("idref")])))
