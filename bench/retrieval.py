"""Recall@5 and MRR@10 on the shipped questions: ours, its two retrievers, and the usual recipe; and who is refused.

    python -m bench.retrieval

The recipe: all-MiniLM-L6-v2 over RecursiveCharacterTextSplitter 500/150, dense only.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from all_minilm_l6_v2 import extract_model
from langchain_text_splitters import RecursiveCharacterTextSplitter

from app.knowledge.retrieve.embedders import SentenceTransformerEmbedder
from app.knowledge.retrieve.retrieval import CANDIDATES, Searcher, fuse
from app.knowledge.retrieve.segmenting import query_words
from bench.folder_index import folder_index
from bench.question_set import SAMPLES, Question, load_questions

WEIGHTS = [0.1 * step for step in range(16)]
Found = Sequence[tuple[str, int, int]]
Search = Callable[[str], Found]


def usual_recipe(folder: Path) -> Search:
    """Dense search as courses teach it, over the same documents."""
    embedder = SentenceTransformerEmbedder(str(extract_model(str(folder))), device="cpu")
    splitter = RecursiveCharacterTextSplitter(chunk_size=500, chunk_overlap=150, add_start_index=True)
    pieces: list[tuple[str, int, int]] = []
    texts: list[str] = []
    for path in sorted(SAMPLES.rglob("*.md")):
        for piece in splitter.create_documents([path.read_text()]):
            start = piece.metadata["start_index"]
            pieces.append((path.relative_to(SAMPLES).as_posix(), start, start + len(piece.page_content)))
            texts.append(piece.page_content)
    vectors = embedder.passages(texts)
    return lambda query: [pieces[at] for at in np.argsort(-(vectors @ embedder.query(query)))[:10]]


def dense_only(searcher: Searcher, query: str) -> Found:
    """Our passages and embedder without keywords."""
    with searcher.embedder() as embedder, searcher.database.snapshot() as snapshot:
        near = searcher.vectors.nearest(embedder.query(query), CANDIDATES, None)
        return [place(passage) for passage in snapshot.passages([key for key, _ in near[:10]])]


def keyword_only(searcher: Searcher, query: str) -> Found:
    """Our passages and segmented words without vectors."""
    with searcher.database.snapshot() as snapshot:
        return [place(passage) for passage, _ in snapshot.matching(query_words(query), 10, None)]


def place(passage: Any) -> tuple[str, int, int]:
    return passage.path, passage.start, passage.end


def measure(search: Search, questions: Sequence[Question]) -> dict[str, float]:
    """Recall@5 and MRR@10 over the questions that have an answer."""
    ranks = []
    for question in questions:
        if question.file:
            found = search(question.text)[:10]
            ranks.append(next((rank for rank, at in enumerate(found, 1) if question.answered_by(*at)), 0))
    return {
        "recall_at_5": round(mean(0 < rank <= 5 for rank in ranks), 3),
        "mrr_at_10": round(mean(1 / rank if rank else 0.0 for rank in ranks), 3),
    }


def held_out(searcher: Searcher, questions: Sequence[Question]) -> dict[str, object]:
    """MRR@10 where the weight of the keywords was chosen on the other half of the questions."""
    ranks: list[list[float]] = []
    asked = [question for question in questions if question.file]
    with searcher.database.snapshot() as snapshot:
        for question in asked:
            result = searcher.retrieve(snapshot, question.text)
            found = []
            for weight in WEIGHTS:
                scores = fuse(result.cosines, result.keyword_scores, weight)
                best = sorted(scores, key=lambda key: -scores[key])[:10]
                places = [place(result.passages[key]) for key in best]
                found.append(next((1 / rank for rank, at in enumerate(places, 1) if question.answered_by(*at)), 0.0))
            ranks.append(found)
    table = np.array(ranks)
    order = np.random.default_rng(0).permutation(len(asked))
    halves = order[::2], order[1::2]
    chosen = [int(table[half].mean(0).argmax()) for half in halves]
    unseen = np.concatenate([table[halves[1]][:, chosen[0]], table[halves[0]][:, chosen[1]]])
    return {"mrr_at_10": float(unseen.mean()), "weights": [WEIGHTS[at] for at in chosen]}


def refusals(searcher: Searcher, questions: Sequence[Question]) -> dict[str, float]:
    """Which share is refused, of the questions the documents answer and of those they do not."""
    refused = [(bool(q.file), not searcher.search_and_judge([q.text], 5)[1]) for q in questions]
    return {
        "refused_unanswerable": round(mean(no for known, no in refused if not known), 3),
        "refused_answerable": round(mean(no for known, no in refused if known), 3),
    }


def main() -> None:
    with TemporaryDirectory() as folder:
        searcher = folder_index(Path(folder) / "index")
        systems: dict[str, Search] = {
            "usual_recipe": usual_recipe(Path(folder)),
            "dense_only": lambda query: dense_only(searcher, query),
            "keyword_only": lambda query: keyword_only(searcher, query),
            "hybrid": lambda query: [place(hit.passage) for hit in searcher.search([query], 10)],
        }
        means: dict[str, float] = {}
        for name, search in systems.items():
            rates = {language: measure(search, load_questions(language)) for language in ("zh", "en")}
            means[name] = mean(rate["mrr_at_10"] for rate in rates.values())
            print(json.dumps({"system": name, **rates, "mean_mrr_at_10": round(means[name], 3)}))
        for language in ("zh", "en"):
            print(json.dumps({"language": language, **refusals(searcher, load_questions(language))}))
        everything = load_questions("zh") + load_questions("en")
        print(json.dumps({"held_out": held_out(searcher, everything)}))
        best = max(means["usual_recipe"], means["keyword_only"])
        print(
            json.dumps(
                {
                    "bench": "retrieval",
                    "ratio": round(means["hybrid"] / best, 3),
                    "of": "MRR@10, mean of zh and en, hybrid over the better of the usual recipe and keywords alone",
                    "over_own_dense": round(means["hybrid"] / means["dense_only"], 3),
                }
            )
        )


if __name__ == "__main__":
    main()
