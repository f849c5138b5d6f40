"""Check whether one sentence of a source states a claim, by rules: coverage, order, negation, amounts, conditions.

Rather no than a wrong yes: what the sentence only probably says does not count.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from app.knowledge.answer.amounts import belongs, in_row, measured, same_beside
from app.knowledge.answer.fragments import is_bare
from app.knowledge.answer.grammar import is_foreign, told_whole
from app.knowledge.answer.numerals import without_amounts
from app.knowledge.answer.omissions import NEUTRAL, left_out, restricts
from app.knowledge.answer.polarity import as_surely, conditions_kept, denies, negations, opposed
from app.knowledge.answer.source_sentences import SourceSentence, clause_spans
from app.knowledge.answer.tokens import numbers, roots, tokens
from app.knowledge.retrieve.scripts import ENDING, UNSPACED_RUN, is_unspaced, letters_only
from app.knowledge.retrieve.segmenting import STOP_WORDS

CLOSE = 0.5  # share of a claim's words that must stand in the sentence itself, not only in what is around it
FRAME = re.compile(
    r"^\s*(?:(?:according to|based on|as stated in) [^,]{1,40},|(?:the )?(?:sources?|documents?|passages?|text)"
    r" (?:says?|states?|mentions?)(?: that)?|(?:根据|按照)[^，]{1,20}，|资料(?:里|中)?(?:说|提到|指出)[，：]?)\s*",
    re.IGNORECASE,
)
NAME = regex.compile(r"\b\p{Lu}[\w\p{M}-]*(?: \p{Lu}[\w\p{M}-]*)+")
GOES_ON = re.compile(r"(?:is|are|was|were|can|may|must|has|have|had|do|does|did|will)\b")  # of the same subject
EXHAUSTIVE = re.compile(r"\b(?:consist|compris)\w*|组成|分为", re.IGNORECASE)  # then the list may not be cut short
ORDINAL = re.compile("first|second|third|(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf)th")
AMOUNT_ITSELF = re.compile(r"^(?:[\dA-Za-z.,:+-]+|(?:百分之)?[零〇一二两三四五六七八九十百千]+)")
SUPERLATIVE = re.compile(r"最[^多高少]")  # those are limits, which have other names too
PREFIX = "[祖岳副非总前次亚准外陪]"  # 祖父母 are not 父母
PRONOUN = re.compile(r"\b(?:it|they|this|these|he|she|which|that|who)\b|[它他她其该此]", re.IGNORECASE)


@dataclass(frozen=True)
class Placed:
    """A word or amount of a claim and where it stands in the sentence; nowhere where it only stands around it."""

    text: str
    places: tuple[int, ...]
    is_amount: bool = False


def states(source: SourceSentence, claim: str, question: str, sources: Sequence[SourceSentence]) -> bool:
    """Whether this sentence says what is claimed; the other sentences tell whose an amount is."""
    claim = FRAME.sub("", claim)
    if letters_only(claim) == letters_only(source.text) and _signed(claim) == _signed(source.text):
        return True
    words, amounts = roots(claim), numbers(claim)
    if amounts - numbers(source.text) or opposed(claim, source.text):
        return False
    if not measured(claim, source) or not same_beside(claim, source.text):
        return False
    placed = [_placed(claim[start:end], source) for start, end in clause_spans(claim)]
    known = [part for part in placed if part is not None]
    everything = [each for part in known for each in part]
    if len(known) < len(placed) or sum(bool(each.places) for each in everything) < CLOSE * len(everything):
        return False
    if is_foreign(source.text) and not told_whole(source, f"{claim} {question}" if is_bare(claim, question) else claim):
        return False
    if not all(_counted_whole(part, claim, source) for part in known):
        return False
    if not _clauses_said(source, claim, question, known) or not conditions_kept(source.text, claim, question):
        return False
    subject, competing = words | roots(question), amounts - numbers(question)
    doubtful = [amount for amount in competing if source.columns or not _named(amount, claim, source)]
    return all(belongs(amount, subject, source, sources) for amount in doubtful)


def _signed(text: str) -> list[str]:
    """The amounts in their order: −5 and 5, or 3.10 and 31.0, are the same letters."""
    return [token.text for token in tokens(text) if token.is_amount]


def _placed(clause: str, source: SourceSentence) -> list[Placed] | None:
    """The words and amounts of a clause in their order, each with its places; None where one stands nowhere."""
    found: list[tuple[int, Placed]] = []
    for token in tokens(clause):
        if is_unspaced(token.text) or token.text in NEUTRAL:
            continue
        same = [
            each.start for each in tokens(source.text) if (each.text, each.is_amount) == (token.text, token.is_amount)
        ]
        if not same and token.text not in source.words and token.text not in source.around:
            return None
        found.append((token.start, Placed(token.text, tuple(same), token.is_amount)))
    text, said, near = (without_amounts(each) for each in (clause, source.text, source.said + source.near))
    for run in UNSPACED_RUN.finditer(text):
        at = 0
        while at < len(run.group()):
            piece = _longest(run.group()[at:], said, near)
            if piece is None or (SUPERLATIVE.match(run.group(), at) and run.group()[at : at + 2] not in said + near):
                return None
            if piece not in NEUTRAL | STOP_WORDS:
                places = tuple(match.start() for match in re.finditer(rf"(?<!{PREFIX}){piece}", said))
                if not places and piece in said:
                    return None
                found.append((run.start() + at, Placed(piece, places)))
            at += len(piece)
    return [placed for _, placed in sorted(found, key=lambda pair: pair[0])]


def _longest(run: str, said: str, near: str) -> str | None:
    """The longest beginning of Chinese characters that stands in the sentence, else around it.

    Words by a segmenter would depend on what is beside them: 权重 | 要占, but 权 | 重要 | 占.
    """
    neutral = next((run[:length] for length in (3, 2, 1) if run[:length] in NEUTRAL | STOP_WORDS), "")
    for least in (2, 1):
        for text in (said, near):
            for length in range(len(run), least - 1, -1):
                if run[:length] in text:
                    return run[:length]
        if len(neutral) >= least:
            return neutral
    return None


def _clauses_said(source: SourceSentence, claim: str, question: str, placed: list[list[Placed]]) -> bool:
    """Whether the sentence says every clause of the claim, neighbours as neighbours."""
    if source.columns:
        return in_row(claim, source) and negations(claim) == negations(source.text)
    clauses = clause_spans(source.text)
    reached: int | None = None
    for (start, end), part in zip(clause_spans(claim), placed, strict=True):
        if not part:
            continue
        inside = [each for each in part if each.places]
        used = _used_clauses(inside, claim, source)
        if used is None or (reached is not None and used[0] not in (reached, reached + 1)):
            return False
        reached = used[1]
        where = clauses[used[0]][0], clauses[used[1]][1]
        if restricts(source.text, used, [place for each in inside for place in each.places], claim, question):
            return False
        if not _same_subject(part, claim, source, where) or not _in_order(part):
            return False
        held = {each.text for each in part}
        said = source.text[slice(*where)]
        if denies(claim[start:end], held, source, said) or not as_surely(claim[start:end], said):
            return False
        last = max(place + len(each.text) for each in part for place in each.places if place < where[1])
        if negations(claim[start:end]) != negations(source.text[where[0] : last]):
            return False
    return reached == len(clauses) - 1 or not EXHAUSTIVE.search(claim)


def _used_clauses(inside: list[Placed], claim: str, source: SourceSentence) -> tuple[int, int] | None:
    """First and last clause that hold these words: one, or neighbours that speak of nothing the claim leaves out.

    `A is blue and B is red` does not hold `A is red`: B is left out before «red».
    """
    clauses = clause_spans(source.text)
    for number, (start, end) in enumerate(clauses):
        if inside and all(any(start <= place < end for place in each.places) for each in inside):
            return number, number
    at = -1
    first_in: dict[int, int] = {}
    last_in: dict[int, int] = {}
    for each in inside:
        at = next((place for place in each.places if place >= at), -2)
        if at == -2:
            return None
        number = next(number for number, (_, end) in enumerate(clauses) if at < end)
        first_in.setdefault(number, at)
        last_in[number] = ENDING.match(source.text, at + len(each.text)).end()
    if not first_in:
        return None
    for number in range(min(first_in) + 1, max(first_in) + 1):
        if number not in first_in:
            return None
        (before, end), start = clauses[number - 1], clauses[number][0]
        end = last_in[number - 1] if GOES_ON.match(source.text, start) else end
        if any(left_out(source.text[slice(*part)], claim) for part in ((before, end), (start, first_in[number]))):
            return None
    return min(first_in), max(first_in)


def _same_subject(part: list[Placed], claim: str, source: SourceSentence, where: tuple[int, int]) -> bool:
    """Whether words from around the sentence are who it speaks of, and no name is cut: CC BY-NC is not CC."""
    inside = [at for at, each in enumerate(part) if each.places]
    outside = [at for at, each in enumerate(part) if not each.places]
    starts = {place for each in part for place in each.places}
    for cut in NAME.finditer(source.text[slice(*where)]):
        words = [(word.group(), where[0] + cut.start() + word.start()) for word in re.finditer(r"\S+", cut.group())]
        if len({at in starts for _, at in words}) == 2 and not all(word in claim for word, _ in words):
            return False
    if not outside:
        return True
    if outside[-1] > inside[0] or all(stands(each.text, source.before) for each in part):
        return False  # what the sentence before says itself is not put together from both
    last = max(part[at].places[0] for at in inside)
    before = source.text[:last]
    pronoun = PRONOUN.search(before)
    subjects = [part[at].text for at in outside]
    if pronoun and source.before and not _is_pronouns_subject(subjects, claim, source.before):
        return False
    return not left_out(before[: pronoun.start()] if pronoun else before, claim)


def _is_pronouns_subject(subjects: list[str], claim: str, before: str) -> bool:
    """Whether words are what «it» stands for: who the sentence before speaks of in its first words."""
    first = [token.text for token in tokens(before)[:1]]
    return all(stands(one, before) for one in subjects) and all(stands(one, claim) for one in first)


def stands(word: str, text: str) -> bool:
    """Whether a word's root, or a run of Chinese characters, stands in a text."""
    return word in roots(text) or (is_unspaced(word) and word in text)


