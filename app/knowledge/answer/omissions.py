"""Words of a source that a claim leaves out: a claim without its source's condition or restriction says more."""

import re

from app.knowledge.answer.source_sentences import clause_spans
from app.knowledge.answer.tokens import numbers, root, roots, tokens, without_han_numbers
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
    r"[a-z]*[\s,]*(?:with|without|if|unless|when|while|after|before|until|within|during|only|except|on|under|against)\b",
    re.IGNORECASE,
)


def left_out(part: str, claim: str) -> bool:
    """Whether this part of a source says a word that the claim does not have."""
    said = roots(claim) | numbers(claim) | NEUTRAL
    text = without_han_numbers(claim)
    return any(
        token.text not in said and (token.text.isascii() or not (token.text in text or _is_filler(token.text)))
        for token in tokens(part)
    )


def _is_filler(word: str) -> bool:
    """Whether a Chinese word is put together from characters that claim nothing, such as 就要."""
    return all(character in NEUTRAL | STOP_WORDS for character in word)


def restricts(text: str, used: tuple[int, int], placed: list[tuple[int, int]], claim: str, question: str) -> bool:
    """Whether a source restricts what is claimed by words that are not told: before, between or behind the claim's.

    `used` are the first and last clause that hold the claim, `placed` where its words stand in the text.
    `With a local model nothing leaves` does not say that nothing leaves, `allowed with consent` not that it is allowed.
    """
    told = f"{claim} {question} {LINKS}"
    for start, end in clause_spans(text)[used[0] : used[1] + 1]:
        inside = [span for span in placed if start <= span[0] < end]
        if not inside:
            continue
        first, last = min(inside)[0], max(span[1] for span in inside)
        if left_out(text[start:first], told) or left_out(_whole_words(text, first, last), claim):
            return True
        behind = text[last:end]
        if RESTRICTION.match(behind) and left_out(behind.lstrip("abcdefghijklmnopqrstuvwxyz"), told):
            return True
    return False


def _whole_words(text: str, start: int, end: int) -> str:
    """A part of the text that cuts no English word; a claim's words are known by their roots."""
    rest = re.match(r"[A-Za-z]*", text[end:])
    return text[start : end + (rest.end() if rest else 0)]
