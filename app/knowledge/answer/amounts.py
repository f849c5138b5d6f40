"""Attribute amounts in text: unit, table column, and the subject that each belongs to."""

import re
from collections.abc import Sequence, Set

from app.knowledge.answer.source_sentences import SourceSentence, cells_of
from app.knowledge.answer.tokens import numbers, root, roots
from app.knowledge.retrieve.segmenting import STOP_WORDS

MEASURED = re.compile(r"\d\s*-?\s*([A-Za-z]{2,}|[%€$£¥°]|[元年月天时分秒位个只次倍成人户岁米克])")
# What stands beside an amount and changes what it is: rose by 5 or to 5, 4 a.m. or 4 p.m., 5 or 5 万, 5 m or 5 cm.
BESIDE = (
    re.compile(r"(?P<amount>\d[\d.:]*)\s*(?P<kind>[ap])\.?m\b", re.IGNORECASE),
    re.compile(
        r"(?:\b(?P<kind>by|to|from)\s+(?:about\s+|around\s+)?|(?P<zh>[到至了]))\s*[€$£¥]?\s*"
        r"(?P<amount>\d[\d.,]*\d|\d|[一二两三四五六七八九十百千]+)",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<amount>\d[\d.,]*\d|\d)\s*(?P<kind>[百千]?万|亿|[厘毫微千公](?=[克米瓦升斤里])|(?:thousand|[mb]illion"
        r"|[kcm]?m|[km]?g|[kmg]?hz|[kmg]?w|[kmgt]?b|m?l|m?s|h|k?v|m?a|[°º] ?[cf])(?![a-z])|)",
        re.IGNORECASE,
    ),
)
UNIT = re.compile(
    r"(?P<amount>\d[\d.,]*)\s*(?:[A-Za-z%€$£¥°][\w/()²³]*|个?工作日|[元年月天时分秒位个只次倍成人户岁米克张盒本枚页])"
)
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


def same_beside(claim: str, source: str) -> bool:
    """Whether amounts keep what stands beside them, where the source says it too."""
    for pattern in BESIDE:
        said, stands = _kinds(pattern, claim), _kinds(pattern, source)
        known = {amount: kinds for amount, kinds in stands.items() if kinds != {""}}
        if any(not kinds & known.get(amount, kinds) for amount, kinds in said.items()):
            return False
    return True


def _kinds(pattern: re.Pattern[str], text: str) -> dict[str, set[str]]:
    """What stands beside each amount of the text."""
    found: dict[str, set[str]] = {}
    for match in pattern.finditer(text):
        groups = match.groupdict()
        kind = (groups["kind"] or groups.get("zh") or "").lower()
        found.setdefault(groups["amount"], set()).add({"至": "到"}.get(kind, kind))
    return found


def in_row(words: Set[str], amounts: Set[str], source: SourceSentence) -> bool:
    """Whether amounts stand under the columns that the claim names, or in cells that it names by other words too.

    Of each column named the cell is told: who approves is not who is under «filed by».
    """
    columns, cells = source.columns, cells_of(source.text)
    held = words | amounts
    row = roots(source.text)
    named = {at for at, column in enumerate(columns) if (roots(column) & held) - row}
    for at, cell in enumerate(cells):
        inside, other = roots(cell) & held, roots(UNIT.sub(r"\g<amount>", cell))
        if at in named or (inside and not named) or len(other & held) > len(other) / 2:
            held = held - numbers(cell)
    told = all(roots(cells[at]) & words or numbers(cells[at]) & amounts for at in named if at < len(cells))
    return told and not (named and amounts & held)


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
