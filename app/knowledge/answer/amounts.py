"""Attribute amounts in text: unit, table column, and the subject that each belongs to."""

import re
from collections.abc import Sequence, Set

from app.knowledge.answer.source_sentences import SourceSentence, cells_of
from app.knowledge.answer.tokens import numbers, root, roots
from app.knowledge.retrieve.segmenting import STOP_WORDS

MEASURED = re.compile(r"\d\s*-?\s*([A-Za-z]{2,}|[%€$£¥°]|[元年月天时分秒位个只次倍成人户岁米克])")
UNITS: dict[str, tuple[str, ...]] = {
    "%": ("%", "百分之", "percent", "per cent"),
    "percent": ("%", "百分之", "percent", "per cent"),
    "€": ("€", "euro", "欧元", "eur"),
    "$": ("$", "dollar", "美元"),
    "euros": ("€", "euro", "欧元", "eur"),
}


def measured(claim: str, source: SourceSentence) -> bool:
    """Whether what the claim's amounts count stands in the source: 31 dollars are not 31 euros."""
    for unit in MEASURED.findall(claim):
        names = UNITS.get(unit.lower(), (unit.lower(),))
        if unit.lower() not in STOP_WORDS and not any(
            name in source.said.lower() or root(name) in source.words for name in names
        ):
            return False
    return True


def in_row(words: Set[str], amounts: Set[str], source: SourceSentence) -> bool:
    """Whether amounts stand under the columns that the claim names, or in cells that it names by other words too."""
    columns, cells = source.columns, cells_of(source.text)
    held = words | amounts
    row = roots(source.text)
    named = {at for at, column in enumerate(columns) if (roots(column) & held) - row}
    for at, cell in enumerate(cells):
        inside = roots(cell) & held
        if at in named or (inside and not named) or len(inside) > len(roots(cell)) / 2:
            held = held - numbers(cell)
    return not (named and amounts & held)


def belongs(amount: str, subject: set[str], source: SourceSentence, sources: Sequence[SourceSentence]) -> bool:
    """Whether the amount stands with what the claim and the question are about, and no other amount does more."""
    mine, others = 0, 0
    for each in sources:
        around = len(subject & each.around)
        for clause in each.clauses:
            found = numbers(clause)
            if not found:
                continue
            shared = 4 * len(subject & roots(clause)) + (3 * around if not each.columns else 0)
            if each is source and amount in found:
                mine = max(mine, shared)
            elif amount not in found:
                others = max(others, shared)
    return mine >= others
