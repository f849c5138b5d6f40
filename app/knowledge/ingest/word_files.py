"""Word and OpenDocument files to Markdown: with headers, footers, comments, and tracked changes as accepted."""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from app.knowledge.ingest.raised_text import lowered, raised

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MOVES = {b"<w:moveTo ": b"<w:ins ", b"</w:moveTo>": b"</w:ins>"}
MOVES |= {b"<w:moveFrom ": b"<w:del ", b"</w:moveFrom>": b"</w:del>"}
TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"


def word_document(raw: bytes, body: Any) -> str:
    """A .docx: page headers, the body as `body(raw)` converts it, comments, page footers."""
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        parts = {name: package.read(name) for name in package.namelist() if name.startswith("word/")}
    above = _texts(parts, "word/header")
    below = _texts(parts, "word/footer")
    comments = list(_comments(parts))
    return "\n\n".join([*above, body(_with_moves_accepted(raw)).strip(), *comments, *below]).strip()


def _texts(parts: dict[str, bytes], start: str) -> list[str]:
    """The different texts of the parts whose name starts so."""
    found = []
    for name in sorted(parts):
        if re.fullmatch(rf"{start}\d*\.xml", name):
            found.append("\n".join(filter(str.strip, map(_paragraph, _parsed(parts[name]).iter(f"{W}p")))))
    return [text for text in dict.fromkeys(found) if text.strip()]


def _comments(parts: dict[str, bytes]) -> Iterator[str]:
    if "word/comments.xml" not in parts:
        return
    anchors = _anchors(_parsed(parts["word/document.xml"]))
    for comment in _parsed(parts["word/comments.xml"]).iter(f"{W}comment"):
        text = " ".join(filter(None, map(_paragraph, comment.iter(f"{W}p"))))
        about = anchors.get(comment.get(f"{W}id", ""), "").strip()
        author = comment.get(f"{W}author", "")
        if text.strip():
            yield f"> {author}{': ' if author else ''}{text}" + (f" [{about}]" if about else "")


def _anchors(document: Element) -> dict[str, str]:
    """The words that each comment is about."""
    open_ranges: set[str] = set()
    words: dict[str, str] = {}
    for element in document.iter():
        if element.tag == f"{W}commentRangeStart":
            open_ranges.add(element.get(f"{W}id", ""))
        elif element.tag == f"{W}commentRangeEnd":
            open_ranges.discard(element.get(f"{W}id", ""))
        elif element.tag == f"{W}t":
            for name in open_ranges:
                words[name] = words.get(name, "") + (element.text or "")
    return words


def _paragraph(paragraph: Element) -> str:
    """Its words; deleted ones are `w:delText` and so are not among them."""
    parts = {f"{W}t": lambda e: e.text or "", f"{W}tab": lambda _: "\t", f"{W}br": lambda _: "\n"}
    return "".join(parts[element.tag](element) for element in paragraph.iter() if element.tag in parts)


def _with_moves_accepted(raw: bytes) -> bytes:
    """Moved text as inserted at its new place and deleted at the old one, which is what the converter knows."""
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        document = package.read("word/document.xml")
        if b"<w:move" not in document:
            return raw
        for old, new in MOVES.items():
            document = document.replace(old, new)
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as copy:
            for name in package.namelist():
                copy.writestr(name, document if name == "word/document.xml" else package.read(name))
    return changed.getvalue()


def open_document(raw: bytes) -> str:
    """An .odt: headings, paragraphs, lists and tables in order, then what its pages bear above and below."""
    from app.knowledge.ingest.tables import markdown_table

    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        content = _parsed(package.read("content.xml"))
        styles = _parsed(package.read("styles.xml")) if "styles.xml" in package.namelist() else Element("none")
    for part in (content, styles):
        _raise_and_lower(part, _positions(content) | _positions(styles))

    def walk(element: Element) -> Iterator[str]:
        for child in element:
            if child.tag == f"{TEXT}h":
                level = child.get(f"{TEXT}outline-level", "1")
                yield f"{'#' * (int(level) if level.isdecimal() else 1)} {_odf_text(child)}"
            elif child.tag == f"{TEXT}p":
                yield _odf_text(child)
            elif child.tag == f"{TEXT}list":
                yield "\n".join(f"- {' '.join(walk(item))}" for item in child.iter(f"{TEXT}list-item"))
            elif child.tag == f"{TABLE}table":
                rows = [[" ".join(walk(cell)) for cell in _cells(row)] for row in child.iter(f"{TABLE}table-row")]
                yield markdown_table(rows) if rows else ""
            elif child.tag != f"{TEXT}tracked-changes":
                yield from walk(child)

    body = content.find(f"{OFFICE}body")
    pages = styles.find(f"{OFFICE}master-styles")
    parts = [*walk(body if body is not None else content), *dict.fromkeys(walk(pages) if pages is not None else ())]
    return "\n\n".join(part for part in parts if part.strip())


def _positions(part: Element) -> dict[str, bool]:
    """Styles of raised (True) and lowered text."""
    found = {}
    for style in part.iter(f"{STYLE}style"):
        for properties in style.iter(f"{STYLE}text-properties"):
            where = properties.get(f"{STYLE}text-position", "").split(" ")[0]
            up = where == "super" or (where.endswith("%") and not where.startswith(("-", "0")))
            if up or where == "sub" or where.startswith("-"):
                found[style.get(f"{STYLE}name", "")] = up
    return found


def _raise_and_lower(part: Element, positions: dict[str, bool]) -> None:
    for span in part.iter(f"{TEXT}span"):
        name = span.get(f"{TEXT}style-name", "")
        if name in positions and span.text:
            span.text = raised(span.text) if positions[name] else lowered(span.text)


def _cells(row: Element) -> Iterator[Element]:
    for cell in row:
        if cell.tag in (f"{TABLE}table-cell", f"{TABLE}covered-table-cell"):
            yield from [cell] * min(int(cell.get(f"{TABLE}number-columns-repeated", "1")), 64)


def _odf_text(element: Element) -> str:
    parts = [element.text or ""]
    for child in element:
        if child.tag == f"{TEXT}s":
            parts.append(" " * int(child.get(f"{TEXT}c", "1")))
        elif child.tag in (f"{TEXT}tab", f"{TEXT}line-break"):
            parts.append("\t" if child.tag.endswith("tab") else "\n")
        elif child.tag == f"{OFFICE}annotation":
            parts.append(f" [{' '.join(_odf_text(p) for p in child.iter(f'{TEXT}p'))}]")
        else:
            parts.append(_odf_text(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _parsed(content: bytes) -> Element:
    """XML without entities of its own, which could grow without end."""
    from defusedxml.ElementTree import fromstring

    root: Element = fromstring(content)
    return root
