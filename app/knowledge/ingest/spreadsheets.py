"""Excel workbooks to Markdown: every sheet as it is shown, formulas that were never calculated as formulas."""

import io
import zipfile
from collections import defaultdict
from typing import Any

from app.knowledge.ingest.number_formats import shown
from app.knowledge.ingest.tables import blocks


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
    cells: dict[int, dict[int, str]] = defaultdict(dict)
    notes = []
    for cell in formulas._cells.values():  # a sheet may claim a million empty rows; only these are there
        value = values.cell(cell.row, cell.column).value
        text = _shown(_formula(cell.value) if value is None else value, cell.number_format)
        if text.strip():
            cells[cell.row][cell.column] = text
        if cell.comment is not None and cell.comment.text.strip():
            notes.append(f"{cell.coordinate}: {cell.comment.text.strip()}")
    for area in values.merged_cells.ranges:  # a cell that spans rows stands in each of them, as the reader sees it
        for row in range(area.min_row + 1, area.max_row + 1):
            if row in cells and area.min_col in cells.get(area.min_row, {}):
                cells[row].setdefault(area.min_col, cells[area.min_row][area.min_col])
    if not cells:
        return "\n".join(notes)
    columns = sorted({column for row in cells.values() for column in row})
    rows: list[list[str]] = []
    last = min(cells)
    for number in sorted(cells):
        if number > last + 1:
            rows.append([])
        rows.append([cells[number].get(column, "") for column in columns])
        last = number
    return "\n\n".join([blocks(rows), *(["\n".join(notes)] if notes else [])])
