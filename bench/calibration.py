"""Fit the refusal judgement on the shipped questions and print its weights, with the error on questions left out.

python -m bench.calibration
"""

import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from app.knowledge.retrieve.refusal import Evidence
from app.knowledge.retrieve.retrieval import Searcher, weigh_result
from bench.folder_index import folder_index
from bench.question_set import Question, load_questions

REFUSED = 0.905  # of the questions without an answer, where cosines are known
LOST = 0.1  # of the questions with one, where only words are known: better too mild than deaf


def measure(searcher: Searcher, questions: list[Question]) -> list[Evidence]:
    """The evidence that each question finds."""
    with searcher.database.snapshot() as snapshot:
        return [weigh_result(snapshot, searcher.retrieve(snapshot, question.text)) for question in questions]


def cut_at(scores: np.ndarray, answerable: np.ndarray, mild: bool) -> float:
    """The score up to which is refused."""
    return float(np.quantile(scores[answerable], LOST) if mild else np.quantile(scores[~answerable], REFUSED))


def fit(names: list[str], evidence: list[Evidence], answerable: np.ndarray, mild: bool) -> dict[str, object]:
    """Weights of the named kinds of evidence, and rates by ten-fold cross-validation."""
    values = np.array([[float(getattr(one, name)) for name in names] for one in evidence])
    mean, spread = values.mean(0), values.std(0)
    model = LogisticRegression(class_weight="balanced")
    left_out = cross_val_predict(model, (values - mean) / spread, answerable, cv=10, method="decision_function")
    cut = cut_at(left_out, answerable, mild)
    model.fit((values - mean) / spread, answerable)
    weights = model.coef_[0] / spread
    own = values @ weights
    constant = -cut_at(own, answerable, mild)
    return {
        "weights": dict(zip(names, map(float, weights), strict=True)) | {"constant": constant},
        "refused_unanswerable": float((own + constant <= 0)[~answerable].mean()),
        "refused_answerable": float((own + constant <= 0)[answerable].mean()),
        "left_out_refused_unanswerable": float((left_out <= cut)[~answerable].mean()),
        "left_out_refused_answerable": float((left_out <= cut)[answerable].mean()),
    }


def main() -> None:
    questions = load_questions("zh") + load_questions("en")
    answerable = np.array([bool(question.file) for question in questions])
    with TemporaryDirectory() as folder:
        evidence = measure(folder_index(Path(folder)), questions)
    if "--evidence" in sys.argv:
        for question, one in zip(questions, evidence, strict=True):
            print(json.dumps(asdict(question) | asdict(one), ensure_ascii=False))
    everything = [field.name for field in fields(Evidence)]
    for title, names in (("e5", everything), ("words_only", ["covered", "unknown", "chinese"])):
        print(json.dumps({"calibration": title} | fit(names, evidence, answerable, mild=title != "e5")))


if __name__ == "__main__":
    main()
