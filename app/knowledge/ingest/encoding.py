"""Text encoding detection: UTF-8, UTF-16 without a mark, Chinese, Japanese, Korean and the 8-bit code pages."""

import codecs
import re
from itertools import pairwise
from pathlib import PurePosixPath

from app.knowledge.ingest.documents import NO_NOTE, Note, Unreadable, clean

MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # after UTF-32, whose marks begin like these
DECLARED = re.compile(rb"(?:charset|encoding|coding)\s*[=:]\s*[\"']?([A-Za-z0-9_.:-]{3,20})", re.IGNORECASE)
SAMPLE = 1 << 16  # bytes of lines that are not plain ASCII, which a detector reads
DAMAGED = 0.01  # share of broken characters up to which a text still counts as UTF-8
SURE = 0.3  # confidence below which a guess is no answer
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "iso-8859-1": "cp1252", "euc-kr": "cp949"}
CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
HAN = re.compile("[\u4e00-\u9fff\u3000-\u30ff\uff00-\uffef]")
SIBLINGS: tuple[tuple[str, ...], ...] = (
    ("cp1252", "mac-roman", "cp850"),  # Windows, old Macs, DOS
    *(("cp1250", "iso8859-2", "mac-roman"), ("cp1253", "iso8859-7"), ("cp1254", "iso8859-9"), ("cp1257", "iso8859-13")),
)
SIGNS = frozenset("¡¢£¤¥¦§¨©ª¬®¯°±²³´µ¶¸¹º¼½¾¿×÷")  # never right behind a small letter
INSIDE = re.compile(r"[^\W\d_][†‡•‰][^\W\d_]")  # within no word
WORDS = re.compile(r"[\w\s]")


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
    return _strictly(raw, _declared(raw) or _detected(raw)), NO_NOTE


def _named(name: str) -> str:
    inner = PurePosixPath(PurePosixPath(name.lower()).stem).suffix[1:]
    return _known(inner) if len(inner) > 2 else ""


def _known(name: str) -> str:
    """The codec of this name if it is one for text, in its widest form."""
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return ""
    return WIDER.get(codec.name, codec.name) if codec._is_text_encoding else ""


def _declared(raw: bytes) -> str:
    """What a web page, an XML file or source code says about itself, where its bytes agree."""
    said = DECLARED.search(raw[:1024])
    encoding = _known(said[1].decode("ascii")) if said else ""
    try:
        return encoding if encoding and not CONTROLS.search(raw.decode(encoding)) else ""
    except UnicodeDecodeError:
        return ""


def _detected(raw: bytes) -> str:
    import chardet

    lines = [line for line in raw.splitlines(keepends=True) if not line.isascii()]
    sample = b"".join(lines)[:SAMPLE]
    guess = chardet.detect(sample)
    encoding = _known(str(guess["encoding"] or ""))
    if encoding and encoding not in ("ascii", "utf-8") and (guess["confidence"] or 0.0) >= SURE:
        return _of_siblings(sample, encoding)
    return _short_chinese(sample)


def _of_siblings(sample: bytes, encoding: str) -> str:
    """Of the code pages for the same languages the one under which fewer words have signs or capitals in them."""
    others = next((known for known in SIBLINGS if encoding in known), ())

    def broken(name: str) -> int:
        text = sample.decode(name, errors="replace")
        odd = sum(one.islower() and (two.isupper() or two in SIGNS) for one, two in pairwise(text))
        odd += len(INSIDE.findall(text))
        return odd + 3 * (len(CONTROLS.findall(text)) + text.count("\ufffd"))

    return min((encoding, *others), key=broken)


def _short_chinese(sample: bytes) -> str:
    """A few words of Chinese, too little for a detector: GBK or Big5, where all characters are of the common half."""
    for encoding, first, last in (("gb18030", 0xB0A1, 0xD7FE), ("big5", 0xA440, 0xC67E)):
        try:
            characters = [each for each in sample.decode(encoding) if HAN.match(each)]
        except UnicodeDecodeError:
            continue
        codes = [int.from_bytes(each.encode(encoding)) for each in characters if "\u4e00" <= each <= "\u9fff"]
        if codes and all(first <= code <= last for code in codes):
            return encoding
    raise _unknown()


def _wide(raw: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, or no text at all."""
    orders = ("le", "be") if raw[1::2].count(0) >= raw[::2].count(0) else ("be", "le")  # ASCII's zero bytes tell
    for encoding in (f"utf-{bits}-{order}" for bits in (32, 16) for order in orders):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        plausible = sum(bool(WORDS.match(each)) and (each < "\u0500" or bool(HAN.match(each))) for each in text)
        anchors = sum(each.isascii() or bool(HAN.match(each)) for each in text)  # spaces at least; noise has none
        if text and not CONTROLS.search(text) and plausible > 0.7 * len(text) and anchors > 0.03 * len(text):
            return clean(text)
    raise Unreadable(reason_zh="这不是文本文件。", reason_en="This is not a text file.")


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
