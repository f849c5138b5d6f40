"""Tokens of a sentence for comparing a claim with its source: content words by their roots, amounts in one form."""

from dataclasses import dataclass
from functools import lru_cache

from app.knowledge.answer.numerals import amounts, without_amounts
from app.knowledge.retrieve.scripts import ascii_digits
from app.knowledge.retrieve.segmenting import content_words

ENDINGS = ("ation", "ing", "ies", "ed", "es", "s", "e")


@dataclass(frozen=True)
class Token:
    """A content word or an amount of a text, and where it begins."""

    text: str
    start: int
    is_amount: bool = False


@lru_cache(maxsize=4096)
def tokens(text: str) -> tuple[Token, ...]:
    """The content words and amounts of a text, in order."""
    text = ascii_digits(text)
    found = [Token(amount.signed, amount.start, True) for amount in amounts(text)]
    for word, start, _ in content_words(without_amounts(text)):
        if not word[0].isdigit():
            found.append(Token(root(word), start))
    return tuple(sorted(found, key=lambda token: token.start))


def root(word: str) -> str:
    """English plurals and verb endings count as the same word."""
    if word.isascii() and word.isalpha() and len(word) > 3:
        for ending in ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                return word.removesuffix(ending)
    return word


def roots(text: str) -> set[str]:
    """The content words of a text without its amounts, by their roots."""
    return {token.text for token in tokens(text) if not token.is_amount}


def numbers(text: str) -> set[str]:
    """All amounts of a text in one form: `1,000`, `1000`, `三成` and `30` can be compared; `-5` is not `5`."""
    return {token.text for token in tokens(text) if token.is_amount}
