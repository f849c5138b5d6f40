"""Jupyter notebooks (nbformat 3 and 4) to Markdown: text, code, and what the cells printed."""

import json
import re
from collections.abc import Iterator
from typing import Any

from app.knowledge.ingest.html_pages import html_to_markdown

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
MARKDOWN_OUTPUTS = ("text/markdown", "text/plain", "text/latex")


def notebook(text: str) -> str:
    """Every cell in order. Raises ValueError for what is no notebook."""
    book = json.loads(text)
    if not isinstance(book, dict) or not ("cells" in book or "worksheets" in book):
        raise ValueError("no cells")
    sheets = [book, *book.get("worksheets", [])]
    kernel = (book.get("metadata") or {}).get("kernelspec") or {}
    language = str(kernel.get("language") or "python")
    cells = [cell for sheet in sheets for cell in sheet.get("cells", []) if isinstance(cell, dict)]
    return "\n\n".join(part for cell in cells for part in _cell(cell, language) if part.strip())


def _cell(cell: dict[str, Any], language: str) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input", "")))
    kind = cell.get("cell_type")
    if kind == "code":
        if source.strip():
            yield _fenced(source, str(cell.get("language") or language))
        for output in cell.get("outputs") or []:
            if isinstance(output, dict):
                yield _output(output)
    elif kind == "heading":
        yield f"{'#' * int(cell.get('level', 1))} {source}"
    else:
        yield source


def _output(output: dict[str, Any]) -> str:
    if output.get("output_type") in ("error", "pyerr"):
        return _fenced(f"{output.get('ename', '')}: {output.get('evalue', '')}")
    data = output.get("data") or {}
    for kind in MARKDOWN_OUTPUTS:
        if kind in data:
            said = _joined(data[kind])
            return said if kind == "text/markdown" else _fenced(said)
    if html := data.get("text/html") or ("" if output.get("text") else output.get("html")):
        return html_to_markdown(_joined(html))
    if "application/json" in data:
        return _fenced(json.dumps(data["application/json"], ensure_ascii=False), "json")
    return _fenced(_joined(output.get("text", "")))


def _joined(source: Any) -> str:
    return ANSI.sub("", "".join(map(str, source)) if isinstance(source, list) else str(source))


def _fenced(content: str, language: str = "") -> str:
    if not content.strip():
        return ""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"
