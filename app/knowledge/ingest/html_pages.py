"""HTML to Markdown (MarkItDown), its tables made plain first: cells that span rows or columns, tables without heads."""

import io
from typing import Any

from app.knowledge.ingest import raised_text

WIDEST = 200  # rows or columns that one cell may span


def html_to_markdown(html: str) -> str:
    """The text of a page or of a part of one."""
    from bs4 import BeautifulSoup
    from markitdown import StreamInfo, converters

    page = BeautifulSoup(html, "lxml")  # closes cells that are left open
    raised_text.in_page(page)
    for table in page.find_all("table"):
        _make_plain(page, table)
    kind = StreamInfo(extension=".html", charset="utf-8")
    return str(converters.HtmlConverter().convert(io.BytesIO(str(page).encode()), kind).markdown)


def _make_plain(page: Any, table: Any) -> None:
    """A cell that spans rows stands in each of them, as the reader sees it; one that spans columns is followed by
    empty ones; the first row names the columns."""
    rows = [row for row in table.find_all("tr") if row.find_parent("table") is table]
    bare = table.find("th") is None
    below: dict[int, tuple[int, str]] = {}  # column -> rows that a cell from above still spans, and its text
    for number, row in enumerate(rows):
        cells, column = row.find_all(["td", "th"], recursive=False), 0
        for cell in [*cells, None]:
            while column in below:
                left, text = below.pop(column)
                copy = page.new_tag("td", string=text)
                cell.insert_before(copy) if cell is not None else row.append(copy)
                if left > 1:
                    below[column] = left - 1, text
                column += 1
            if cell is None:
                break
            if number == 0 and bare:
                cell.name = "th"
            across, down = _span(cell, "colspan"), _span(cell, "rowspan")
            for beside in range(across):
                if down > 1:
                    below[column + beside] = down - 1, "" if beside else cell.get_text(" ", strip=True)
            for _ in range(across - 1):
                cell.insert_after(page.new_tag(cell.name))
            column += across
            del cell["colspan"], cell["rowspan"]


def _span(cell: Any, name: str) -> int:
    value = str(cell.get(name, "1")).strip()
    return min(WIDEST, max(1, int(value))) if value.isdecimal() else 1
