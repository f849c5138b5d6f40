"""Extractive quotes: the sentences of retrieved passages that fit a question best, chosen without a language model."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from app.knowledge.answer.source_sentences import SourceSentence, source_sentences
from app.knowledge.answer.tokens import numbers, roots
from app.knowledge.retrieve.embedders import Embedder, LeaseReranker, Vectors
from app.knowledge.retrieve.refusal import Evidence, is_answerable, lacks_a_price
from app.knowledge.retrieve.retrieval import Hit
from app.knowledge.retrieve.segmenting import is_mostly_chinese

MOST_QUOTES = 3
READ_FOR_PRICE = 5  # best sentences of which one must speak of money where a price is asked for
READ = 60  # sentences that the embedder reads
LONGEST = 600  # characters of a quote; longer lines are no sentences
WORDS, RANK = 0.6, 0.25  # weight of the question's words and of the passage's rank beside the cosine's 1
WORTH = 0.6  # of the best sentence's score, below which a further one is no quote


@dataclass(frozen=True)
class Quote:
    """A sentence word for word: `hits[number - 1].passage.content[start:end]`."""

    number: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Reading:
    """The sentences of some passages with their cosines to a question; `embedder` is who compared them."""

    question: str
    hits: Sequence[Hit]
    sentences: Sequence[SourceSentence]
    cosines: Vectors
    embedder: str

    def answers(self, evidence: Sequence[Evidence]) -> bool:
        """Whether the passages are likely to answer; `evidence` is that of each query."""
        best = [self.sentences[at].said for at in np.argsort(-self.scores(), kind="stable")[:READ_FOR_PRICE]]
        likely = any(is_answerable(one, self.embedder) for one in self.judged(evidence))
        return likely and not lacks_a_price(self.question, best)

    def judged(self, evidence: Sequence[Evidence]) -> list[Evidence]:
        """The evidence with what the sentences add."""
        if not len(self.cosines):
            return list(evidence)
        nearest, mean = float(self.cosines.max()), float(self.cosines.mean())
        return [replace(one, sentence=nearest, sentence_margin=nearest - mean) for one in evidence]

    def scores(self) -> Vectors:
        """Of each sentence: its cosine, the question's words in it, the rank of its passage."""
        if not len(self.cosines):
            return self.cosines
        spread = max(float(self.cosines.max() - self.cosines.min()), 1e-6)
        scores = (self.cosines - self.cosines.min()) / spread + WORDS * _coverage(self.question, self.sentences)
        ranks = [1 - (one.passage - 1) / max(len(self.hits), 1) for one in self.sentences]
        return np.asarray(scores + RANK * np.array(ranks), dtype=np.float32)


def read(
    question: str,
    hits: Sequence[Hit],
    embedder: Callable[[], AbstractContextManager[Embedder]],
    evidence: Sequence[Evidence] = (),
) -> Reading:
    """Compare every sentence of the passages with the question."""
    readable = [one for one in sentences_of(hits) if one.end - one.start <= LONGEST][:READ]
    with embedder() as loaded:
        texts = [_in_context(sentence) for sentence in readable]
        cosines = loaded.passages(texts) @ loaded.query(question) if texts else np.zeros(0, dtype=np.float32)
        name = loaded.name
    handicap = max((one.handicap for one in evidence), default=0.0)
    foreign = [is_mostly_chinese(text) != is_mostly_chinese(question) for text in texts]
    return Reading(question, hits, readable, cosines + handicap * np.array(foreign, dtype=np.float32), name)


def sentences_of(hits: Sequence[Hit]) -> list[SourceSentence]:
    """Every sentence and row of the passages, numbered as an answer cites them."""
    numbered = enumerate(hits, 1)
    return [one for at, hit in numbered for one in source_sentences(at, hit.passage.content, hit.passage.heading)]


def choose_quotes(reading: Reading, reranker: LeaseReranker | None = None) -> tuple[Quote, ...]:
    """The best sentences, best first; by the cross-encoder where one is set."""
    if not reading.sentences:
        return ()
    scores = reading.scores()
    if reranker is not None:
        with reranker() as model:
            given = model.scores(reading.question, [_in_context(one) for one in reading.sentences])
            scores = np.asarray(given, dtype=np.float32)
        scores = np.asarray(1 / (1 + np.exp(-scores)), dtype=np.float32)
    chosen: list[Quote] = []
    for at in np.argsort(-scores, kind="stable"):
        sentence = reading.sentences[int(at)]
        new = all(sentence.text not in quote.text and quote.text not in sentence.text for quote in chosen)
        if new and scores[at] >= WORTH * scores.max():
            chosen.append(Quote(sentence.passage, sentence.start, sentence.end, sentence.text))
        if len(chosen) == MOST_QUOTES:
            break
    return tuple(chosen)


def _in_context(sentence: SourceSentence) -> str:
    """What is compared with the question: the sentence under its heading; a row as its named cells."""
    text = "; ".join(sentence.clauses) if sentence.columns else sentence.text
    return f"{sentence.heading}\n{text}".strip()


def _coverage(question: str, sentences: Sequence[SourceSentence]) -> np.ndarray:
    """The share of the question's words, by rarity among the sentences, in each of them."""
    asked = roots(question) | numbers(question)
    held = [asked & (one.words | numbers(one.text)) | (asked & one.around) for one in sentences]
    rarity = {word: math.log(1 + len(held) / (0.5 + sum(word in words for words in held))) for word in asked}
    whole = sum(rarity.values()) or 1.0
    return np.array([sum(rarity[word] for word in words) / whole for words in held])
