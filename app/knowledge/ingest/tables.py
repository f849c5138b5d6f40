"""Tables to Markdown: cells that span rows or columns, heads of several rows, `|` in a cell; for every kind of file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

WIDEST = 200  # rows or columns that one cell may span
ROW = re.compile(r"^(?:<[^<>\n]*>)*[ \t]*\|.*", re.MULTILINE)
CELL_END = re.compile(r"(?<!\\)\|")
NAMED = re.compile(r"(?:19|20)\d\d|[QH][1-4]|\d{1,2}\s*月")  # figures that name a column: years, quarters, months
MISSING = frozenset(
    ("", "-", "–", "—", "/", "n/a", "na", "none", "null", "unknown", "tbd", "k.a.", "无", "暂无", "未知")
)


@dataclass(frozen=True)
class Cell:
    """A cell as the file has it; in a grid `beside` is the text of the cell that spans this column, too."""

    text: str
    across: int = 1
    down: int = 1
    beside: str = ""


Grid = list[list[Cell]]  # one cell for each row and column


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table whose first row names the columns; nothing is added but padding."""
    width = max(map(len, rows))
    lines = [[_escaped(value) for value in row] + [""] * (width - len(row)) for row in rows]
    lines.insert(1, ["---"] * width)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")


def cells_of(row: str) -> list[str]:
    """The cells of a Markdown table's row, as they are read."""
    inner = row.strip().removeprefix("|")
    inner = inner[:-1] if re.search(r"(?<!\\)\|$", inner) else inner
    return [cell.strip().replace("\\|", "|") for cell in CELL_END.split(inner)]


def as_columns(names: Sequence[str], longest: int) -> str:
    """Names of columns as the last heading of a passage; `columns_in` reads them again."""
    return " | ".join(name.replace("|", "\\|") for name in names)[:longest].rstrip()


def columns_in(heading: str) -> list[str]:
    """The names of a table's columns in a passage's last heading; none where it is no table's."""
    return [name.strip().replace("\\|", "|") for name in CELL_END.split(heading)] if " | " in heading else []


def as_read(shown: str) -> str:
    """Rows of tables without the escapes that only Markdown needs; marks and other tags may stand before a row."""
    return ROW.sub(lambda row: row.group().replace("\\|", "|"), shown)


def grid(rows: Sequence[Sequence[Cell]]) -> Grid:
    """A cell that spans rows stands in each of them, as the reader sees it; one that spans columns in its first."""
    placed: Grid = []
    below: dict[int, tuple[int, Cell]] = {}  # column -> rows that a cell from above still spans
    for row in rows:
        line: list[Cell] = []
        for cell in row:
            _take_from_above(line, below)
            for beside in range(min(cell.across, WIDEST)):
                if cell.down > 1:
                    again = Cell("", beside=cell.text) if beside else Cell(cell.text)
                    below[len(line)] = min(cell.down, WIDEST) - 1, again
                line.append(Cell("", beside=cell.text) if beside else cell)
        while any(column >= len(line) for column in below):
            if len(line) not in below:
                line.append(Cell(""))
            _take_from_above(line, below)
        placed.append(line)
    width = max(map(len, placed), default=0)
    return [line + [Cell("")] * (width - len(line)) for line in placed]


def _take_from_above(line: list[Cell], below: dict[int, tuple[int, Cell]]) -> None:
    """Lengthen a row by the cells from above that stand next in it."""
    while (column := len(line)) in below:
        left, above = below.pop(column)
        line.append(above)
        if left > 1:
            below[column] = left - 1, above


def texts(row: Sequence[Cell]) -> list[str]:
    return [cell.text for cell in row]


def titled_table(rows: Grid, head: int = 0) -> str:
    """Title lines as paragraphs, then the table under one row of names; `head` rows are said to be names."""
    titles, rows = without_titles(rows)
    head -= len(titles)
    return "\n\n".join([*titles, *([markdown_table(under_one_head(rows, head))] if rows else [])])


def without_titles(rows: Grid) -> tuple[list[str], Grid]:
    """The lines above a table, each a single cell, and the rows below them."""
    titles = []
    while rows and len(rows[0]) > 1 and (title := _title(rows[0])):
        titles.append(title)
        rows = rows[1:]
    return titles, rows


def _title(row: Sequence[Cell]) -> str:
    """The only text of a row; none where it may be a column's name, beside or above others."""
    filled = [at for at, cell in enumerate(row) if cell.text.strip()]
    spanned = sum(bool(cell.beside) for cell in row)
    partial = 0 < spanned < len(row) - 1
    if len(filled) != 1 or partial or (filled[0] > 0 and len(row) == 2):
        return ""
    return " ".join(row[filled[0]].text.split())


def under_one_head(rows: Grid, declared: int = 0) -> list[list[str]]:
    """The texts of the rows, those of a head of several rows joined: «2025» over «Q1» and «Q2» names both of them."""
    depth = _depth(rows, declared)
    names = []
    for column in range(len(rows[0])):
        above = [" ".join((row[column].text or row[column].beside).split()) for row in rows[:depth]]
        names.append(" ".join(name for name, _ in groupby(above) if name))
    return [names, *map(texts, rows[depth:])]


def _depth(rows: Grid, declared: int) -> int:
    """How many rows name the columns."""
    depth = max(declared, 1)
    if any(cell.beside for cell in rows[0]):  # what it spans is named below it
        depth = max(depth, *(cell.down for cell in rows[0]))
        if depth == 1 and begins_with_names([texts(row) for row in rows[1:]], seldom_blank=False):
            depth = 2
    return depth if depth < len(rows) else 1


def begins_with_names(rows: Sequence[Sequence[str]], seldom_blank: bool = True) -> bool:
    """Whether rows begin with names of columns: one without figures, above some that have figures."""
    if len(rows) < 2:
        return False
    columns = list(zip(*rows, strict=True))
    filled = [column for column in columns if any(cell.strip() for cell in column)]
    if seldom_blank and any(column[0].strip().lower() in MISSING for column in filled):
        return False
    figures = [column for column in filled if _has_figures(column[0], column[1:])]
    return not figures and any(re.search(r"\d", cell) for column in filled for cell in column[1:])


def _has_figures(cell: str, below: Sequence[str]) -> bool:
    """A year is a name where no years stand below it."""
    if NAMED.fullmatch(cell.strip()):
        return any(NAMED.fullmatch(other.strip()) for other in below)
    return bool(re.search(r"\d", cell))
