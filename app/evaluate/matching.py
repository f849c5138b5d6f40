"""Compare a free answer with the expected ones: exact, stated in its first sentence, or as its last number."""

import re
import unicodedata
from collections.abc import Sequence

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]*\d)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|[。！？\n]")
_WORD = re.compile(r"[\w']+")
_NEGATIONS = ("not", "isn't", "no", "never", "without")
_LONGEST_SENTENCE = 30  # words; a list of everything is no answer


def plain(text: str) -> str:
    """Whatever the case, width, spacing and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] not in "ZPC")


def states(said: str, answers: Sequence[str], question: str) -> bool:
    """Whether the answer `said` to the question is one of `answers`, in few words or in a sentence."""
    line = first_line(said)
    if plain(line) in [plain(answer) for answer in answers]:
        return True
    numbers = [answer for answer in answers if _NUMBER.fullmatch(answer.strip())]
    if numbers and _states_number(said, numbers, question):
        return True
    sentence = _SENTENCE_END.split(line.strip(), maxsplit=1)[0]
    words = [answer for answer in answers if answer not in numbers]
    return any(_states_words(sentence, answer, question) for answer in words)


def first_line(said: str) -> str:
    return next((line.strip() for line in said.strip().splitlines() if line.strip()), "")


def _states_number(said: str, answers: Sequence[str], question: str) -> bool:
    """The only new number of the first sentence, or the last number of all."""
    expected = {_value(answer) for answer in answers}
    asked = _values(question)
    new = [value for value in _values(_SENTENCE_END.split(first_line(said), maxsplit=1)[0]) if value not in asked]
    every = _values(said)
    return bool(new and set(new) <= expected) or bool(every and every[-1] in expected)


def _values(text: str) -> list[float]:
    return [_value(number) for number in _NUMBER.findall(unicodedata.normalize("NFKC", text))]


def _value(number: str) -> float:
    return float(number.strip().replace(",", ""))


def _states_words(sentence: str, answer: str, question: str) -> bool:
    """The answer's words stand in the sentence, not denied, and are not merely the question's own."""
    wanted, asked = _words(answer), _words(question)
    given = _words(sentence)
    if not wanted or len(given) > _LONGEST_SENTENCE or _place(asked, wanted) is not None:
        return False
    place = _place(given, wanted)
    return place is not None and not any(word in _NEGATIONS for word in given[max(0, place - 2) : place])


def _words(text: str) -> list[str]:
    """Words in lower case; each Chinese character is one."""
    spaced = re.sub(
        r"([\u4e00-\u9fff])", r" \1 ", unicodedata.normalize("NFKC", text).casefold().replace("不是", " not ")
    )
    return [word.strip("'") for word in _WORD.findall(spaced)]


def _place(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    length = len(wanted)
    return next((n for n in range(len(words) - length + 1) if list(words[n : n + length]) == list(wanted)), None)
