"""Signs of numbers: minus, hyphen or dash? Ranges, dates and names are not negative; what may be either is unsure."""

import re
from dataclasses import dataclass

NEGATIVE, UNSURE, EITHER = "-", "?", "±"
DASHES = "-−–—‐‑﹣－"
MINUS = "−﹣－"  # signs that are nothing else
NEAR = 40  # characters before a number that tell its sign
DASH = re.compile(rf"([{DASHES}])([€$£¥₽₹₩]?\s?)$")
BOTH = re.compile(r"(?:±|\+/[-−]|正负|正負|\bplus(?: or |/)minus)\s*[€$£¥₽₹₩]?$", re.IGNORECASE)
PLUS = re.compile(r"(?:\+|\bplus|零上|영상)\s*[€$£¥₽₹₩]?$", re.IGNORECASE)
WORD = re.compile(
    r"(?:\b(?:minus|negative|moins|menos|meno|минус)\s|[负負]|零下|氷点下|マイナス|영하|마이너스)\s*(?:摄氏|華氏)?[€$£¥₽₹₩]?$",
    re.IGNORECASE,
)
BELOW = re.compile(
    r"\s*(?:below (?:zero|freezing)|unter null|ниже нуля|(?:au-dessous de|sous) zéro|bajo cero|sotto zero)\b", re.I
)
OPENS = set("([{<>=≤≥≈≃~〜～,;:|/*_\"'“‘«„（【《：，；、。！？·€$£¥₽₹₩" + DASHES)
ENDS_AMOUNT = re.compile(r"[\d%‰°℃℉)\]）】]$")
LETTER_BEFORE = re.compile(r"[^\W\d_\u2e80-\u9fff]$")
LEADS_ON = set("至到为是达于低在约和与从")
RANGE = re.compile(
    rf"\s?(?:[°º]\s?[CF]?|[℃℉度%]|degrees?)?\s*(?P<dash>[{DASHES}~〜～])?(?P<word>至|到|和|或|、|to|and|or|bis|до|и|à|a|y|e)?\s*$",
    re.I,
)


@dataclass(frozen=True)
class Sign:
    """What stands before a number or, `is_behind`, after it; `places` are those of words that say it."""

    mark: str = ""
    places: tuple[tuple[int, int], ...] = ()
    is_behind: bool = False
    is_plus: bool = False

    @property
    def is_bare(self) -> bool:
        """Whether nothing tells its sign."""
        return not self.mark and not self.is_plus


def sign_of(text: str, start: int, end: int, *, is_temperature: bool) -> Sign:
    """The sign of the number that begins at `start` and whose unit ends at `end`."""
    offset = max(0, start - NEAR)
    before = text[offset:start]
    behind = BELOW.match(text, end)
    if behind:
        bare = not DASH.search(before) and not WORD.search(before)
        return Sign(NEGATIVE if bare else UNSURE, (behind.span(),), is_behind=True)
    if either := BOTH.search(before):
        return Sign(EITHER, (_place(either, offset),))
    if plus := PLUS.search(before):
        return Sign(places=(_place(plus, offset),), is_plus=True)
    if word := WORD.search(before):
        taken_from = ENDS_AMOUNT.search(before[: word.start()].rstrip())
        return Sign(UNSURE if taken_from else NEGATIVE, (_place(word, offset),))
    dash = DASH.search(before)
    if dash is None:
        return Sign()
    return Sign(_of_dash(before[: dash.start()], dash[1], dash[2], is_temperature=is_temperature))


def goes_on(between: str, sign: Sign) -> bool:
    """Whether a sign may be meant for the next number too: «minus 18 to 20», «-18–20», but not «-5 to 10»."""
    found = RANGE.fullmatch(between)
    if found is None or sign.mark not in (NEGATIVE, UNSURE):
        return False
    return bool(found["dash"]) or (bool(found["word"]) and bool(sign.places))


def _of_dash(before: str, dash: str, gap: str, *, is_temperature: bool) -> str:
    """What a dash before a number says, by what stands before it."""
    if gap.endswith((" ", "\n")) and dash not in MINUS:
        return ""  # between words, or of a list
    told = before.rstrip()
    if before != told or not before:
        return UNSURE if dash == "—" or ENDS_AMOUNT.search(told) else NEGATIVE
    if before[-1] in OPENS:
        return NEGATIVE
    if ENDS_AMOUNT.search(before):
        return UNSURE if gap else ""  # a range or a date; 10 − 5
    if LETTER_BEFORE.search(before):
        return UNSURE if dash in MINUS else ""
    return NEGATIVE if dash in MINUS or is_temperature or before[-1] in LEADS_ON else UNSURE


def _place(found: re.Match[str], offset: int) -> tuple[int, int]:
    return found.start() + offset, found.end() + offset
