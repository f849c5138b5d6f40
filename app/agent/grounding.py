"""Check an agent's answer against what its code printed: numbers that stand in no output."""

import re
from collections.abc import Iterable

_DOTTED = r"\d{1,3}(?:\.\d{3}){2,}(?!\d)(?:,\d+)?"  # thousands apart as in German: 1.234.567,89
_NUMBER = re.compile(rf"(?<![\w.,])-?(?:{_DOTTED}|\d+(?:[,，]\d{{3}})*(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "万": 1e4, "亿": 1e8}
_SCALE = re.compile(rf"[ \xa0]?({'|'.join(_SCALES)})", re.IGNORECASE)
_LIST_MARK = re.compile(r"^\s*(?:\d+[.)、]|step \d+)", re.MULTILINE | re.IGNORECASE)
MOST = 5


def unseen_numbers(answer: str, seen: Iterable[str]) -> list[str]:
    """Numbers of `answer` that are in none of the texts, not even rounded or as a percentage; at most MOST."""
    known = [abs(_value(text)) for source in seen for text in _NUMBER.findall(source)]
    unseen, answer = [], _LIST_MARK.sub("", answer)
    for found in _NUMBER.finditer(answer):
        text, scale = found[0], _SCALE.match(answer, found.end())
        digits = len(_plain(text).partition(".")[2])
        value, slack = abs(_value(text)), 0.5000001 * 10**-digits
        factors = (1, 100, *((1 / _SCALES[scale[1].lower()],) if scale else ()))
        if not any(abs(factor * other - value) <= slack for other in known for factor in factors):
            unseen.append(text)
    return list(dict.fromkeys(unseen))[:MOST]


def _plain(text: str) -> str:
    """The number as Python writes it."""
    if re.fullmatch(f"-?{_DOTTED}", text):
        return text.replace(".", "").replace(",", ".")
    return text.replace(",", "").replace("，", "")


def _value(text: str) -> float:
    return float(_plain(text))
