"""Excel workbooks to Markdown: every sheet as it is shown, formulas that were never calculated as formulas."""

import io
import zipfile
from collections import defaultdict
from typing import Any

from app.knowledge.ingest.number_formats import shown
from app.knowledge.ingest.sheet_blocks import Row, sheet_blocks
from app.knowledge.ingest.tables import WIDEST, Cell

Cells = dict[int, dict[int, Cell]]  # row -> column -> cell


def workbook(raw: bytes) -> str:
    """All sheets that hold something, each under its name."""
    import openpyxl

    values = openpyxl.load_workbook(io.BytesIO(raw), data_only=True)
    formulas = openpyxl.load_workbook(io.BytesIO(raw)) if _has_formulas(raw) else values
    parts = []
    for sheet in values.worksheets:
        text = _sheet(sheet, formulas[sheet.title])
        if text:
            parts.append(f"## {sheet.title}\n\n{text}")
    return "\n\n".join(parts)


def _has_formulas(raw: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        sheets = [name for name in package.namelist() if name.startswith("xl/worksheets/")]
        return any(b"<f>" in (content := package.read(name)) or b"<f " in content for name in sheets)


def _formula(value: Any) -> Any:
    """What a cell holds; of an array formula or a data table, which openpyxl gives as objects, the text."""
    from openpyxl.worksheet.formula import ArrayFormula, DataTableFormula

    if isinstance(value, ArrayFormula):
        return value.text
    return f"=TABLE({value.r1 or ''},{value.r2 or ''})" if isinstance(value, DataTableFormula) else value


def _shown(value: Any, number_format: str) -> str:
    """A cell as the sheet shows it, or plain where its format cannot be followed: one cell must not cost the file."""
    try:
        return shown(value, number_format)
    except (ArithmeticError, LookupError, ValueError):
        return str(value)


def _sheet(values: Any, formulas: Any) -> str:
    cells: Cells = defaultdict(dict)
    notes, marked = [], defaultdict(list)
    for cell in formulas._cells.values():  # a sheet may claim a million empty rows; only these are there
        value = values.cell(cell.row, cell.column).value
        text = _shown(_formula(cell.value) if value is None else value, cell.number_format)
        if text.strip():
            cells[cell.row][cell.column] = Cell(text)
            marked[cell.row].append(_is_marked(cell))
        if cell.comment is not None and cell.comment.text.strip():
            notes.append(f"{cell.coordinate}: {cell.comment.text.strip()}")
    if not cells:
        return "\n".join(notes)
    for area in values.merged_cells.ranges:
        _spread(cells, area)
    written = sheet_blocks(_rows(cells, {row for row in marked if all(marked[row])}, _within_tables(values)))
    return "\n\n".join([written, *(["\n".join(notes)] if notes else [])])


def _is_marked(cell: Any) -> bool:
    """Whether it looks like the name of a column: bold, or on a colour."""
    return bool(cell.has_style and (cell.font.b or cell.fill.fill_type))


def _spread(cells: Cells, area: Any) -> None:
    """A cell that spans rows stands in each of them that holds something, as the reader sees it."""
    first = cells.get(area.min_row, {}).get(area.min_col)
    if first is None:
        return
    spanned = [row for row in range(area.min_row, area.max_row + 1) if row in cells]
    for row in spanned:
        for column in range(area.min_col, min(area.max_col, area.min_col + WIDEST) + 1):
            beside = column > area.min_col
            cells[row].setdefault(column, Cell("", beside=first.text) if beside else Cell(first.text))
    cells[area.min_row][area.min_col] = Cell(first.text, down=len(spanned))


def _within_tables(sheet: Any) -> set[int]:
    """Rows of the sheet's own tables and filters below their first: an empty one among them ends nothing."""
    from openpyxl.utils import range_boundaries

    areas = [*(table.ref for table in sheet.tables.values()), *filter(None, [sheet.auto_filter.ref])]
    bounds = [range_boundaries(area.replace("$", "")) for area in areas]
    return {row for _, top, _, bottom in bounds for row in range((top or 1) + 1, (bottom or sheet.max_row) + 1)}


def _rows(cells: Cells, marked: set[int], within: set[int]) -> list[Row]:
    """The rows that hold something, an empty one where the sheet has any between them."""
    columns = sorted({column for row in cells.values() for column in row})
    rows: list[Row] = []
    last = min(cells)
    for number in sorted(cells):
        if number > last + 1 and number not in within:
            rows.append(Row([]))
        rows.append(Row([cells[number].get(column, Cell("")) for column in columns], number in marked))
        last = number
    return rows
