"""Guess a text's legacy encoding: Chinese, Japanese, Korean by how common its characters are, others by chardet."""

import codecs
import re
from collections.abc import Iterator
from itertools import pairwise

from app.knowledge.ingest.common_characters import commonness

DOUBLE_BYTE = ("gb18030", "big5", "cp932", "euc_jp", "cp949", "johab", "utf-16-le", "utf-16-be")
COMMON = -7.3  # commonness above which characters are taken for a text
CERTAIN = 0.7  # by which it has to exceed the next guess, or this is said; twice that where the text is short
SHORT = 8  # foreign characters
SAMPLE = 1 << 16  # bytes that are looked at
MODELLED = 1 << 11  # bytes that chardet's models read, a second's work
CAPITALS_READ = 256  # bytes of text in capitals that are tried in small letters
LOWERED = 0.85  # how far a guess by letters made small is trusted
SURE = 0.3  # chardet's confidence below which a guess is no answer
NEAR = 0.06  # confidences that hardly differ
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "iso-8859-1": "cp1252", "euc-kr": "cp949"}
WIDER |= {"iso8859-1": "cp1252", "euc_kr": "cp949"}
OLD = """
cp437 cp737 cp775 cp850 cp852 cp855 cp857 cp860 cp862 cp865 cp866 cp874 cp1125 koi8-r koi8-u mac-roman mac-latin2
mac-cyrillic mac-greek mac-turkish iso8859-2 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-13 iso8859-15
"""
SINGLE_BYTE = frozenset([*OLD.split(), *(f"cp{number}" for number in range(1250, 1259))])
CAPITALS = ("cp1251", "koi8-r", "cp866", "iso8859-5", "cp1253", "iso8859-7", "cp737")  # with scripts that are cased
KANA = re.compile("[\u3041-\u30fe]")
KINDS = ("cp125", "cp874", "iso", "koi", "cp", "mac")  # in doubt the earlier
CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
SIGNS = frozenset("¡¢£¤¥¦§¨©ª¬®¯°±²³´µ¶¸¹º¼½¾¿×÷")  # never right behind a small letter
INSIDE = re.compile(r"[^\W\d_][†‡•‰›‹„‚…»¨˘˛¤£¢”¹²³\u2500-\u259f]{1,2}[^\W\d_]")  # within no word
BEFORE = re.compile(
    r"(?<!\w)[©¶¹¥¦¬®¯¸¼½¾ªº»¨˘˛¤›•†‡’—£¢\u2500-\u259f][^\W\d_A-Z]|(?<!\w)[‘‚][а-яё]|[^\W\d_][\u2500-\u259f]"
)  # before no word
GLUED = re.compile(r"(?<=[A-Za-z])[^\x00-\x7f]|[^\x00-\x7f](?=[A-Za-z])")


def known(name: str) -> str:
    """The codec of this name if it is one for text, in its widest form."""
    try:
        "".encode(name)  # a LookupError for codecs that are not for text, too
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return ""
    return WIDER.get(codec.name, codec.name)


def guessed(sample: bytes) -> tuple[str, str]:
    """The encoding and, where another one is nearly as likely, that one. Two empty names where nothing fits."""
    double = sorted(_double_byte(sample[:SAMPLE]), reverse=True)
    is_double = bool(double) and double[0][0] > COMMON
    if is_double and not _is_within_words(sample[:SAMPLE], double[0][1]):
        return _first(sample, double, CERTAIN)
    sample = sample[:MODELLED]
    single = sorted(_single_byte(sample), key=lambda each: (-each[0], _kind(each[1])))
    if is_double and not single:
        return _first(sample, double, CERTAIN)
    near = [each for each in single if each[0] > single[0][0] - NEAR]
    near.sort(key=lambda each: (_broken(sample, each[1]), _kind(each[1])))
    rest = [each for each in single if each not in near]
    return _first(sample, [*near, *rest], NEAR / 2) if single else ("", "")


def _kind(encoding: str) -> int:
    return next((at for at, start in enumerate(KINDS) if encoding.startswith(start)), len(KINDS))


def _first(sample: bytes, rated: list[tuple[float, str]], margin: float) -> tuple[str, str]:
    """The first encoding, and a later one that gives another text and is rated nearly as high."""
    best, encoding = rated[0]
    text = sample.decode(encoding, errors="replace")
    margin *= 2 if sum(each > "\x7f" for each in text) < SHORT else 1
    near = [other for rating, other in rated[1:] if rating > best - margin and _kind(other) <= _kind(encoding)]
    whole = [other for other in near if _broken(sample, other) <= _broken(sample, encoding)]
    return encoding, next((other for other in whole if sample.decode(other, errors="replace") != text), "")


def _double_byte(sample: bytes) -> Iterator[tuple[float, str]]:
    for encoding in DOUBLE_BYTE:
        try:
            text = _decoded(sample, encoding)
        except UnicodeDecodeError:
            continue
        if not CONTROLS.search(text):
            foreign = KANA.search(text) and encoding in ("gb18030", "big5", "cp949", "johab")  # they hold kana, too
            yield commonness(text) - (2 if foreign else 0), encoding


def _decoded(sample: bytes, encoding: str) -> str:
    """A long sample may end within a character."""
    return codecs.getincrementaldecoder(encoding)().decode(sample, final=len(sample) < SAMPLE)


def _is_within_words(sample: bytes, encoding: str) -> bool:
    """Whether most of its foreign characters stand beside Latin letters, as accented ones do and no others."""
    text = _decoded(sample, encoding)
    return 2 * len(GLUED.findall(text)) > len(re.findall(r"[^\x00-\x7f]+", text))


def _single_byte(sample: bytes) -> Iterator[tuple[float, str]]:
    """By chardet's models of languages, of all times: DOS and old Macs, too."""
    best = _confidences(sample)
    for encoding in CAPITALS:
        text = sample[:CAPITALS_READ].decode(encoding, errors="replace")
        if any(
            word.isupper() and len(word) > 3 for word in re.findall(r"[^\W\d_A-Za-z]+", text)
        ):  # models know small letters
            small = _confidences(text.lower().encode(encoding, errors="ignore")).get(encoding, 0.0)
            best[encoding] = max(best.get(encoding, 0.0), LOWERED * small)
    foreign = max(1, sum(byte > 0x7F for byte in sample))
    for encoding, confidence in best.items():
        rating = confidence * (1 - min(1.0, _broken(sample, encoding) / foreign))
        if rating >= SURE and _reads(sample, encoding):
            yield rating, encoding


def _confidences(sample: bytes) -> dict[str, float]:
    import chardet

    best: dict[str, float] = {}
    for guess in chardet.detect_all(sample, ignore_threshold=True, encoding_era=chardet.EncodingEra.ALL):
        encoding = known(str(guess["encoding"] or ""))
        if encoding in SINGLE_BYTE:
            best[encoding] = max(best.get(encoding, 0.0), float(guess["confidence"] or 0.0))
    return best


def _reads(sample: bytes, encoding: str) -> bool:
    try:
        return not CONTROLS.search(sample.decode(encoding))
    except UnicodeDecodeError:
        return False


def _broken(sample: bytes, encoding: str) -> int:
    """How many words have signs or capitals in them that belong in none."""
    text = sample.decode(encoding, errors="replace")
    odd = sum(one.islower() and (two.isupper() or two in SIGNS) for one, two in pairwise(text))
    odd += len(INSIDE.findall(text)) + (len(BEFORE.findall(text)) if "«" not in text else 0)
    return odd + 3 * (len(CONTROLS.findall(text)) + text.count("\ufffd"))
