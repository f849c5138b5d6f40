"""Check an agent's answer against what its code printed: numbers that stand in no output."""

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:[,，]\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?")
_LIST_MARK = re.compile(r"^\s*(?:\d+[.)、]|step \d+)", re.MULTILINE | re.IGNORECASE)
MOST = 5


def unseen_numbers(answer: str, seen: Iterable[str]) -> list[str]:
    """Numbers of `answer` that are in none of the texts, not even rounded or as a percentage; at most MOST."""
    known = [_value(text) for source in seen for text in _NUMBER.findall(source)]
    unseen = []
    for text in _NUMBER.findall(_LIST_MARK.sub("", answer)):
        digits = len(text.partition(".")[2])
        value, slack = _value(text), 0.5000001 * 10**-digits
        if not any(abs(factor * abs(other) - abs(value)) <= slack for other in known for factor in (1, 100)):
            unseen.append(text)
    return list(dict.fromkeys(unseen))[:MOST]


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("，", ""))
