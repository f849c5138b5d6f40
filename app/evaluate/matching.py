"""Compare a free answer with the expected ones: exact, stated in its first sentence, or as its last number."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]*\d)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|[。！？\n]")
_WORD = re.compile(r"[\w']+[+#]*")  # C++ is not C
_NEGATIONS = ("not", "isn't", "no", "never", "without")
_DOUBTS = (("don't", "think"), ("don't", "believe"))
_NEGATED = re.compile("不是|并非|而非|不在|没有在")
_LONGEST_SENTENCE = 30  # words; a list of everything is no answer


def plain(text: str) -> str:
    """Whatever the case, width, spacing and punctuation."""
    return "".join(one for one in _folded(text) if one == "#" or unicodedata.category(one)[0] not in "ZPC")


def _folded(text: str) -> str:
    """In lower case, width and signs as they are typed."""
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("−", "-")


def states(said: str, answers: Sequence[str], question: str) -> bool:
    """Whether the answer `said` to the question is one of `answers`, in few words or in a sentence."""
    line = first_line(said)
    numbers = [answer for answer in answers if _NUMBER.fullmatch(_folded(answer).strip())]
    if plain(line) in [plain(answer) for answer in answers if answer not in numbers]:
        return True
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
    return [_value(number) for number in _NUMBER.findall(_folded(text))]


def _value(number: str) -> float:
    return float(_folded(number).strip().replace(",", ""))


def _states_words(sentence: str, answer: str, question: str) -> bool:
    """The answer's words stand in the sentence, not denied, and are not merely the question's own."""
    wanted, asked = _words(answer), _words(question)
    given = _words(sentence)
    if not wanted or len(given) > _LONGEST_SENTENCE or _place(asked, wanted) is not None:
        return False
    place = _place(given, wanted)
    return place is not None and not _denied(given, place, place + len(wanted))


def _denied(given: Sequence[str], start: int, end: int) -> bool:
    """«not Paris», «I don't think it is Paris», «Paris is not the capital», but «Paris, not London» is none."""
    before, after = given[:start], list(given[end : end + 2])
    doubted = any(pair in _DOUBTS for pair in pairwise(before)) or any(word in _NEGATIONS for word in before[-2:])
    return doubted or after[:1] in (["isn't"], ["wasn't"]) or after in (["is", "not"], ["was", "not"])


def _words(text: str) -> list[str]:
    """Words in lower case; each Chinese character is one."""
    spaced = re.sub(r"([\u4e00-\u9fff])", r" \1 ", _NEGATED.sub(" not ", _folded(text)))
    return [word.strip("'") for word in _WORD.findall(spaced)]


def _place(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    length = len(wanted)
    return next((n for n in range(len(words) - length + 1) if list(words[n : n + length]) == list(wanted)), None)
