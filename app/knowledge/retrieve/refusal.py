"""Refusal: judge from retrieval scores whether the documents answer a question, before a model is asked."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.knowledge.retrieve.scripts import HAN
from app.knowledge.retrieve.segmenting import content_words
from app.texts import has_chinese

E5_MODELS = ("multilingual-e5-small", "multilingual-e5-small-4bit")


@dataclass(frozen=True)
class Evidence:
    """What speaks for an answer in the documents.

    `cosine` of the nearest passage and its `margin` over the mean of the candidates; `covered` is the share of the
    question's words, by rarity, in the best passage, `unknown` the share that stands in no passage at all. `sentence`
    is the cosine of the nearest sentence of the passages and `sentence_margin` how far it is above their mean;
    `handicap` is what texts in the other language have had added.
    """

    cosine: float
    margin: float
    covered: float
    unknown: float
    chinese: bool
    sentence: float = 0.0
    sentence_margin: float = 0.0
    handicap: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """Weights of a logistic judgement, fitted by `python -m bench.calibration` on questions with and without answer."""

    cosine: float
    margin: float
    covered: float
    unknown: float
    chinese: float
    constant: float
    sentence: float = 0.0
    sentence_margin: float = 0.0

    def judge(self, evidence: Evidence) -> float:
        """Above zero: the documents are likely to say it."""
        return (
            self.cosine * evidence.cosine
            + self.margin * evidence.margin
            + self.covered * evidence.covered
            + self.unknown * evidence.unknown
            + self.chinese * evidence.chinese
            + self.sentence * evidence.sentence
            + self.sentence_margin * evidence.sentence_margin
            + self.constant
        )


NO_MONEY = r"(?!.*\b(?:memory|space|time|disk|ram|tokens?|speed|quality)\b)"  # costs of another kind
ASKS_A_PRICE = re.compile(
    rf"\bprices?\b|\bfee\b|\bcosts?\b{NO_MONEY}|\bhow much (?:is|are|does|do|will|would)\b{NO_MONEY}"
    r"|多少钱|价格|售价|单价|费用|收费|怎么卖|房租|租金",
    re.IGNORECASE,
)
SUM_OF_MONEY = re.compile(
    r"[€$£¥]|\b(?:eur|euros?|dollars?|usd|pounds?|prices?|fee|free of charge)\b"
    r"|\d\s*(?:元|块|万)|单价|价格|免费|收费|百分|%",
    re.IGNORECASE,
)

E5 = Calibration(
    cosine=78.19, margin=-36.97, covered=2.542, unknown=-1.766, chinese=-4.339, constant=-110.08, sentence=53.03,
    sentence_margin=36.42,
)  # fmt: skip
WORDS_ONLY = Calibration(cosine=0, margin=0, covered=3.349, unknown=-4.148, chinese=0.437, constant=1.785)


def is_answerable(evidence: Evidence, embedder: str) -> bool:
    """For an embedder that was not calibrated the words alone decide: every model has its own scale of cosines."""
    known = embedder.rstrip("/").rsplit("/", 1)[-1] in E5_MODELS
    return (E5 if known else WORDS_ONLY).judge(evidence) > 0


def lacks_a_price(question: str, sentences: Sequence[str]) -> bool:
    """Whether a price is asked for and the best sentences speak of no money."""
    return bool(ASKS_A_PRICE.search(question)) and not any(SUM_OF_MONEY.search(sentence) for sentence in sentences)


def weigh(
    question: str, cosines: Sequence[float], passages: Sequence[str], frequency: Mapping[str, int], total: int
) -> Evidence:
    """Evidence from the candidates' cosines (best first), the best passages, and in how many passages a word stands."""
    rarity = {word: math.log(1 + total / (frequency[word] + 0.5)) for word in frequency if _is_calibrated(word)}
    whole = sum(rarity.values()) or 1.0
    present = [{word for word, _, _ in content_words(passage)} & rarity.keys() for passage in passages]
    return Evidence(
        cosine=cosines[0] if cosines else 0.0,
        margin=cosines[0] - sum(cosines) / len(cosines) if cosines else 0.0,
        covered=max((sum(rarity[word] for word in words) / whole for words in present), default=0.0),
        unknown=sum(rarity[word] for word in rarity if not frequency[word]) / whole,
        chinese=has_chinese(question),
    )


def _is_calibrated(word: str) -> bool:
    """Whether the weights were fitted on words like it; of other languages no stop words are known, for one thing."""
    return word.isascii() or HAN.match(word) is not None
