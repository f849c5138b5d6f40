"""Converted documents: one text with page offsets, and what could not be read of the file."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize

from app.errors import StudioError

Note = tuple[str, str]  # a sentence in zh and en about a file that was read; empty where there is nothing to say
NO_NOTE: Note = ("", "")
Markup = Literal["markdown", "plain", "code"]
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\xad\u200b\u2060\ufeff\ud800-\udfff]")  # soft hyphens, no widths
# Characters that PDF and Word files hold in place of others: ligatures, radicals that look like words, fixed hyphens.
FORMS = {code: normalize("NFKC", chr(code)) for span in ((0xFB00, 0xFB07), (0x2E80, 0x2FD6)) for code in range(*span)}
_RADICALS = (
    "⺠⺎⻁⻄⻅⻆⻉⻋⻓⻔⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻨⻩⻬⻮⻰⻳",
    "民兀虎西见角贝车长门青韦页风飞食马骨鬼鱼鸟麦黄齐齿龙龟",
)
FORMS |= {ord(radical): word for radical, word in zip(*_RADICALS, strict=True)}
FORMS |= {0x2010: "-", 0x2011: "-"}


class Unreadable(StudioError):
    """A file that cannot be indexed; the reason is kept in the file list."""

    zh = "{reason_zh}"
    en = "{reason_en}"


@dataclass(frozen=True)
class Text:
    """A converted file. `page_starts` are character offsets into `content`; empty where there are no pages."""

    content: str
    markup: Markup = "plain"
    page_starts: tuple[int, ...] = ()
    note: Note = NO_NOTE

    def page_at(self, offset: int) -> int | None:
        """The page, counted from 1, that holds this character."""
        return bisect_right(self.page_starts, offset) if self.page_starts else None


def clean(content: str) -> str:
    """Line ends as one character, letters as they are typed, nothing that a search or a database would stumble over."""
    plain = UNPRINTABLE.sub("", content.replace("\r\n", "\n").replace("\r", "\n"))
    return normalize("NFC", plain if plain.isascii() else plain.translate(FORMS))
