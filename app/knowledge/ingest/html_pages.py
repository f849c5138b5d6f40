"""HTML to Markdown (MarkItDown), its tables by our own rules: spans, heads of several rows, `|` in cells, tables in
tables; readings of characters (ruby) left out."""

import io
import re
from itertools import takewhile
from typing import Any

from app.knowledge.ingest import raised_text
from app.knowledge.ingest.tables import WIDEST, Cell, grid, titled_table

PLACE = "\ue000{}\ue001"  # stands for a table while the page around it is converted
PLACES = re.compile(
    "^([ \t>]*(?:[*+-] |\\d+\\. )?)[ \t]*\ue000(\\d+)\ue001", re.MULTILINE
)  # in a quotation or list, too


def html_to_markdown(html: str) -> str:
    """The text of a page or of a part of one."""
    from bs4 import BeautifulSoup
    from markitdown import StreamInfo, converters

    page = BeautifulSoup(re.sub("[\ue000\ue001]", "", html), "lxml")  # closes cells that are left open
    raised_text.in_page(page)
    for reading in page.find_all(["rt", "rp", "rtc"]):
        reading.decompose()
    written: list[str] = []
    for table in reversed(page.find_all("table")):  # those within others first
        _replace(page, table, written)
    kind = StreamInfo(extension=".html", charset="utf-8")
    markdown = converters.HtmlConverter().convert(io.BytesIO(str(page).encode()), kind).markdown
    return PLACES.sub(lambda place: "\n" * bool(place[1].strip()) + written[int(place[2])], str(markdown)).strip()


def _replace(page: Any, table: Any, written: list[str]) -> None:
    """Put a place for its Markdown where the table stood; what only lays out a page becomes parts of the page."""
    rows = _rows(table)
    outer = table.find_parent("table")
    if _is_line(rows) and (len(rows) == len(_cells(rows[0])) == 1 or "\ue000" in table.get_text()):
        for part in [table, *rows, *(cell for row in rows for cell in _cells(row))]:
            part.name = "div"
    elif outer is not None and not _is_line(_rows(outer)):
        table.replace_with(_within_cell(rows))
    else:
        place = page.new_tag("p", string=PLACE.format(len(written)))
        caption = table.find("caption")
        written.append(_markdown(rows))
        table.replace_with(place)
        if caption is not None:
            caption.name = "p"
            place.insert_before(caption)


def _rows(table: Any) -> list[Any]:
    own = [row for row in table.find_all("tr") if row.find_parent("table") is table]
    return [row for row in own if _cells(row)]


def _cells(row: Any) -> list[Any]:
    return list(row.find_all(["td", "th"], recursive=False))


def _is_line(rows: list[Any]) -> bool:
    """Whether cells stand only below or only beside one another."""
    return bool(rows) and (len(rows) == 1 or all(len(_cells(row)) == 1 for row in rows))


def _within_cell(rows: list[Any]) -> str:
    """A table inside a cell of another one: its rows one after another."""
    lines = [", ".join(filter(None, (_cell(cell).text for cell in _cells(row)))) for row in rows]
    return "; ".join(filter(None, lines))


def _markdown(rows: list[Any]) -> str:
    head = len(list(takewhile(_names_columns, rows)))
    placed = grid([[_cell(cell) for cell in _cells(row)] for row in rows])
    filled = [row for row in placed if any(cell.text or cell.beside for cell in row)]
    return titled_table(filled, head) if filled else ""


def _names_columns(row: Any) -> bool:
    return row.find_parent("thead") is not None or all(cell.name == "th" for cell in _cells(row))


def _cell(cell: Any) -> Cell:
    """Its text as Markdown in one line; pictures by what is said of them."""
    from markdownify import MarkdownConverter

    across, down = _span(cell, "colspan"), _span(cell, "rowspan")
    for picture in cell.find_all("img"):
        picture.replace_with(str(picture.get("alt") or ""))
    for unseen in cell.find_all(["script", "style"]):
        unseen.decompose()
    cell.name = "div"
    if cell.find(True) is None:
        return Cell(" ".join(cell.get_text().split()), across, down)
    converter = MarkdownConverter(heading_style="ATX", escape_asterisks=False, escape_underscores=False)
    return Cell(" ".join(converter.convert_soup(cell).split()), across, down)


def _span(cell: Any, name: str) -> int:
    value = str(cell.get(name, "1")).strip()
    if name == "rowspan" and value == "0":  # to the end of the table
        return WIDEST
    return max(1, int(value)) if value.isdecimal() and len(value) < 6 else 1
