"""Extractive quotes: the sentences of retrieved passages that fit a question best, chosen without a language model."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from app.knowledge.answer.source_sentences import SourceSentence
from app.knowledge.answer.tokens import numbers, roots
from app.knowledge.retrieve.embedders import Embedder, LeaseReranker
from app.knowledge.retrieve.retrieval import Hit

MOST_QUOTES = 3
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


def choose_quotes(
    question: str,
    hits: Sequence[Hit],
    sentences: Sequence[SourceSentence],
    embedder: Callable[[], AbstractContextManager[Embedder]],
    reranker: LeaseReranker | None = None,
) -> tuple[Quote, ...]:
    """The best sentences, best first; by the cross-encoder where one is set."""
    readable = [sentence for sentence in sentences if sentence.end - sentence.start <= LONGEST][:READ]
    if not readable:
        return ()
    texts = [_in_context(sentence) for sentence in readable]
    if reranker is not None:
        with reranker() as model:
            scores = np.array(model.scores(question, texts))
        scores = 1 / (1 + np.exp(-scores))
    else:
        with embedder() as loaded:
            cosines = loaded.passages(texts) @ loaded.query(question)
        spread = max(float(cosines.max() - cosines.min()), 1e-6)
        scores = (cosines - cosines.min()) / spread + WORDS * _coverage(question, readable)
        scores += RANK * np.array([1 - (sentence.passage - 1) / max(len(hits), 1) for sentence in readable])
    chosen: list[Quote] = []
    for at in np.argsort(-scores, kind="stable"):
        sentence = readable[int(at)]
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
