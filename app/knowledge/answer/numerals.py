"""Amounts of a text in one form: figures with their signs, numbers in Chinese characters and in English words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import regex

from app.knowledge.answer.signs import NEGATIVE, UNSURE, Sign, goes_on, sign_of
from app.knowledge.retrieve.scripts import LETTER

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
    r"(?P<other>(?!零下)[零〇一二两三四五六七八九十百千]{2,}|[一二两三四五六七八九十](?=倍|年|月|天|小时|分钟|秒|元|位|比特)|(?<=零下)[一二三四五六七八九十])"
)
# Not the digits of a name such as GP-60 or bf16; Korean writes its words on to figures.
NUMBER = regex.compile(
    rf"(?<![[{LETTER}_]--\p{{Hangul}}][-‐‑]?(?:\d[\d.:]*)?)(?<!\d)\d+(?:[.,:]\d+)*(?:(?<=10)[⁻⁰¹²³⁴-⁹]+)?",
    regex.V1,
)  # 10³ is not 10
ONES = "|".join(word for word, value in NUMERALS.items() if value < 10)
ENGLISH = re.compile(rf"(?<![\w-])({'|'.join(NUMERALS)})(?:-({ONES}))?(?![\w-])", re.IGNORECASE)
THOUSANDS = re.compile(r"^\d{1,3}(?:,\d{3})+(?:\.\d+)?$")
DECIMAL = re.compile(r"^(?:0\.\d+|\d+\.(?!\d{3}$)\d+)$")  # 1.000 is a thousand in some languages
# Of a measure 1.20 is 1.2; alone it may be a version or a section, of which 3.1 and 3.10 are two.
CURRENCY = re.compile(r"[€$£¥₽₹₩]\s?$")
MEASURE = re.compile(
    r"\s?(?:[%‰°º℃℉€$£¥₽₹₩元块角天秒米克升度倍万亿吨斤]|小时|分钟|千克|公[里斤]|(?:euros?|dollars?|pounds?|cents?|percent|degrees?"
    r"|(?:milli|centi|kilo)?(?:met(?:er|re)|gram|lit(?:er|re))s?|kilos?|tons?|tonnes?|miles?|inch(?:es)?|feet|hours?"
    r"|minutes?|seconds?|days?|weeks?|months?|years?|[kcmµμn]?m|[kmµμ]?g|[cm]?l|[kmg]?hz|[kmg]?wh?|[kmgt]i?b|m?s"
    r"|k?v|ma|eur|usd|gbp|cny|rmb)(?![\w/]))",
    re.IGNORECASE,
)
TEMPERATURE = re.compile(
    r"\s?(?:[°º]\s?[CF](?![\w])|degrees?(?: Celsius| Fahrenheit)?\b|[℃℉度]|[摄华]氏度)", re.IGNORECASE
)


@dataclass(frozen=True)
class Amount:
    """An amount in its one form and where its figures stand."""

    text: str
    start: int
    end: int
    sign: Sign

    @property
    def signed(self) -> str:
        """With its sign, where that is no plus; one that is unsure equals only what is written as unsurely."""
        return self.sign.mark + self.text


@lru_cache(maxsize=4096)
def amounts(text: str) -> tuple[Amount, ...]:
    """All amounts in order; the digits are ASCII already."""
    found = sorted(_unsigned(text), key=lambda each: each.start)
    for at, (one, other) in enumerate(pairwise(found)):
        between = text[one.end : other.start]
        first, second = one.sign, other.sign
        if goes_on(between, first) and second.is_bare:  # minus 18 to 20, of which who knows
            found[at + 1] = replace(other, sign=replace(second, mark=UNSURE))
        elif first.is_bare and second.is_behind and second.mark == NEGATIVE and goes_on(between, second):
            found[at] = replace(found[at], sign=replace(first, mark=UNSURE))
    return tuple(found)


def _unsigned(text: str) -> Iterator[Amount]:
    for number in NUMBER.finditer(text):
        measured = bool(MEASURE.match(text, number.end()) or CURRENCY.search(text, 0, number.start()))
        yield _signed(text, _plain(number.group(), measured), *number.span())
    for number in HAN_NUMBER.finditer(text):
        tenths = number["tenths"]
        value = 10 * han_value(tenths) if tenths else han_value(number["percent"] or number["other"])
        yield _signed(text, str(value), *number.span())
    for number in ENGLISH.finditer(text):
        if value := _english(number[1].lower(), (number[2] or "").lower()):
            yield _signed(text, str(value), *number.span())


def _signed(text: str, value: str, start: int, end: int) -> Amount:
    unit = TEMPERATURE.match(text, end)
    return Amount(value, start, end, sign_of(text, start, unit.end() if unit else end, is_temperature=bool(unit)))


@lru_cache(maxsize=4096)
def without_amounts(text: str) -> str:
    """The text with blanks for what of its amounts would be words too: Chinese figures, signs, degrees."""
    blanks = [each.span() for each in HAN_NUMBER.finditer(text)]
    for amount in amounts(text):
        blanks += amount.sign.places
        if not text[amount.start].isdigit():
            blanks.append((amount.start, amount.end))
        if unit := TEMPERATURE.match(text, amount.end):
            blanks.append(unit.span())
    for start, end in blanks:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _plain(number: str, measured: bool) -> str:
    whole = number.replace(",", "") if THOUSANDS.match(number) else number.rstrip(",.")
    return whole.rstrip("0").rstrip(".") if measured and DECIMAL.match(whole) else whole


def _english(tens: str, ones: str) -> int:
    """The value of `nine` or `twenty-nine`; 0 of what is no number."""
    value, more = NUMERALS[tens], NUMERALS.get(ones, 0)
    return value + more if not ones or (more < 10 <= value and value % 10 == 0) else 0


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
