"""Words of a source that a claim leaves out: a claim without its source's condition or restriction says more."""

import re
from collections.abc import Iterable

from app.knowledge.answer.numerals import without_amounts
from app.knowledge.answer.polarity import NEGATION
from app.knowledge.answer.source_sentences import clause_spans
from app.knowledge.answer.tokens import Token, numbers, root, roots, tokens
from app.knowledge.retrieve.scripts import is_unspaced
from app.knowledge.retrieve.segmenting import STOP_WORDS

# Words that claim nothing: who it is, that it is, and what the question asked for.
NEUTRAL_WORDS = """
cost price last weigh amount total mean also therefore thus they them their he she his her
must but however additionally moreover furthermore
因此 所以 此外 另外 同时 然后 首先 其次 不过 必须 即可 则 就 即 一共 总共 每个 大概 光 再
有 占 共 约 需 达 为 算 得 由 将 把 须 所 来 说 按 才 它 它们 其 该 此
"""
NEUTRAL = frozenset(map(root, NEUTRAL_WORDS.split()))
LINKS = "because since 因为"  # between clauses; they restrict nothing
RESTRICTION = re.compile(
    r"\b(?:with|without|if|unless|when|while|after|before|until|within|during|only|except|on|under|against|inside|outside"
    r"|between)\b",
    re.IGNORECASE,
)


def left_out(part: str, claim: str) -> bool:
    """Whether this part of a source says a word that the claim does not have."""
    return any(_is_left_out(tokens(part), claim))


def _is_left_out(found: Iterable[Token], claim: str) -> list[bool]:
    said = roots(claim) | numbers(claim) | NEUTRAL
    text = without_amounts(claim)
    return [
        each.text not in said and (not is_unspaced(each.text) or not (each.text in text or _is_filler(each.text)))
        for each in found
    ]


def _is_filler(word: str) -> bool:
    """Whether a Chinese word is put together from characters that claim nothing, such as 就要."""
    return all(character in NEUTRAL | STOP_WORDS for character in word)


def restricts(text: str, used: tuple[int, int], places: list[int], claim: str, question: str) -> bool:
    """Whether a source restricts what is claimed by words that are not told: before, between or behind the claim's.

    `used` are the first and last clause that hold the claim, `places` where its words begin in the text.
    `With a local model nothing leaves` does not say that nothing leaves, `allowed with consent` not that it is allowed.
    Of what is denied all restricts: `not allowed inside` does not say that it is not allowed.
    """
    if len(tokens(claim)) < 2:
        return False  # a bare word leaves to the question what it is of
    told = f"{claim} {question} {LINKS}"
    for start, end in clause_spans(text)[used[0] : used[1] + 1]:
        inside = [place for place in places if start <= place < end]
        if not inside:
            continue
        first, last = min(inside), max(inside)
        found = [token for token in tokens(text) if start <= token.start < end]
        if any(_is_left_out([token for token in found if token.start < first], told)):
            return True
        if any(_is_left_out([token for token in found if first < token.start < last], claim)):
            return True
        behind = [token for token in found if token.start > last]
        if not behind:
            continue
        word, *_ = re.split(r"\W", text[behind[0].start :], maxsplit=1)
        goes_on = re.sub(r"^\S+", "", text[last : behind[0].start]) + word
        limited = NEGATION.search(text, start, last) or RESTRICTION.search(goes_on)
        if limited and any(_is_left_out(behind, told)):
            return True
    return False
