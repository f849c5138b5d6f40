"""How common the characters of a Chinese, Japanese or Korean text are (chardet's tables), which tells its encoding."""

import math
import re
from functools import cache

PUNCTUATION = re.compile("[\u3000-\u3029\uff01-\uff5e“”‘’…—·]")
UNLIKELY, RARE, NEUTRAL = -10.0, -7.5, -5.5  # logarithms of shares
SPREAD = 20  # ranks that hardly differ in how common they are
RUN = 4000  # characters that are looked at


def commonness(text: str) -> float:
    """The mean logarithm of its characters' shares, in the language that fits best; ASCII says nothing."""
    foreign = [each for each in text if each > "\x7f"][:RUN]
    if not foreign:
        return UNLIKELY
    return max(sum(_share(each, encoding) for each in foreign) for encoding in _tables()) / len(foreign)


@cache
def _share(character: str, encoding: str) -> float:
    if PUNCTUATION.match(character):
        return NEUTRAL
    if encoding == "euc_jp" and "\uff66" <= character <= "\uff9f":  # narrow kana
        return RARE
    try:
        code = character.encode(encoding)
    except UnicodeEncodeError:
        return UNLIKELY
    first_row, width, table = _tables()[encoding]
    if len(code) != 2:
        return UNLIKELY
    second = code[1] - 0xA1 if encoding != "big5" else code[1] - (0x40 if code[1] < 0x7F else 0xA1 - 63)
    place = width * (code[0] - first_row) + second
    if not 0 <= place < len(table):
        return UNLIKELY
    return -math.log(table[place] + SPREAD)


@cache
def _tables() -> dict[str, tuple[int, int, tuple[int, ...]]]:
    """Of each encoding: the first row of its table, how many characters a row has, the rank of each character."""
    from chardet.big5freq import BIG5_CHAR_TO_FREQ_ORDER
    from chardet.euckrfreq import EUCKR_CHAR_TO_FREQ_ORDER
    from chardet.gb2312freq import GB2312_CHAR_TO_FREQ_ORDER
    from chardet.jisfreq import JIS_CHAR_TO_FREQ_ORDER

    return {
        "gb2312": (0xB0, 94, GB2312_CHAR_TO_FREQ_ORDER),
        "big5": (0xA4, 157, BIG5_CHAR_TO_FREQ_ORDER),
        "euc_jp": (0xA1, 94, JIS_CHAR_TO_FREQ_ORDER),
        "euc_kr": (0xB0, 94, EUCKR_CHAR_TO_FREQ_ORDER),
    }
