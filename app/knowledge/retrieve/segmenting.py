"""Word segmentation of every script for keyword search and citation checks: by spaces, by jieba (Chinese), in pairs."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from string import digits
from typing import Any

import regex

from app.knowledge.retrieve.scripts import (
    HAN,
    HANGUL,
    HYPHENS,
    LETTER,
    NEITHER_LATIN_NOR_HAN,
    SPACED_WORD,
    SYLLABLE,
    WITHIN,
    ascii_digits,
    folded,
)

MOST_QUERY_WORDS = 200  # more would make the keyword search slow and no better
PLAIN_WORD = re.compile(r"[A-Za-z0-9]+(?:[._+#-][A-Za-z0-9]+)*")
PART = rf"(?:(?:[A-Za-z0-9]++|[{LETTER}\p{{Nl}}]){WITHIN}*+)++"
WORD = regex.compile(
    rf"{PART}(?:[{HYPHENS}._+#]{PART})*|(?P<han>\p{{Han}}+)|(?P<run>(?:{SYLLABLE.pattern})+)", regex.V1
)
JOINTS = regex.compile(rf"[{HYPHENS}._+#]")
FLAT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", 2 * digits)  # who asks for CO2 finds CO₂
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
    """Each word in lower case with its span; a long Chinese word also yields the shorter ones inside it.

    Of scripts without spaces other than Chinese, for which there is no dictionary, every two syllables are a word.
    """
    if text.isascii():  # three times as fast
        yield from ((run.group().lower(), *run.span()) for run in PLAIN_WORD.finditer(text))
        return
    for run in WORD.finditer(ascii_digits(text).translate(FLAT)):
        if run["han"]:
            for word, start, end in _segmenter().tokenize(run.group(), mode="search"):
                yield word, run.start() + start, run.start() + end
        elif run["run"]:
            yield from _pairs(run.group(), run.start())
        else:
            yield folded(run.group()), run.start(), run.end()


def _pairs(run: str, at: int) -> Iterator[tuple[str, int, int]]:
    syllables = [(each.start(), each.end()) for each in SYLLABLE.finditer(run)]
    for (start, _), (_, end) in pairwise(syllables) if len(syllables) > 1 else [(syllables[0], syllables[0])]:
        yield folded(run[start:end]), at + start, at + end


def is_mostly_chinese(text: str) -> bool:
    """Whether a passage is Chinese; foreign names and code in it do not make it another language's."""
    if text.isascii():
        return False
    han, letters = len(HAN.findall(text)), len(SPACED_WORD.findall(text))
    return han > letters


def content_words(text: str) -> list[tuple[str, int, int]]:
    """The words that carry meaning: no particles, no question words."""
    return [(word, start, end) for word, start, end in words(text) if word not in STOP_WORDS]


def segmented(text: str) -> str:
    """What the keyword index stores: words with spaces between, parts of compounds beside the whole."""
    found: list[str] = []
    for word, _, _ in words(text):
        found += [word, *_parts(word)]
    return " ".join(found)


def segmented_anew(heading: str, content: str) -> tuple[str, str] | None:
    """What the index of an older version lacks: it knew words of plain Latin letters and Chinese only."""
    if NEITHER_LATIN_NOR_HAN.search(heading + content):
        return segmented(heading), segmented(content)
    return None


def _parts(word: str) -> list[str]:
    """What else a word is found by: the parts of a compound; of Korean, whose particles are written on, the pairs."""
    parts = [part for part in JOINTS.split(word) if part] if JOINTS.search(word) else []
    if len(word) > 2 and HANGUL.match(word):
        parts += [one + other for one, other in pairwise(word)]
    return parts


def query_words(text: str) -> list[str]:
    """What the keyword index is asked for, each word once."""
    found: list[str] = []
    for word, _, _ in content_words(text):
        found += [word, *(_parts(word) if HANGUL.match(word) else [])]
    return list(dict.fromkeys(found))[:MOST_QUERY_WORDS]
