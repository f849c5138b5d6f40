"""Check an answer against its sources: every sentence is supported, not found, or an echo of the question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.knowledge.answer.entailment import states
from app.knowledge.answer.fragments import SAYS_NOTHING, is_bare, says_of_asked
from app.knowledge.answer.polarity import NEGATION
from app.knowledge.answer.source_sentences import BULLET, CITATION, FULL_STOPS, SourceSentence, sentence_spans
from app.knowledge.answer.tokens import numbers, root, roots, tokens
from app.knowledge.answer.topics import same_topic
from app.knowledge.retrieve.segmenting import content_words

Judgement = Literal["supported", "not found", "echo"]
MARK = re.compile(rf"\s*{CITATION}(?:\s*(?:[,，、;；]\s*)?{CITATION})*", re.IGNORECASE)
REFUSALS = re.compile(
    r"(?:don't|doesn't|do(?:es)? not|not) (?:say|mention|state|contain|provide|specif|cover)"
    r"|no (?:information|mention)"
    "|资料(?:里|中)?没有|没有提到|未提及|没有说明|无法回答",
    re.IGNORECASE,
)
LIST_NUMBER = re.compile(r"^\s*[*_]{1,3}\d{1,3}[.)][*_]{0,3}(?:\s+|$)|^\s*\d{1,3}[.)]\s*$")
LEADS = re.compile(r"^\s*#{1,6}\s|^[^\d]*[:：]\s*$")  # a heading, or words that only announce what follows
YES_OR_NO = re.compile(
    r"^\s*(?:(?P<yes>yes|是的?|对的?|会的?|能|可以的?)|no|不(?:是|行|能|会|可以)的?|没有)\s*(?:[,.:;!，。：；！]\s*|$)",
    re.IGNORECASE,
)
RESTRICTS = re.compile(
    NEGATION.pattern + r"|exclud|forbid|forbidden|only|instead|refuse|禁止|仅|只|拒绝", re.IGNORECASE
)
ASKS_YES_NO = re.compile(
    r"^\s*(?:is|are|was|were|do|does|did|can|could|should|will|has|have|may|must)\b|吗[？?]?\s*$|是否|能否", re.I
)


@dataclass(frozen=True)
class Verdict:
    """What a sentence of the answer is worth: `answer[start:end]`; `passage` counts from 1, 0 where none holds it.

    `spans` are the sentence's words within the passage. `refusal` marks «the sources do not say».
    """

    judgement: Judgement
    start: int
    end: int
    passage: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    refusal: bool = False


def judge(answer: str, question: str, sources: Sequence[SourceSentence], passages: Sequence[str]) -> list[Verdict]:
    """A verdict on every sentence of the answer, in order."""
    verdicts: list[Verdict] = []
    before = ""
    for span in _sentences(answer):
        verdicts.append(_judged(answer, span, before, question, sources, passages))
        said = MARK.sub(" ", answer[slice(*span)])
        holds = verdicts[-1].judgement != "not found" or LEADS.search(said)
        before = said if holds else ""
    return verdicts


def cited_numbers(text: str) -> list[int]:
    """The passages that its citations name, counted from 1."""
    return [int(number) for mark in MARK.finditer(text) for number in re.findall(r"\d+", mark[0])]


def _sentences(answer: str) -> list[tuple[int, int]]:
    """Spans of the answer's sentences; a bare «Yes.» is judged with what follows it, for alone it says nothing."""
    spans: list[tuple[int, int]] = []
    bare = False
    for start, end in sentence_spans(answer):
        if bare:
            start = spans.pop()[0]
        spans.append((start, end))
        bare = not YES_OR_NO.sub("", MARK.sub("", answer[start:end])).strip()
    return spans


def _judged(
    answer: str,
    span: tuple[int, int],
    before: str,
    question: str,
    sources: Sequence[SourceSentence],
    passages: Sequence[str],
) -> Verdict:
    start, end = span
    claim = BULLET.sub("", LIST_NUMBER.sub("", MARK.sub(" ", answer[start:end])))
    if REFUSALS.search(claim):
        return Verdict("not found", start, end, refusal=True)
    words, amounts = roots(claim), numbers(claim)
    said_words = words - SAYS_NOTHING
    if not said_words and not amounts:
        return Verdict("not found", start, end)
    asked = roots(question)
    if not ASKS_YES_NO.search(question) and words <= asked and amounts <= numbers(question):
        return Verdict("echo", start, end)
    if LEADS.search(MARK.sub("", answer[start:end])):
        return Verdict("not found", start, end)
    cited = cited_numbers(answer[start:end])
    said = YES_OR_NO.match(claim)
    rest = claim[said.end() :] if said else claim
    if not rest.strip():
        return Verdict("not found", start, end)
    holding = [
        source
        for source in sources
        if states(source, rest, question, sources) and same_topic(source, rest, question, before, sources)
    ]
    if said and said["yes"]:  # with «yes» a sentence that says «not» says something else, and so the other way round
        holding = [source for source in holding if not RESTRICTS.search(source.text)]
    elif said:
        holding = [source for source in holding if RESTRICTS.search(source.text)]
    if said:  # «yes» is of what was asked: «Yes, cats may be kept» says nothing of dogs
        holding = [source for source in holding if asked & (source.words | roots(source.heading))]
    if is_bare(rest, question):  # it stands in many places, most of which speak of something else
        holding = [source for source in holding if says_of_asked(rest, question, source)]
    if not holding:
        return Verdict("not found", start, end)
    best = max(holding, key=lambda source: (source.passage in cited, len(words & source.words), -source.passage))
    spans = _places(passages[best.passage - 1], best, words, amounts)
    return Verdict("supported", start, end, best.passage, spans)


def _places(passage: str, source: SourceSentence, words: set[str], amounts: set[str]) -> tuple[tuple[int, int], ...]:
    """Where the claim's words and amounts stand in that sentence of the passage; neighbours are one place."""
    text = passage[source.start : source.end]
    counted = {token.start for token in tokens(text) if token.is_amount and token.text in amounts}
    places = [
        (source.start + start, source.start + end)
        for word, start, end in content_words(text)
        if root(word) in words or not counted.isdisjoint(range(start, end))
    ]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def marked(answer: str, verdicts: Sequence[Verdict], not_found: str, mark: str = "[{number}]") -> str:
    """The answer with one mark behind each supported sentence, `not_found` behind the others, echoes left out."""
    parts = []
    for verdict in verdicts:
        if verdict.judgement == "echo":
            continue
        sentence = MARK.sub("", answer[verdict.start : verdict.end])
        body = sentence.rstrip()
        if verdict.judgement == "supported":
            note = mark.format(number=verdict.passage)
        else:
            note = "" if verdict.refusal or not re.search(r"\w", body) else not_found
        parts.append(_before_its_end(body, note) + sentence[len(body) :])
    return "".join(parts).strip()


def _before_its_end(body: str, note: str) -> str:
    """A mark stands before the full stop of its sentence, as in print."""
    ending = re.search(rf"[.{FULL_STOPS}]+[”’」』）)\"']*$", body)
    at = ending.start() if ending and note else len(body)
    return body[:at] + note + body[at:]
