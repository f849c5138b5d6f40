"""Attribute amounts in text: unit, table column, and the subject that each belongs to."""

import re
from collections import Counter
from collections.abc import Sequence, Set

import regex

from app.knowledge.answer.numerals import han_value
from app.knowledge.answer.source_sentences import SourceSentence
from app.knowledge.answer.tokens import numbers, root, roots
from app.knowledge.ingest.tables import cells_of
from app.knowledge.retrieve.scripts import LETTER, WITHIN, ascii_digits, is_unspaced
from app.knowledge.retrieve.segmenting import STOP_WORDS

MEASURED = regex.compile(
    rf"\d\s*-?\s*((?:{LETTER}{WITHIN}*){{2,}}|[%€$£¥₽₹₩°º℃℉]|[元年月天时分秒位个只次倍成人户岁米克度])|([€$£¥₽₹₩])\s?\d",
    regex.V1,
)
# What stands beside an amount and changes what it is: rose by 5 or to 5, 4 a.m. or 4 p.m., 5 or 5 万, 5 m or 5 cm.
BESIDE = (
    re.compile(r"(?P<amount>\d[\d.:]*)\s*(?P<kind>[ap])\.?m\b", re.IGNORECASE),
    re.compile(
        r"(?:\b(?P<kind>by|to|from)\s+(?:about\s+|around\s+)?|(?P<until>[到至])"
        r"|(?P<more>了|缩短|增加|增长|减少|降低|提高|下降|上升|延长|[调涨降升][整高低]?))\s*[€$£¥]?\s*"
        r"(?P<amount>\d[\d.,]*\d|\d|[一二两三四五六七八九十百千]+)",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<amount>\d[\d.,]*\d|\d)\s*(?P<kind>[百千]?万|亿|[厘毫微千公](?=[克米瓦升斤里])|(?:thousand|[mb]illion"
        r"|[kcm]?m|[km]?g|[kmg]?hz|[kmg]?w|[kmgt]?b|m?l|m?s|h|k?v|m?a"
        r"|[°º] ?[cf]|degrees? (?:celsius|fahrenheit))(?![a-z])|[℃℉度]|[摄华]氏度|)",
        re.IGNORECASE,
    ),
)
DEGREES = ("°", "º", "度", "℃", "℉", "degree")
UNITS: dict[str, tuple[str, ...]] = {
    "%": ("%", "百分之", "percent", "per cent"),
    "percent": ("%", "百分之", "percent", "per cent"),
    "€": ("€", "euro", "欧元", "eur"),
    "$": ("$", "dollar", "usd", "美元"),
    "£": ("£", "pound", "gbp", "英镑"),
    "¥": ("¥", "元", "yuan", "yen", "rmb", "cny"),
    "°": DEGREES,
    "º": DEGREES,
    "度": DEGREES,
    "℃": DEGREES,
    "℉": DEGREES,
    "degrees": DEGREES,
    "euros": ("€", "euro", "欧元", "eur"),
}


def measured(claim: str, source: SourceSentence) -> bool:
    """Whether what the claim's amounts count stands in the source: 31 dollars are not 31 euros."""
    for behind, before in MEASURED.findall(claim):
        unit = behind or before
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
    for match in pattern.finditer(ascii_digits(text)):
        groups = match.groupdict()
        kind = "到" if groups.get("until") else "了" if groups.get("more") else _unit(groups["kind"] or "")
        amount = groups["amount"]
        found.setdefault(amount if amount.isascii() else str(han_value(amount)), set()).add(kind)
    return found


def _unit(kind: str) -> str:
    """A unit in one form: degrees without a name are those of Celsius in Chinese."""
    plain = kind.lower()
    if plain in ("℃", "度", "摄氏度") or plain.endswith("celsius"):
        return "°c"
    if plain in ("℉", "华氏度") or plain.endswith("fahrenheit"):
        return "°f"
    return plain.replace("º", "°").replace(" ", "")


def in_row(claim: str, source: SourceSentence) -> bool:
    """Whether amounts stand under the columns that the claim names, or in cells that it names by other words too.

    Where a clause names a column, it tells its cell: who approves is not who is under «filed by».
    """
    cells = cells_of(source.text)
    own = _own_words(cells)
    words, amounts = roots(claim), numbers(claim)
    held = words | amounts
    named = _named_columns(held, source)
    for at, cell in enumerate(cells):
        inside = {word for word in own[at] if word in held or (is_unspaced(word) and word in claim)}
        if at in named or (inside and not named) or len(inside) > len(own[at]) / 2:
            held = held - numbers(cell)
    if named and amounts & held:
        return False
    for clause in re.split(r"[,;]\s|[，；。]", claim):
        said = roots(clause) | numbers(clause)
        named = {at for at in _named_columns(said, source) if at < len(cells)}
        if not all((numbers(cells[at]) or own[at] or said) & said for at in named):
            return False
    return True


def _own_words(texts: Sequence[str]) -> list[set[str]]:
    """The words of each cell that no other one has: neither units nor what all are called."""
    counted = Counter(word for text in texts for word in roots(text))
    return [{word for word in roots(text) if counted[word] == 1} for text in texts]


def _named_columns(said: Set[str], source: SourceSentence) -> set[int]:
    """The columns whose names are said, by words that no cell of the row has."""
    row = roots(source.text)
    names = zip(source.columns, _own_words(source.columns), strict=True)
    return {at for at, (column, own) in enumerate(names) if ((own or roots(column)) & said) - row}


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
