"""Check an answer against its sources: every sentence is supported, not found, or an echo of the question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.knowledge.answer.source_sentences import SourceSentence, numbers, root, roots, sentence_spans
from app.knowledge.retrieve.segmenting import STOP_WORDS, content_words
from app.knowledge.retrieve.segmenting import words as all_words

Judgement = Literal["supported", "not found", "echo"]
MARK = re.compile(r"\s*(?:\[(\d{1,2})\]|【(\d{1,2})】)")
COVERED = 0.65  # share of a sentence's words that must stand in one sentence of the source and around it
CLOSE = 0.5  # share that must stand in that sentence itself
REFUSALS = re.compile(
    r"(?:don't|doesn't|do(?:es)? not|not) (?:say|mention|state|contain|provide|specif|cover)"
    r"|no (?:information|mention)"
    "|资料(?:里|中)?没有|没有提到|未提及|没有说明|无法回答",
    re.IGNORECASE,
)
NEGATION = re.compile(r"\b(?:not|no|never|none|cannot|without|nor)\b|n't\b|不|没|无|未|非|别|勿", re.IGNORECASE)
ASKS_YES_NO = re.compile(
    r"^\s*(?:is|are|was|were|do|does|did|can|could|should|will|has|have|may|must)\b|吗[？?]?\s*$|是否|能否", re.I
)
NAME_OR_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*|\b[A-Z][\w-]+")
MEASURED = re.compile(r"\d\s*-?\s*([A-Za-z]{2,}|[%€$£¥°]|[元年月天时分秒位个只次倍成人])")
UNITS: dict[str, tuple[str, ...]] = {
    "%": ("%", "百分之", "percent", "per cent"),
    "percent": ("%", "百分之", "percent", "per cent"),
}
UNITS |= {"€": ("€", "euro", "欧元"), "$": ("$", "dollar", "美元"), "euros": ("€", "euro", "欧元")}
OPPOSITES = [
    ("more", "less"), ("higher", "lower"), ("increase", "decrease"), ("before", "after"), ("first", "last"),
    ("larger", "smaller"), ("always", "never"), ("faster", "slower"), ("minimum", "maximum"), ("above", "below"),
    ("allowed", "forbidden"), ("open", "closed"), ("on", "off"), ("增加", "减少"), ("提高", "降低"), ("高", "低"),
    ("之前", "之后"), ("最大", "最小"), ("允许", "禁止"), ("打开", "关闭"), ("多", "少"), ("快", "慢"),
]  # fmt: skip


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
    return [_judged(answer, span, question, sources, passages) for span in sentence_spans(answer)]


def _judged(
    answer: str, span: tuple[int, int], question: str, sources: Sequence[SourceSentence], passages: Sequence[str]
) -> Verdict:
    start, end = span
    claim = MARK.sub(" ", answer[start:end])
    if REFUSALS.search(claim):
        return Verdict("not found", start, end, refusal=True)
    words, amounts = roots(claim), numbers(claim)
    if not words and not amounts:
        return Verdict("not found", start, end)
    asked = roots(question)
    if not ASKS_YES_NO.search(question) and words <= asked and amounts <= numbers(question):
        return Verdict("echo", start, end)
    cited = [int(one or other) for one, other in MARK.findall(answer[start:end])]
    holding = [source for source in sources if _holds(source, claim, words, amounts, question, sources)]
    if not holding:
        return Verdict("not found", start, end)
    best = max(holding, key=lambda source: (source.passage in cited, len(words & source.words), -source.passage))
    spans = _places(passages[best.passage - 1], best, words, amounts)
    return Verdict("supported", start, end, best.passage, spans)


def _holds(
    source: SourceSentence,
    claim: str,
    words: set[str],
    amounts: set[str],
    question: str,
    sources: Sequence[SourceSentence],
) -> bool:
    """Whether this one sentence says what is claimed."""
    said = numbers(source.text)
    if amounts - said:
        return False
    own, near = words & source.words, words & (source.words | source.around)
    if words and (len(near) < COVERED * len(words) or len(own) < CLOSE * len(words)):
        return False
    if _names(claim) - source.words - source.around:
        return False
    if _denies(claim, words, source, _closest(source, words | amounts)):
        return False
    if _opposed(claim, source.text):
        return False
    if not _measured(claim, source) or not _in_order(claim, source.text):
        return False
    subject = words | roots(question)
    competing = amounts - numbers(question)
    return all(_belongs(amount, subject, source, sources) for amount in competing) and _together(words, amounts, source)


def _measured(claim: str, source: SourceSentence) -> bool:
    """Whether what the claim's amounts count stands in the source: 31 dollars are not 31 euros."""
    text = source.text.lower() + " ".join(source.columns).lower()
    known = source.words | source.around
    for unit in MEASURED.findall(claim):
        names = UNITS.get(unit.lower(), (unit.lower(),))
        if unit.lower() not in STOP_WORDS and not any(name in text or root(name) in known for name in names):
            return False
    return True


