"""Number formats of spreadsheets: a cell's value as the sheet shows it; dates are written the ISO way."""

import math
import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any

# A format cut into: quoted or escaped text, fillers, brackets, General, placeholders of digits, exponents, the rest.
PIECE = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|(?P<filler>[_*].)|\[(?P<bracket>[^\]]*)\]|(?P<general>General)'
    r"|(?P<exponent>[eE][+-]0+)|(?P<digits>[0#?][0#?,]*)|(?P<date>AM/PM|A/P|上午/下午|[ymdhsge]+)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
SECTION = re.compile(r'(?:"[^"]*"|\\.|\[[^\]]*\]|[^;])*')
CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?[\d.]+)$")
ELAPSED = re.compile(r"(h+|m+|s+)$", re.IGNORECASE)
DIGITS = 400  # that the largest number of a cell has, written out, and its decimals
Piece = tuple[str, str]


def shown(value: Any, number_format: str = "General") -> str:
    """A cell's value as a spreadsheet shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return _moment(value, number_format)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.isoformat("seconds" if value.second or "s" in _letters(number_format) else "minutes")
    if isinstance(value, timedelta):
        return _duration(value, number_format)
    if isinstance(value, int | float):
        with localcontext(prec=DIGITS):
            return _number(value, number_format) if math.isfinite(value) else str(value)
    return str(value)


def _pieces(section: str) -> list[Piece]:
    return [(str(found.lastgroup), found[str(found.lastgroup)]) for found in PIECE.finditer(section)]


def _letters(number_format: str) -> str:
    """The letters of a date format, those in brackets too."""
    return "".join(text for kind, text in _pieces(number_format) if kind in ("date", "bracket")).lower()


def _moment(value: datetime, number_format: str) -> str:
    letters = _letters(SECTION.match(number_format)[0])  # type: ignore[index]
    day = value.date().isoformat()
    if "年" in number_format and not set("hs") & set(letters):
        parts = (f"{value.year}年", f"{value.month}月", f"{value.day}日")
        return "".join(part for part in parts if part[-1] in number_format)
    if set("hs") & set(letters) and value.time() != time():  # a date alone is often stored with midnight
        clock = value.time().isoformat("seconds" if "s" in letters else "minutes")
        return f"{day} {clock}" if set("yd") & set(letters) else clock
    if "y" in letters and "d" not in letters:
        return day[:7] if "m" in letters else day[:4]
    return day


def _duration(value: timedelta, number_format: str) -> str:
    seconds = round(value.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    letters = _letters(number_format)
    unit = next(
        (text[0].lower() for kind, text in _pieces(number_format) if kind == "bracket" and ELAPSED.match(text)), "h"
    )
    if unit == "s":
        return f"{sign}{seconds}"
    if unit == "m":
        return f"{sign}{seconds // 60}" + (f":{seconds % 60:02}" if "s" in letters else "")
    clock = f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}"
    return f"{clock}:{seconds % 60:02}" if "s" in letters or seconds % 60 else clock


def _number(value: float, number_format: str) -> str:
    plain = _plain(value)
    section, unsigned = _section(value, number_format)
    pieces = [piece for piece in _pieces(section) if piece[0] != "filler"]
    kinds = {kind for kind, _ in pieces}
    if number_format in ("General", "@", "") or "date" in kinds or ("other", "@") in pieces:
        return plain
    if "general" in kinds:
        body = _text(
            [("quoted", plain.removeprefix("-")) if kind == "general" else (kind, text) for kind, text in pieces]
        )
    elif "digits" not in kinds:
        return _text(pieces)
    elif "exponent" in kinds:
        body = _scientific(abs(value), pieces)
    elif any(piece == ("other", "/") for piece in pieces):
        body = _fraction(abs(value), pieces)
    else:
        body = _decimal(abs(value), pieces)
    negative = value < 0 and not unsigned and re.search("[1-9]", body)
    return f"{'-' if negative else ''}{body}".strip()


def _plain(value: float) -> str:
    plain = f"{value:.15g}" if isinstance(value, float) else str(value)
    return f"{Decimal(plain):f}" if "e" in plain and 1e-15 < abs(value) < 1e21 else plain


def _section(value: float, number_format: str) -> tuple[str, bool]:
    """The part of a format that holds for the value, and whether the sign is left to it."""
    sections = _split(number_format)
    conditions = [_condition(section) for section in sections]
    if any(conditions):
        for section, condition in zip(sections, conditions, strict=True):
            if condition is None or _holds(value, *condition):
                return section, False
        return "General", False
    if value < 0 and len(sections) > 1:
        return sections[1], True
    if value == 0 and len(sections) > 2:
        return sections[2], True
    return sections[0], False


def _split(number_format: str) -> list[str]:
    parts, at = [], 0
    while at <= len(number_format):
        found = SECTION.match(number_format, at)
        assert found is not None
        parts.append(found[0])
        at = found.end() + 1
    return parts


def _condition(section: str) -> tuple[str, float] | None:
    brackets = [text for kind, text in _pieces(section) if kind == "bracket"]
    found = next((match for text in brackets if (match := CONDITION.match(text))), None)
    return (found[1], float(found[2])) if found else None


def _holds(value: float, sign: str, limit: float) -> bool:
    less, same = value < limit, value == limit
    return {"<": less, "<=": less or same, ">": not less and not same, ">=": not less, "=": same, "<>": not same}[sign]


def _text(pieces: Sequence[Piece]) -> str:
    """What stands around the digits: text as it is, the currency of a bracket, no colours."""
    return "".join(_bracket(text) if kind == "bracket" else text for kind, text in pieces)


def _bracket(text: str) -> str:
    return text[1:].partition("-")[0] if text.startswith("$") else ""


def _rounded(amount: float | Decimal, decimals: int) -> str:
    exact = amount if isinstance(amount, Decimal) else Decimal(repr(amount))
    return f"{exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP):f}"


def _decimal(amount: float, pieces: list[Piece]) -> str:
    point = next((at for at, piece in enumerate(pieces) if piece == ("other", ".")), len(pieces))
    last = max((at for at, (kind, _) in enumerate(pieces) if kind == "digits"), default=0)
    scaled = Decimal(repr(amount)) * 100 ** sum(piece == ("other", "%") for piece in pieces)
    scaled /= 1000 ** (len(pieces[last][1]) - len(pieces[last][1].rstrip(",")))
    pieces[last] = "digits", pieces[last][1].rstrip(",")
    places = "".join(text for kind, text in pieces[point:] if kind == "digits")
    whole, _, fraction = _rounded(scaled, len(places)).partition(".")
    return _whole(pieces[:point], whole) + _after_point(pieces[point:], fraction)


def _whole(pieces: Sequence[Piece], digits: str) -> str:
    """Digits into their placeholders, from the right; the first placeholders take what is left."""
    runs = [at for at, (kind, _) in enumerate(pieces) if kind == "digits"]
    grouped = any("," in pieces[at][1] for at in runs)
    digits = "" if digits == "0" else digits
    parts = []
    for at in range(len(pieces) - 1, -1, -1):
        kind, text = pieces[at]
        if kind != "digits":
            parts.append(_text([pieces[at]]))
            continue
        places = text.replace(",", "")
        taken = digits if at == runs[0] else digits[-len(places) :]
        digits = digits[: len(digits) - len(taken)]
        taken = taken.rjust(places.count("0"), "0")
        parts.append(f"{int(taken):,}" if grouped and taken and len(taken) > 3 else taken)
    return "".join(reversed(parts))


def _after_point(pieces: Sequence[Piece], fraction: str) -> str:
    parts = []
    for kind, text in pieces:
        if kind == "digits":
            taken, fraction = fraction[: len(text)], fraction[len(text) :]
            needed = len(text.rstrip("#?"))
            parts.append(taken[:needed] + taken[needed:].rstrip("0"))
        else:
            parts.append(_text([(kind, text)]))
    return "".join(parts if re.search(r"\d", "".join(parts)) else parts[1:])


def _scientific(amount: float, pieces: Sequence[Piece]) -> str:
    at = next(number for number, (kind, _) in enumerate(pieces) if kind == "exponent")
    point = next((number for number, piece in enumerate(pieces[:at]) if piece == ("other", ".")), at)
    decimals = sum(len(text) for kind, text in pieces[point:at] if kind == "digits")
    mantissa, _, exponent = f"{amount:.{decimals}E}".partition("E")
    width = len(pieces[at][1]) - 2
    sign = "-" if exponent.startswith("-") else "+" if "+" in pieces[at][1] else ""
    return f"{mantissa}E{sign}{exponent[1:].lstrip('0').rjust(width, '0')}"


def _fraction(amount: float, pieces: Sequence[Piece]) -> str:
    at = next(number for number, piece in enumerate(pieces) if piece == ("other", "/"))
    below = "".join(text for kind, text in pieces[at + 1 :] if kind in ("digits", "other")).strip()
    exact = Fraction(amount)
    if below.isdigit() and int(below):
        exact = Fraction(round(exact * int(below)), int(below))
    else:
        exact = exact.limit_denominator(10 ** max(1, len(below)) - 1)
    whole, rest = divmod(exact, 1) if sum(kind == "digits" for kind, _ in pieces[:at]) > 1 else (0, exact)
    parts = [str(whole)] if whole or not rest else []
    return " ".join([*parts, *([f"{rest.numerator}/{rest.denominator}"] if rest else [])])
