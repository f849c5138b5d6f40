"""Tokens of a sentence for comparing a claim with its source: content words by their roots, amounts in one form."""

import re
from dataclasses import dataclass
from functools import lru_cache

from app.knowledge.retrieve.scripts import WIDE
from app.knowledge.retrieve.segmenting import content_words

NUMERALS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90, "hundred": 100,
}  # fmt: skip
HAN_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
HAN_NUMBER = re.compile(
    r"百分之(?P<percent>[零〇一二两三四五六七八九十百千]+)|(?P<tenths>[一二两三四五六七八九])成|"
    r"(?P<other>[零〇一二两三四五六七八九十百千]{2,}|[一二两三四五六七八九十](?=倍|年|月|天|小时|分钟|秒|元|位|比特))"
)
# Not the digits of a name such as GP-60 or bf16.
NUMBER = re.compile(r"(?<![A-Za-z0-9_])(?<![A-Za-z]-)\d+(?:[.,:]\d+)*(?:(?<=10)[⁻⁰¹²³⁴-⁹]+)?")  # 10³ is not 10
THOUSANDS = re.compile(r"^\d{1,3}(?:,\d{3})+(?:\.\d+)?$")
ENDINGS = ("ation", "ing", "ies", "ed", "es", "s", "e")


@dataclass(frozen=True)
class Token:
    """A content word or an amount of a text, and where it begins."""

    text: str
    start: int
    is_amount: bool = False


@lru_cache(maxsize=4096)
def tokens(text: str) -> tuple[Token, ...]:
    """The content words and amounts of a text, in order."""
    text = text.translate(WIDE)
    found = [Token(_plain(number.group()), number.start(), True) for number in NUMBER.finditer(text)]
    for number in HAN_NUMBER.finditer(text):
        tenths = number["tenths"]
        value = 10 * han_value(tenths) if tenths else han_value(number["percent"] or number["other"])
        found.append(Token(str(value), number.start(), True))
    for word, start, _ in content_words(without_han_numbers(text)):
        if value := _english(word):
            found.append(Token(str(value), start, True))
        elif not word[0].isdigit():
            found.append(Token(root(word), start))
    return tuple(sorted(found, key=lambda token: token.start))


def without_han_numbers(text: str) -> str:
    """The text with blanks for amounts in Chinese characters, so that they are no words too."""
    return HAN_NUMBER.sub(lambda number: " " * len(number.group()), text)


def root(word: str) -> str:
    """English plurals and verb endings count as the same word."""
    if word.isascii() and word.isalpha() and len(word) > 3:
        for ending in ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                return word.removesuffix(ending)
    return word


def roots(text: str) -> set[str]:
    """The content words of a text without its amounts, by their roots."""
    return {token.text for token in tokens(text) if not token.is_amount}


def numbers(text: str) -> set[str]:
    """All amounts of a text in one form: `1,000`, `1000`, `三成` and `30` can be compared."""
    return {token.text for token in tokens(text) if token.is_amount}


def _plain(number: str) -> str:
    whole = number.replace(",", "") if THOUSANDS.match(number) else number.rstrip(",.")
    return whole.rstrip("0").rstrip(".") if "." in whole else whole


def _english(word: str) -> int:
    """The value of `nine` or `twenty-nine`; 0 of another word."""
    tens, _, ones = word.partition("-")
    value, more = NUMERALS.get(tens, 0), NUMERALS.get(ones, 0)
    return value + more if not ones or (more < 10 <= value and value % 10 == 0 and more) else 0


def han_value(number: str) -> int:
    """The value of a number in Chinese characters."""
    if not any(unit in number for unit in HAN_UNITS):
        return int("".join(str(HAN_DIGITS[digit]) for digit in number))
    total, digit = 0, 0
    for character in number:
        if character in HAN_UNITS:
            total += (digit or 1) * HAN_UNITS[character]
            digit = 0
        else:
            digit = HAN_DIGITS[character]
    return total + digit
