"""PowerPoint slides to Markdown (MarkItDown), tables made plain first: cells that span rows, `|` in cells."""

import io
from typing import Any

from app.knowledge.ingest.raised_text import in_package


def slides(raw: bytes) -> str:
    """Every slide with its notes."""
    from markitdown import StreamInfo, converters

    plain = io.BytesIO(_with_plain_tables(in_package(raw)))
    return str(converters.PptxConverter().convert(plain, StreamInfo(extension=".pptx")).markdown)


def _with_plain_tables(raw: bytes) -> bytes:
    import pptx

    presentation = pptx.Presentation(io.BytesIO(raw))
    tables = [shape.table for slide in presentation.slides for shape in slide.shapes if shape.has_table]
    for table in tables:
        _fill(table)
    if not tables:
        return raw
    changed = io.BytesIO()
    presentation.save(changed)
    return changed.getvalue()


def _fill(table: Any) -> None:
    rows, columns = len(table.rows), len(table.columns)
    for row in range(rows):
        for column in range(columns):
            cell = table.cell(row, column)
            if "|" in cell.text:
                cell.text = cell.text.replace("|", "\\|")
            if cell.is_merge_origin:
                for below in range(row + 1, min(row + cell.span_height, rows)):
                    table.cell(below, column).text = cell.text.replace("\\|", "|")
