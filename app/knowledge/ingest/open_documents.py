"""OpenDocument text (.odt) to Markdown: headings, paragraphs, lists, tables, and what pages bear above and below."""

import io
import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from app.knowledge.ingest.packages import parsed
from app.knowledge.ingest.raised_text import lowered, raised
from app.knowledge.ingest.tables import Cell, grid, titled_table

TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
ROW_GROUPS = tuple(f"{TABLE}{name}" for name in ("table-header-rows", "table-rows", "table-row-group"))
STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"


def open_document(raw: bytes) -> str:
    """An .odt: headings, paragraphs, lists and tables in order, then what its pages bear above and below."""
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        content = parsed(package.read("content.xml"))
        styles = parsed(package.read("styles.xml")) if "styles.xml" in package.namelist() else Element("none")
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
                yield _table(
                    [[_cell(cell, " ".join(walk(cell))) for cell in _cells(row)] for row in _rows(child)], child
                )
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


def _rows(table: Element) -> list[Element]:
    """Its own rows, not those of tables in its cells."""
    groups = [child for child in table if child.tag in ROW_GROUPS]
    own = [table, *groups, *(inner for group in groups for inner in group if inner.tag in ROW_GROUPS)]
    return [row for row in table.iter(f"{TABLE}table-row") if any(row in part for part in own)]


def _cells(row: Element) -> Iterator[Element]:
    """Those that are covered by a neighbour come with it."""
    for cell in row:
        if cell.tag == f"{TABLE}table-cell":
            yield from [cell] * min(_number(cell, "number-columns-repeated"), 64)


def _cell(cell: Element, text: str) -> Cell:
    return Cell(text, _number(cell, "number-columns-spanned"), _number(cell, "number-rows-spanned"))


def _number(element: Element, name: str) -> int:
    value = element.get(f"{TABLE}{name}", "1")
    return max(1, int(value)) if value.isdecimal() else 1


def _table(rows: list[list[Cell]], table: Element) -> str:
    filled = [row for row in grid(rows) if any(cell.text.strip() or cell.beside for cell in row)]
    heads = table.findall(f"{TABLE}table-header-rows/{TABLE}table-row")
    return titled_table(filled, len(heads)) if filled else ""


def _odf_text(element: Element) -> str:
    parts = [element.text or ""]
    for child in element:
        if child.tag == f"{TEXT}s":
            parts.append(" " * int(child.get(f"{TEXT}c", "1")))
        elif child.tag in (f"{TEXT}tab", f"{TEXT}line-break"):
            parts.append("\t" if child.tag.endswith("tab") else "\n")
        elif child.tag == f"{OFFICE}annotation":
            parts.append(f" [{' '.join(_odf_text(p) for p in child.iter(f'{TEXT}p'))}]")
        elif child.tag != f"{TEXT}ruby-text":
            parts.append(_odf_text(child))
        parts.append(child.tail or "")
    return "".join(parts)
