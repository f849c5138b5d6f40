"""CSV and TSV to Markdown: the separator is sniffed, numbers stay as they are written."""

import csv
import io
import re
from collections import Counter

from app.knowledge.ingest.sheet_blocks import Row, sheet_blocks
from app.knowledge.ingest.tables import Cell

SEPARATORS = ",;\t|"
SNIFFED = 100  # lines that decide on the separator


def separated(text: str, separator: str = "") -> str:
    """The content of a CSV or TSV file as title lines and tables."""
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=.", first.strip()):
        separator, text = first.strip()[-1], rest
    csv.field_size_limit(1 << 24)
    rows = csv.reader(io.StringIO(text), delimiter=separator or sniffed(text))
    return sheet_blocks([Row([Cell(value) for value in row], width=len(row)) for row in rows])


def sniffed(text: str) -> str:
    """The separator that cuts most lines into the same number of cells, above one."""
    lines = [line for line in text.split("\n", SNIFFED)[:SNIFFED] if line.strip()]
    best, most = ",", 0.0
    for separator in SEPARATORS:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=separator) if len(row) > 1)
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        rated = count + 0.01 * width if count else 0.0
        if rated > most:
            best, most = separator, rated
    return best
