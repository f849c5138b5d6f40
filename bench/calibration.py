"""Fit the refusal judgement on the shipped questions and print its weights, with the error on questions left out.

    python -m bench.calibration

Fitted on the questions over the samples and on the half `tune` of `bench/answers`, which count more, as documents of
another kind are what a visitor brings; the half `held` and the sixty questions of `bench.answers` are left out.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from app.knowledge.answer.quotes import read
from app.knowledge.retrieve.refusal import Evidence
from app.knowledge.retrieve.retrieval import Searcher
from bench.answers import SET, questions
from bench.folder_index import folder_index
from bench.question_set import load_questions

LOST = 0.1  # of the questions with an answer, where only words are known: better too mild than deaf
OTHER_DOCUMENTS = 4.0  # weight of a question over documents of another kind
THRESHOLDS = np.linspace(-2, 2, 81)
Truths = NDArray[np.bool_]
Floats = NDArray[np.float64]


def measure(searcher: Searcher, texts: Sequence[str]) -> list[Evidence]:
    """The evidence that each question finds."""
    found = []
    for text in texts:
        hits, evidence = searcher.search_with_evidence([text], 5)
        found.append(read(text, hits, searcher.embedder, evidence).judged(evidence)[0])
    return found


def refusal_f1(answerable: Truths, kept: Truths, weights: Floats) -> float:
    """F1 of refusing, by weight."""
    rightly = weights[~kept & ~answerable].sum()
    return float(2 * rightly / max(weights[~kept].sum() + weights[~answerable].sum(), 1e-9))


def fit(
    names: list[str], evidence: list[Evidence], answerable: Truths, counts: NDArray[np.float64]
) -> dict[str, object]:
    """Weights of the named kinds of evidence, and the constant that refuses best."""
    values = np.array([[float(getattr(one, name)) for name in names] for one in evidence])
    mean, spread = values.mean(0), values.std(0)
    model = LogisticRegression(class_weight="balanced").fit((values - mean) / spread, answerable, sample_weight=counts)
    scores = model.decision_function((values - mean) / spread)
    if "cosine" in names:
        cut = max(THRESHOLDS, key=lambda at: refusal_f1(answerable, scores > at, counts))
    else:
        cut = float(np.quantile(scores[answerable], LOST))
    weights = model.coef_[0] / spread
    constant = float(model.intercept_[0] - weights @ mean - cut)
    return {
        "weights": dict(zip(names, map(float, weights), strict=True)) | {"constant": constant},
        "refused_unanswerable": float((scores <= cut)[~answerable].mean()),
        "refused_answerable": float((scores <= cut)[answerable].mean()),
    }


def main() -> None:
    shipped = load_questions("zh") + load_questions("en")
    other = [asked for asked in questions() if asked.part == "tune"]
    answerable = np.array([bool(each.file) for each in (*shipped, *other)])
    counts = np.array([1.0] * len(shipped) + [OTHER_DOCUMENTS] * len(other))
    with TemporaryDirectory() as folder:
        evidence = measure(folder_index(Path(folder) / "samples"), [each.text for each in shipped])
        documents = folder_index(Path(folder) / "other", SET / "documents")
        evidence += measure(documents, [each.text for each in other])
    everything = [field.name for field in fields(Evidence) if field.name != "handicap"]
    for title, names in (("e5", everything), ("words_only", ["covered", "unknown", "chinese"])):
        print(json.dumps({"calibration": title} | fit(names, evidence, answerable, counts)))


if __name__ == "__main__":
    main()
