"""Split a sheet (Excel, CSV) into title lines and tables: an empty row ends a table only where names follow it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from app.knowledge.ingest.tables import (
    NAMED,
    Cell,
    Grid,
    begins_with_names,
    markdown_table,
    texts,
    under_one_head,
    without_titles,
)


@dataclass(frozen=True)
class Row:
    """A row of a sheet, every cell of it. `is_marked`: it looks like names of columns (bold, or filled with colour).

    `width` is how many cells the file gives it, where it says that.
    """

    cells: list[Cell]
    is_marked: bool = False
    width: int = 0

    def __bool__(self) -> bool:
        return any(cell.text.strip() for cell in self.cells)


@dataclass
class Block:
    """Title lines and a table as far as it has been read; `columns` are those of the sheet that it fills."""

    titles: list[str]
    rows: list[list[str]] = field(default_factory=list)
    columns: tuple[int, ...] = ()
    is_marked: bool = False
    widths: frozenset[int] = frozenset()


def sheet_blocks(rows: Sequence[Row]) -> str:
    """Rows as a sheet shows them: title lines as paragraphs, rows under names of their own as tables."""
    blocks: list[Block] = []
    table: Block | None = None  # the last one with names of columns
    for group in _groups(rows):
        block = _block(group)
        if table is not None and not table.titles and block.titles and _begins_with_data(block):
            block = replace(block, titles=[])  # rows of that table with one cell filled
        if table is not None and _goes_on(table, block, group):
            rest = _rows_under(table, block, group)
            if block.titles:
                table = replace(table, titles=block.titles, rows=[table.rows[0], *rest])
                blocks.append(table)
            else:
                table.rows += rest
            continue
        blocks.append(block)
        if len(block.rows) > 1 and (len(block.columns) > 1 or table is None or len(table.columns) == 1):
            table = block
    return "\n\n".join(part for block in blocks for part in _written(block))


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows without an empty one between them."""
    group: list[Row] = []
    for row in [*rows, Row([])]:
        if row:
            group.append(row)
        elif group:
            yield group
            group = []


def _filled(rows: Sequence[Row]) -> tuple[int, ...]:
    width = max(len(row.cells) for row in rows)
    lines = [row.cells + [Cell("")] * (width - len(row.cells)) for row in rows]
    return tuple(at for at in range(width) if any(line[at].text.strip() for line in lines))


def _grid(rows: Sequence[Row], columns: Sequence[int]) -> Grid:
    return [[row.cells[at] if at < len(row.cells) else Cell("") for at in columns] for row in rows]


def _block(group: Sequence[Row]) -> Block:
    """A group of rows by itself."""
    columns = _filled(group)
    titles, rows = without_titles(_grid(group, columns))
    below = group[len(titles) :]
    marked = bool(below) and below[0].is_marked and not all(row.is_marked for row in below)
    marked = marked and _may_be_names(texts(rows[0]))
    named = under_one_head(rows) if rows else []
    return Block(titles, named, columns, marked, frozenset(row.width for row in below))


def _begins_with_data(block: Block) -> bool:
    """Whether what stands under its titles are no names of columns, to be seen by their figures."""
    return bool(block.rows) and not block.is_marked and not _without_figures(block.rows[0])


def _goes_on(table: Block, block: Block, group: Sequence[Row]) -> bool:
    """Whether rows after an empty one belong to the table before it."""
    if not block.rows or not set(block.columns) <= set(table.columns) or not block.widths & table.widths:
        return False
    rows = [texts(row) for row in _grid(group[len(block.titles) :], table.columns)]
    if rows[0] == table.rows[0]:
        return True
    if len(block.columns) == 1 and (block.columns[0] == table.columns[0] or len(rows) > 1):
        return len(table.columns) == 1 and (
            len(rows) > 1 or table.widths == {1}
        )  # else a line below a table, or a list
    if table.is_marked or block.is_marked:
        return not (group[len(block.titles)].is_marked and _may_be_names(rows[0]))
    if any(
        cell.strip() and cell in seen for cell, seen in zip(rows[0], zip(*table.rows[1:], strict=True), strict=True)
    ):
        return True
    return not begins_with_names(rows) and not (block.titles and _without_figures(rows[0]))


def _may_be_names(row: Sequence[str]) -> bool:
    return _without_figures([cell for cell in row if not NAMED.fullmatch(cell.strip())])


def _without_figures(row: Sequence[str]) -> bool:
    return not any(character.isdigit() for cell in row for character in cell)


def _rows_under(table: Block, block: Block, group: Sequence[Row]) -> list[list[str]]:
    """The group's rows by the table's columns; its names, written once more, are left out."""
    rows = [texts(row) for row in _grid(group[len(block.titles) :], table.columns)]
    return rows[1:] if rows[0] == table.rows[0] else rows


def _written(block: Block) -> Iterator[str]:
    yield from block.titles
    if len(block.columns) == 1 and len(block.rows) == 1:
        yield block.rows[0][0].strip()
    elif block.rows:
        yield markdown_table(block.rows)
