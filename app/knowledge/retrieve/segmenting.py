"""Word segmentation (jieba) of mixed Chinese and English text, for keyword search and citation checks."""

import re
from collections.abc import Iterator
from functools import cache
from string import ascii_letters, digits
from typing import Any

MOST_QUERY_WORDS = 200  # more would make the keyword search slow and no better
WORD = re.compile(r"[A-Za-z0-9]+(?:[._+#-][A-Za-z0-9]+)*|[\u3400-\u9fff]+")
WIDE = {0xFEE0 + ord(each): each for each in ascii_letters + digits + "."}  # full-width １２ and ＡＢ
FLAT = WIDE | str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", 2 * digits)  # who asks for CO2 finds CO₂
HAN, LATIN_WORD = re.compile("[\u3400-\u9fff]"), re.compile("[A-Za-z]+")
CHINESE_STOP_WORDS = """
的 了 是 在 和 与 或 也 都 就 而 及 被 把 对 等 中 上 下 里 之 其 这 那 有 我 你 他 它 们
吗 呢 吧 啊 么 什么 怎么 如何 为什么 哪些 哪个
哪 一个 一下 可以 能 会 要 用 让 使 到 从 为 以 于 多少 多 几 请问 该 应该 需要 时候 时 还 又 很 更 最 不 没 没有
个 种 些 怎样 是否 能否 我们
你们 自己
"""
ENGLISH_STOP_WORDS = """
the a an of to in on at for and or is are be was were do does did how what why which when where who it its
this that these those with as by from can could should would will i you my your me we our if there than then
not no so have has had get much many into about
"""
STOP_WORDS = frozenset((CHINESE_STOP_WORDS + ENGLISH_STOP_WORDS).split())


@cache
def _segmenter() -> Any:
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    segmenter = jieba.Tokenizer()
    segmenter.initialize()
    return segmenter


def words(text: str) -> Iterator[tuple[str, int, int]]:
    """Each word in lower case with its span; a long Chinese word also yields the shorter ones inside it."""
    for run in WORD.finditer(text.translate(FLAT)):
        if run.group()[0].isascii():
            yield run.group().lower(), run.start(), run.end()
        else:
            for word, start, end in _segmenter().tokenize(run.group(), mode="search"):
                yield word, run.start() + start, run.start() + end


def is_mostly_chinese(text: str) -> bool:
    """Whether a passage is Chinese; foreign names and code in it do not make it another language's."""
    han, letters = len(HAN.findall(text)), len(LATIN_WORD.findall(text))
    return han > letters


def content_words(text: str) -> list[tuple[str, int, int]]:
    """The words that carry meaning: no particles, no question words."""
    return [(word, start, end) for word, start, end in words(text) if word not in STOP_WORDS]


def segmented(text: str) -> str:
    """What the keyword index stores: words with spaces between, parts of compounds beside the whole."""
    found: list[str] = []
    for word, _, _ in words(text):
        found.append(word)
        if word.isascii() and not word.isalnum():
            found += [part for part in re.split(r"[._+#-]", word) if part]
    return " ".join(found)


def query_words(text: str) -> list[str]:
    """What the keyword index is asked for, each word once."""
    return list(dict.fromkeys(word for word, _, _ in content_words(text)))[:MOST_QUERY_WORDS]
