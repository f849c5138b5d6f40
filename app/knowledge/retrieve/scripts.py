"""Scripts by how they part words (Unicode properties): by spaces, as most do, or not at all, as Han, kana and Thai."""

import unicodedata
from string import ascii_letters, digits

import regex

WIDE = {0xFEE0 + ord(each): each for each in ascii_letters + digits + "."}  # full-width １２ and ＡＢ
PLAIN = WIDE | {ord("٫"): ".", ord("٬"): ","}  # the separators of Arabic numbers, too
RUNNING = (  # written without spaces, besides Han
    r"\p{Hiragana}\p{Katakana}ーｰ\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Tham}\p{New_Tai_Lue}"
)
LETTER = rf"[\p{{L}}--[\p{{Han}}{RUNNING}ªº]]"  # º is what stands for ° as well
WITHIN = r"[\p{M}\u00ad\u200c\u200d]"  # vowel signs and accents; hyphens and joiners that are not seen
HYPHENS = "-‐‑"  # the last one does not break; in a set of characters they stand first
ONE_HYPHEN = dict.fromkeys(map(ord, HYPHENS), "-")
HAN = regex.compile(r"\p{Han}")
HANGUL = regex.compile(r"\p{Hangul}")
KANA_OR_THAI = regex.compile(rf"(?![ーｰ\p{{Katakana}}])[{RUNNING}]")  # katakana stand in Chinese texts, too
UNSPACED = regex.compile(rf"[\p{{Han}}{RUNNING}]")
UNSPACED_RUN = regex.compile(rf"[\p{{Han}}{RUNNING}][\p{{Han}}{RUNNING}\p{{M}}]*")
SYLLABLE = regex.compile(rf"[{RUNNING}]\p{{M}}*")
SPACED_WORD = regex.compile(rf"(?:{LETTER}{WITHIN}*)+", regex.V1)
ENDING = regex.compile(rf"(?:{LETTER}{WITHIN}*)*", regex.V1)
PUNCTUATION = regex.compile(r"[^\p{L}\p{M}\p{N}\p{Sc}\p{Sm}\p{So}%‰]+|[−|~]")  # $5 is not €5, ℃ not ℉
NEITHER_LATIN_NOR_HAN = regex.compile(
    r"[\p{L}--[A-Za-zＡ-Ｚａ-ｚ\u3400-\u9fffªº]]|[\p{Nd}--[0-9０-９]]|[\p{M}--[\ufe00-\ufe0f]]|[\u00ad‐‑]", regex.V1
)
FOREIGN_DIGIT = regex.compile(r"[^\P{Nd}0-9]")
# What readers of the script leave out or do not see: vowel points of Hebrew and Arabic, the long stroke, joiners.
SILENT = regex.compile(
    r"[\u00ad\u200c\u200d\u0640\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\ufe00-\ufe0f\u20e3]"
)


def is_unspaced(word: str) -> bool:
    """Whether a word is of a script that puts no spaces between words; where it begins is then a guess."""
    return not word.isascii() and UNSPACED.match(word) is not None


def ascii_digits(text: str) -> str:
    """The text with `５` and `٥` as `5`, and full-width letters as plain ones, at the same places."""
    if text.isascii():
        return text
    text = text.translate(PLAIN)
    return FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def folded(word: str) -> str:
    """A word as it is compared: without case, compatibility forms, and what is not seen."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKC", SILENT.sub("", word)).casefold()
    plain = unicodedata.normalize("NFKC", plain.replace("i\u0307", "i"))  # of Turkish İ
    return plain.translate(ONE_HYPHEN)


def letters_only(text: str) -> str:
    """The text without punctuation and blanks, to tell whether two are the same."""
    return PUNCTUATION.sub("", text).lower()