def _in_order(claim: str, source: str) -> bool:
    """Names and amounts of a sentence with several amounts stand in the order of the source, so none is swapped."""
    wanted = [token.lower() for token in NAME_OR_NUMBER.findall(claim)]
    if sum(token[0].isdigit() for token in wanted) < 2:
        return True
    stands = iter(token.lower() for token in NAME_OR_NUMBER.findall(source))
    known = source.lower()
    return all(token in stands for token in wanted if token in known)


def _belongs(amount: str, subject: set[str], source: SourceSentence, sources: Sequence[SourceSentence]) -> bool:
    """Whether the amount stands with what the sentence and the question are about, and no other amount does more."""
    mine, others = 0, 0
    for each in sources:
        around = len(subject & each.around)
        for clause in each.clauses:
            found = numbers(clause)
            if not found:
                continue
            shared = 4 * len(subject & roots(clause)) + (3 * around if not each.columns else 0)
            if each is source and amount in found:
                mine = max(mine, shared)
            elif amount not in found:
                others = max(others, shared)
    return mine >= others


def _together(words: set[str], amounts: set[str], source: SourceSentence) -> bool:
    """Whether the words stand near one another: in clauses that do not each speak of something else.

    `A is blue and B is red` does not hold `B is blue`.
    """
    if len(source.clauses) < 2 or len(amounts) > 1:
        return True
    held = [(words & roots(clause), amounts & numbers(clause)) for clause in source.clauses]
    best = max(range(len(held)), key=lambda at: len(held[at][0]) + len(held[at][1]))
    missing = (words & source.words) - held[best][0]
    names = [{root(word.lower()) for word in _name_words(clause)} for clause in source.clauses]
    return not any(
        at != best and held[at][0] & missing and names[at] - names[best] and names[best] for at in range(len(held))
    )


def _closest(source: SourceSentence, words: set[str]) -> str:
    """The clause that shares most with the claim."""
    return max(source.clauses or [source.text], key=lambda clause: len(words & (roots(clause) | numbers(clause))))


def _denies(claim: str, words: set[str], source: SourceSentence, clause: str) -> bool:
    """Whether one of both says «not» of a word of which the other does not."""
    said, stands = _negated(claim), _negated(source.text)
    unknown = said - source.words
    if unknown and not NEGATION.search(clause):
        return True
    return bool((said & source.words) - stands) or bool((stands & words) - said)


def _negated(text: str) -> set[str]:
    """The content word behind each negation."""
    behind = [content_words(text[match.end() : match.end() + 60])[:1] for match in NEGATION.finditer(text)]
    return {root(word) for found in behind for word, _, _ in found}


def _opposed(claim: str, source: str) -> bool:
    """Whether the claim says the opposite of a word of the source."""
    said, stands = _word_set(claim), _word_set(source)
    return any(
        (one in said and other not in said and other in stands and one not in stands)
        or (other in said and one not in said and one in stands and other not in stands)
        for one, other in OPPOSITES
    )


def _word_set(text: str) -> set[str]:
    found = {word for word, _, _ in all_words(text)}
    return found | {root(word) for word in found} | {word.rstrip("sd") for word in found}


def _name_words(text: str) -> list[str]:
    """Words that look like names: capitals inside a sentence, or letters with digits."""
    return re.findall(r"(?<=\s)[A-Z][\w-]+|\b[A-Z]{2,}[\w-]*|\b[A-Za-z]+-?\d[\w-]*|^[A-Z][\w-]+", text)


def _names(claim: str) -> set[str]:
    """Names of the claim by their roots; a capital at its beginning may be any word."""
    inside = re.findall(r"(?<=[a-z,;:]\s)[A-Z][\w-]+|\b[A-Z]{2,}[\w-]*", claim.strip())
    return {root(word.lower()) for name in inside for word, _, _ in content_words(name)} - {""}


def _places(passage: str, source: SourceSentence, words: set[str], amounts: set[str]) -> tuple[tuple[int, int], ...]:
    """Where the claim's words and amounts stand in that sentence of the passage; neighbours are one place."""
    places = [
        (source.start + start, source.start + end)
        for word, start, end in content_words(passage[source.start : source.end])
        if root(word) in words or numbers(word) & amounts
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
    ending = re.search(r"[.。！？!?]+[”’」』）)\"']*$", body)
    at = ending.start() if ending and note else len(body)
    return body[:at] + note + body[at:]
