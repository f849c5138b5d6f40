"""Text encodings: UTF-8, UTF-16 without a mark, what a file says of itself, else guessed; a doubtful guess is told."""

import codecs
import re
from pathlib import PurePosixPath

from app.knowledge.ingest.common_characters import commonness
from app.knowledge.ingest.documents import NO_NOTE, Note, Unreadable, clean
from app.knowledge.ingest.encoding_guess import COMMON, CONTROLS, SAMPLE, guessed, known

MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # after UTF-32, whose marks begin like these
DECLARED = re.compile(rb"(?:charset|encoding|coding)\s*[=:]\s*[\"']?([A-Za-z0-9_.:-]{3,20})", re.IGNORECASE)
DAMAGED = 0.01  # share of broken characters up to which a text still counts as UTF-8
HZ = re.compile(rb"~\{(?:[!-w][!-~])+~\}")
# Letters of one alphabet stand in one stretch of Unicode: Greek, Cyrillic, Armenian, Hebrew, Arabic, Indian, Thai …
ALPHABETS = [
    re.compile(f"[{stretch}]")
    for stretch in ["Ͱ-Ͽ", "Ѐ-ԯ", "\u0530-֏", "\u0590-\u05ff", "\u0600-ۿ", "ऀ-ॿ", "\u0e00-\u0e7f", "Ⴀ-ჿ"]
]
CONTROL_BYTES = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
LATIN = re.compile("[\t\n\r -~\u00a0-\u024f\u0300-\u036f\u1e00-\u1eff\u2010-\u203a\u20ac]+")


def decode(raw: bytes, name: str = "") -> tuple[str, Note]:
    """The text of a file and what is to be said about it. Raises Unreadable rather than guess wrong.

    `name` may say the encoding before its ending: `notes.cp1251.txt`.
    """
    named = _named(name)
    if named:
        return _strictly(raw, named), NO_NOTE
    for mark, encoding in MARKS.items():
        if raw.startswith(mark):
            return _strictly(raw, encoding), NO_NOTE
    if b"\x00" in raw:
        return _wide(raw), NO_NOTE
    if b"\x1b$" in raw:  # ISO-2022: 7-bit text that switches its alphabet
        return _strictly(raw, "iso2022_kr" if b"\x1b$)C" in raw else "iso2022_jp_2"), NO_NOTE
    if HZ.search(raw) and raw.isascii() and commonness(_replaced(raw, "hz")) > COMMON:
        return _strictly(raw, "hz"), NO_NOTE
    if CONTROL_BYTES.search(raw) and (text := _wide_text(raw)):
        return text, NO_NOTE
    try:
        return clean(raw.decode("utf-8")), NO_NOTE
    except UnicodeDecodeError:
        pass
    damaged = raw.decode("utf-8", errors="replace")
    broken = damaged.count("\ufffd")
    foreign = sum(character > "\x7f" for character in damaged)
    if foreign > 10 and broken <= max(1, DAMAGED * foreign):
        told = f"有 {broken} 处字节不是 UTF-8，已替换。", f"{broken} places are not UTF-8 and were replaced."
        return clean(damaged), told
    declared = _declared(raw)
    return (_strictly(raw, declared), NO_NOTE) if declared else _by_guess(raw)


def _named(name: str) -> str:
    inner = PurePosixPath(PurePosixPath(name.lower()).stem).suffix[1:]
    return known(inner) if len(inner) > 2 else ""


def _declared(raw: bytes) -> str:
    """What a web page, an XML file or source code says about itself, where its bytes agree."""
    said = DECLARED.search(raw[:1024])
    encoding = known(said[1].decode("ascii")) if said else ""
    try:
        return encoding if encoding and not CONTROLS.search(raw.decode(encoding)) else ""
    except UnicodeDecodeError:
        return ""


def _by_guess(raw: bytes) -> tuple[str, Note]:
    lines = [line for line in raw.splitlines(keepends=True) if not line.isascii()]
    encoding, other = guessed(b"".join(lines)[:SAMPLE])
    if encoding.startswith("utf-16") or not encoding:  # whose lines end by two bytes
        encoding, other = guessed(raw[:SAMPLE])
    if not encoding:
        raise _unknown()
    return _strictly(raw, encoding), _doubt(encoding, other) if other else NO_NOTE


def _doubt(encoding: str, other: str) -> Note:
    return (
        f"文字编码不确定：按 {encoding} 读取，也可能是 {other}。"
        f"如有乱码，请在文件名里写明编码，例如 notes.{other}.txt。",
        f"The text encoding is not certain: read as {encoding}, it may be {other}. If letters are wrong, name it in the"
        f" file name: notes.{other}.txt.",
    )


def _replaced(raw: bytes, encoding: str) -> str:
    return raw.decode(encoding, errors="replace")


def _wide(raw: bytes) -> str:
    """UTF-16 or UTF-32 without a mark. Raises Unreadable where it is no text at all."""
    text = _wide_text(raw)
    if not text:
        raise Unreadable(reason_zh="这不是文本文件。", reason_en="This is not a text file.")
    return text


def _wide_text(raw: bytes) -> str:
    """The text where it is UTF-16 or UTF-32 without a mark, else none."""
    orders = ("le", "be") if raw[1::2].count(0) >= raw[::2].count(0) else ("be", "le")  # ASCII's zero bytes tell
    for encoding in (f"utf-{bits}-{order}" for bits in (32, 16) for order in orders):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text and not CONTROLS.search(text) and _is_plausible(text):
            return clean(text)
    return ""


def _is_plausible(text: str) -> bool:
    """Whether its characters are Latin, of one other alphabet, or common ones of Chinese, Japanese or Korean."""
    latin = sum(map(len, LATIN.findall(text)))
    letters = max(len(alphabet.findall(text)) for alphabet in ALPHABETS)
    told = letters > 0.3 * len(text) or sum(map(str.isascii, text)) > 0.2 * len(text)  # noise has neither
    if told and latin + letters > 0.9 * len(text):
        return True
    return commonness(text) > COMMON - 0.5


def _strictly(raw: bytes, encoding: str) -> str:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        raise _unknown() from None
    if "\x00" in text:
        raise Unreadable(reason_zh="这不是文本文件。", reason_en="This is not a text file.")
    return clean(text)


def _unknown() -> Unreadable:
    return Unreadable(
        reason_zh="无法确定文字编码。请另存为 UTF-8，或在文件名里写明编码，例如 notes.cp1251.txt。",
        reason_en="The text encoding is not certain. Save it as UTF-8, or name it in the file name: notes.cp1251.txt.",
    )
