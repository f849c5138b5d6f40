"""Checking an answer's citations: the words of a cited sentence must stand in the passage it names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.knowledge.retrieve.segmenting import content_words

MARK = re.compile(r"\[(\d{1,2})\]|【(\d{1,2})】")
SENTENCE = re.compile(r"[^。！？!?\n]*?(?:\.(?=\s|$|\[)|[。！？!?\n]|$)(?:\s*(?:\[\d{1,2}\]|【\d{1,2}】))*")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SUPPORTED = 0.5  # share of a sentence's words that must stand in the passage
FOUND = 0.7  # share above which a sentence without a mark is given one


@dataclass(frozen=True)
class Citation:
    """One mark in an answer: `answer[start:end]` is the sentence, `spans` its words within passage `number`."""

    number: int
    start: int
    end: int
    supported: bool
    spans: tuple[tuple[int, int], ...] = ()


def sentences(answer: str) -> list[tuple[int, int]]:
    """Spans of the sentences, each with the marks that follow it."""
    found = []
    for match in SENTENCE.finditer(answer):
        if match.group().strip():
            found.append((match.start(), match.end()))
    return found


def check(answer: str, passages: Sequence[str]) -> list[Citation]:
    """A verdict on every mark of the answer; passages are numbered from 1."""
    citations = []
    for start, end in sentences(answer):
        sentence = answer[start:end]
        claim = MARK.sub(" ", sentence)
        for mark in dict.fromkeys(MARK.findall(sentence)):
            number = int(mark[0] or mark[1])
            if not 1 <= number <= len(passages):
                citations.append(Citation(number, start, end, supported=False))
                continue
            share, spans = support(claim, passages[number - 1])
            citations.append(Citation(number, start, end, share >= SUPPORTED, spans))
    return citations


def attribute(answer: str, passages: Sequence[str]) -> list[Citation]:
    """For an answer without any mark: where each sentence plainly stands in a passage, as if it had cited it."""
    if MARK.search(answer):
        return []
    citations = []
    for start, end in sentences(answer):
        rated = [(*support(answer[start:end], passage), number) for number, passage in enumerate(passages, 1)]
        if not rated or len(content_words(answer[start:end])) < 3:
            continue
        share, spans, number = max(rated, key=lambda one: (one[0], -one[2]))
        if share >= FOUND:
            citations.append(Citation(number, start, end, True, spans))
    return citations


def support(claim: str, passage: str) -> tuple[float, tuple[tuple[int, int], ...]]:
    """The share of the claim's words that stand in the passage, and where; 0 if one of its numbers is missing."""
    wanted = {_root(word) for word, _, _ in content_words(claim)}
    present = [(_root(word), start, end) for word, start, end in content_words(passage)]
    spans = _merged([(start, end) for word, start, end in present if word in wanted])
    if not wanted or set(NUMBER.findall(claim)) - set(NUMBER.findall(passage)):
        return 0.0, spans
    return len(wanted & {word for word, _, _ in present}) / len(wanted), spans


def _root(word: str) -> str:
    """English plurals and verb endings count as the same word."""
    if word.isascii() and word.isalpha() and len(word) > 4:
        for ending in ("ing", "ed", "es", "s"):
            if word.endswith(ending):
                return word.removesuffix(ending)
    return word


def _merged(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def marked(answer: str, citations: Sequence[Citation], unsupported: str) -> str:
    """The answer with `unsupported` behind each mark that did not hold, and marks where `attribute` found a source."""
    result = answer
    for citation in sorted(citations, key=lambda one: -one.start):
        sentence = result[citation.start : citation.end]
        mark = re.compile(rf"\[{citation.number}\]|【{citation.number}】")
        if mark.search(sentence):
            note = f"[{citation.number}]" + ("" if citation.supported else unsupported)
            changed = mark.sub(note, sentence)
        else:
            body = sentence.rstrip()
            changed = f"{body}[{citation.number}]{sentence[len(body) :]}"
        result = result[: citation.start] + changed + result[citation.end :]
    return result
