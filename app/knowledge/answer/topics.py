"""Whether a sentence that names no subject of its own (an anaphor) speaks of what its source speaks of."""

import re
from collections.abc import Sequence
from itertools import pairwise

from app.knowledge.answer.entailment import PREFIX, stands
from app.knowledge.answer.source_sentences import SourceSentence
from app.knowledge.answer.tokens import numbers, root, roots, tokens
from app.knowledge.ingest.tables import cells_of
from app.knowledge.retrieve.scripts import HAN, is_unspaced

# An instruction names no subject either: «raise the temperature» helps against what stands before it.
NO_VERB = """
about above across after against all although among and as at because before behind below between beyond both but by
despite during even for from given half if in inside into like many most near not of on once only or outside over
per since such than that through to under unless until upon via what when where whether while with within without
"""
INSTRUCTION = re.compile(
    r"\W*(?:(?:then|so|therefore|instead|also|next|first|finally),?\s+)?"
    r"(?:you\b|please\b|do not\b|don't\b|never\b"
    rf"|(?!(?:{'|'.join(NO_VERB.split())})\b)[a-z]+(?<!ing)\s+(?:the|an?|your|it|them|all|each|every)\b)",
    re.IGNORECASE,
)
DEFINITE = re.compile(r"\W*(?:the|this|that|these|those)\s+(\w+)", re.IGNORECASE)
CONDITION = re.compile("如果|若(?!干)|要是|一旦|假如")  # who it speaks of stands before it
ANAPHOR = re.compile(r"\b(?:it|its|they|their|them|this|these|he|she|his|her)\b|[它他她其该此]", re.IGNORECASE)


def same_topic(
    source: SourceSentence, claim: str, question: str, before: str, sources: Sequence[SourceSentence]
) -> bool:
    """Whether the source's subject is named in the claim, in the question or in the answer's sentence `before`, which
    may be what «it» stands for, or the source speaks of most of what was asked.

    A table's row speaks of its first cells. `before` is empty where that sentence is itself not found.
    """
    asked, told = roots(question), f"{claim} {question} {before}"
    if _means_another(source, claim, told, sources):
        return False
    if source.columns:
        return _is_row_named(source, told, sources)
    if not _names_no_subject(claim):
        return True
    if _counts_otherwise(source.heading, told):
        return False
    if 2 * len(asked & (source.words | roots(source.heading))) >= len(asked):
        return True
    if INSTRUCTION.match(claim):  # speaks of what the instruction is for, or of what it is done to
        return any(stands(token.text, f"{question} {before}") for token in tokens(source.clauses[0])[1:])
    return _is_subject_named(source, claim, told)


def _is_subject_named(source: SourceSentence, claim: str, told: str) -> bool:
    """By the first word of the source, or of the sentence before it where that tells who a pronoun or a condition is
    of."""
    pronoun = ANAPHOR.search(source.text)
    conditional = CONDITION.match(source.text) if source.before else None
    is_of_before = conditional or (pronoun and not tokens(source.text[: pronoun.start()]))
    spoken_of = source.before if is_of_before else source.clauses[0]
    words = [token.text for token in tokens(spoken_of) if not token.is_amount]
    names_one = not ANAPHOR.search(claim) and not conditional
    if names_one and any(len(word) > 1 and stands(word, claim) for word in words):
        return True  # of clauses alike each has a subject: 蓝灯表示空气良好，橙灯表示轻度污染
    subject = words[0] if words else ""
    return subject in roots(told) if not is_unspaced(subject) else bool(re.search(f"(?<!{PREFIX}){subject}", told))


def _counts_otherwise(heading: str, told: str) -> bool:
    """Whether the heading counts what the answer counts, and differently: «4 比特量化», where 8 bits are spoken of."""
    said = _counts(told)
    return any(word in said and not amounts & said[word] for word, amounts in _counts(heading).items())


def _counts(text: str) -> dict[str, set[str]]:
    """By each word that stands behind an amount, its amounts."""
    found: dict[str, set[str]] = {}
    for amount, counted in pairwise(tokens(text)):
        if amount.is_amount and not counted.is_amount:
            found.setdefault(counted.text, set()).add(amount.text)
    return found


def _means_another(source: SourceSentence, claim: str, told: str, sources: Sequence[SourceSentence]) -> bool:
    """Whether «the deposit» is more likely that of a passage found before it, of a document with another title."""
    definite = DEFINITE.match(claim)
    if definite is None or roots(source.title) & roots(told):
        return False
    nearer = (other for other in sources if other.passage < source.passage and other.title != source.title)
    return any(root(definite[1]) in other.words for other in nearer)


def _is_row_named(row: SourceSentence, told: str, sources: Sequence[SourceSentence]) -> bool:
    """By most of the words of its first cell or of its second; by the second alone where other rows begin alike.

    A second column that holds nothing but amounts names nothing.
    """
    first, *rest = cells_of(row.text)
    others = [cells_of(each.text) for each in sources if each.columns == row.columns and each.text != row.text]
    alike = any(cells[0] == first for cells in others)
    second = rest[:1] if any(cells[1:] and not numbers(cells[1]) for cells in [[first, *rest], *others]) else []
    names = [roots(cell) for cell in ([] if alike else [first]) + second]
    named = [2 * sum(stands(word, told) for word in name) > len(name) for name in names if name]
    return any(named) or not named


def _names_no_subject(claim: str) -> bool:
    """A pronoun stands for it, or it may be left out, as in Chinese."""
    pronoun = ANAPHOR.search(claim)
    begins = pronoun is not None and len(tokens(claim[: pronoun.start()])) < 2
    return begins or bool(HAN.search(claim) or INSTRUCTION.match(claim))
