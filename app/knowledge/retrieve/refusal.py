"""Refusal: judge from retrieval scores whether the documents answer a question, before a model is asked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.knowledge.retrieve.segmenting import content_words

E5_MODELS = ("multilingual-e5-small", "multilingual-e5-small-4bit")


@dataclass(frozen=True)
class Evidence:
    """What speaks for an answer in the documents.

    `cosine` of the nearest passage and its `margin` over the mean of the candidates; `covered` is the share of the
    question's words, by rarity, in the best passage, `unknown` the share that stands in no passage at all.
    """

    cosine: float
    margin: float
    covered: float
    unknown: float
    chinese: bool


@dataclass(frozen=True)
class Calibration:
    """Weights of a logistic judgement, fitted by `python -m bench.calibration` on the shipped questions."""

    cosine: float
    margin: float
    covered: float
    unknown: float
    chinese: float
    constant: float

    def judge(self, evidence: Evidence) -> float:
        """Above zero: the documents are likely to say it."""
        return (
            self.cosine * evidence.cosine
            + self.margin * evidence.margin
            + self.covered * evidence.covered
            + self.unknown * evidence.unknown
            + self.chinese * evidence.chinese
            + self.constant
        )


E5 = Calibration(cosine=104.24, margin=2.646, covered=1.595, unknown=-2.782, chinese=-3.863, constant=-86.6)
WORDS_ONLY = Calibration(cosine=0, margin=0, covered=3.349, unknown=-4.148, chinese=0.437, constant=1.785)


def is_answerable(evidence: Evidence, embedder: str) -> bool:
    """For an embedder that was not calibrated the words alone decide: every model has its own scale of cosines."""
    known = embedder.rstrip("/").rsplit("/", 1)[-1] in E5_MODELS
    return (E5 if known else WORDS_ONLY).judge(evidence) > 0


def weigh(
    question: str, cosines: Sequence[float], passages: Sequence[str], frequency: Mapping[str, int], total: int
) -> Evidence:
    """Evidence from the candidates' cosines (best first), the best passages, and in how many passages a word stands."""
    rarity = {word: math.log(1 + total / (frequency[word] + 0.5)) for word in frequency}
    whole = sum(rarity.values()) or 1.0
    present = [{word for word, _, _ in content_words(passage)} & rarity.keys() for passage in passages]
    return Evidence(
        cosine=cosines[0] if cosines else 0.0,
        margin=cosines[0] - sum(cosines) / len(cosines) if cosines else 0.0,
        covered=max((sum(rarity[word] for word in words) / whole for words in present), default=0.0),
        unknown=sum(rarity[word] for word, count in frequency.items() if not count) / whole,
        chinese=is_chinese(question),
    )


def is_chinese(text: str) -> bool:
    """Whether a question should be answered in Chinese."""
    return any("\u3400" <= character <= "\u9fff" for character in text)
