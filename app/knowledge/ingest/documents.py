"""Converted documents: one text with page offsets; decoding and cleaning of raw text."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from charset_normalizer import from_bytes

from app.errors import StudioError

Markup = Literal["markdown", "plain", "code"]
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\ud800-\udfff]")


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

    def page_at(self, offset: int) -> int | None:
        """The page, counted from 1, that holds this character."""
        return bisect_right(self.page_starts, offset) if self.page_starts else None


def clean(content: str) -> str:
    """Line ends as one character, nothing that an embedder or a database would stumble over."""
    return UNPRINTABLE.sub("", content.replace("\r\n", "\n").replace("\r", "\n")).removeprefix("\ufeff")


def decode(raw: bytes) -> str:
    """Bytes of a text file in UTF-8, UTF-16 with its mark, GBK, or whatever looks most like a language."""
    if b"\x00" in raw[:4096] and raw[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise Unreadable(reason_zh="这不是文本文件。", reason_en="This is not a text file.")
    encodings = ["utf-16"] if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8", "gb18030"]
    for encoding in encodings:
        try:
            return clean(raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    best = from_bytes(raw[:1_000_000]).best()
    if best is None:
        raise Unreadable(
            reason_zh="无法识别文字编码，请另存为 UTF-8。", reason_en="Unknown text encoding; save it as UTF-8."
        )
    return clean(raw.decode(best.encoding, errors="replace"))