def _named(amount: str, claim: str, source: SourceSentence) -> bool:
    """Whether the claim has all that the sentence says before the amount in its clause, and there is something."""
    for token in tokens(source.text):
        if token.is_amount and token.text == amount:
            start = max(start for start, _ in clause_spans(source.text) if start <= token.start)
            before = source.text[start : token.start]
            if tokens(before) and not left_out(before, claim):
                return True
    return False


def _counted_whole(part: list[Placed], claim: str, source: SourceSentence) -> bool:
    """Whether an amount counts the same in the source: the third working day is not the third day."""
    for amount, counted in pairwise(part):
        if not (amount.is_amount or ORDINAL.fullmatch(amount.text)):
            continue
        between = [
            AMOUNT_ITSELF.sub("", source.text[place:after], count=1)
            for place in amount.places
            for after in counted.places
            if place < after
        ]
        if between and all(left_out(text, claim) for text in between):
            return False
    return True


def _in_order(part: list[Placed]) -> bool:
    """Whether words among themselves, and amounts, stand in the order of the source, so that nothing is swapped."""
    for amounts in (True, False):
        at = -1
        for each in part:
            if (each.is_amount or each.text == "one") == amounts and each.places:
                at = next((place for place in each.places if place > at), -2)
                if at == -2:
                    return False
    return True
