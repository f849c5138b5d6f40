"""Retrieval quality with any embedder and reranker: recall@5 and MRR@10 on the shipped questions or on own documents.

    python -m bench.retrieval
    python -m bench.retrieval --embedder BAAI/bge-m3 --reranker BAAI/bge-reranker-v2-m3
    python -m bench.retrieval --folder DOCUMENTS      headings of its Markdown files are the questions

Prints a line for each system and a table at the end; over the shipped questions also those in one language about
documents in the other, the usual recipe, and who is refused. The recipe: all-MiniLM-L6-v2 over
RecursiveCharacterTextSplitter 500/150, dense only.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from all_minilm_l6_v2 import extract_model
from langchain_text_splitters import RecursiveCharacterTextSplitter

from app.knowledge.answer.quotes import read
from app.knowledge.retrieve.embedders import PACKAGED, SentenceTransformerEmbedder
from app.knowledge.retrieve.retrieval import CANDIDATES, Searcher, fuse
from app.knowledge.retrieve.segmenting import query_words
from bench.folder_index import folder_index
from bench.heading_questions import heading_questions
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
    refused = []
    for question in questions:
        hits, evidence = searcher.search_with_evidence([question.text], 5)
        refused.append(
            (bool(question.file), not read(question.text, hits, searcher.embedder, evidence).answers(evidence))
        )
    return {
        "refused_unanswerable": round(mean(no for known, no in refused if not known), 3),
        "refused_answerable": round(mean(no for known, no in refused if known), 3),
    }


def own_systems(searcher: Searcher) -> dict[str, Search]:
    """Our search and its parts."""
    plain = replace(searcher, reranker=None)
    systems: dict[str, Search] = {
        "dense_only": lambda query: dense_only(searcher, query),
        "keyword_only": lambda query: keyword_only(searcher, query),
        "hybrid": lambda query: [place(hit.passage) for hit in plain.search([query], 10)],
    }
    if searcher.reranker is not None:
        systems["reranked"] = lambda query: [place(hit.passage) for hit in searcher.search([query], 10)]
    return systems


def compare(systems: dict[str, Search], sets: dict[str, list[Question]]) -> dict[str, dict[str, float]]:
    """MRR@10 of every system on every set; a line for each, and all of it as a table."""
    table: dict[str, dict[str, float]] = {}
    for name, search in systems.items():
        rates = {key: measure(search, questions) for key, questions in sets.items()}
        table[name] = {key: rate["mrr_at_10"] for key, rate in rates.items()}
        print(json.dumps({"system": name, **rates}))
    print("\n| MRR@10 | " + " | ".join(f"{key} ({len(sets[key])})" for key in sets) + " |")
    print("|---" * (1 + len(sets)) + "|")
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
    return table


def by_language(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Questions that have an answer, apart by their language."""
    languages = dict.fromkeys(question.language for question in questions)
    return {each: [one for one in questions if one.language == each and one.file] for each in languages}


def on_samples(folder: Path, embedder: str, reranker: str) -> None:
    """The shipped questions, and those in the other language than their documents."""
    searcher = folder_index(folder / "index", SAMPLES, embedder, reranker)
    plain = replace(searcher, reranker=None)
    everything = load_questions("zh") + load_questions("en")
    sets = by_language(everything) | {"zh -> en": load_questions("zh-en"), "en -> zh": load_questions("en-zh")}
    table = compare({"usual_recipe": usual_recipe(folder)} | own_systems(searcher), sets)
    for language in ("zh", "en"):
        print(json.dumps({"language": language, **refusals(plain, load_questions(language))}))
    print(json.dumps({"held_out": held_out(plain, everything)}))
    means = {name: mean((row["zh"], row["en"])) for name, row in table.items()}
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


def on_folder(folder: Path, documents: Path, embedder: str, reranker: str) -> None:
    """Somebody's own documents, by their headings."""
    (bare := folder / "bare").mkdir()
    questions = heading_questions(documents, bare)
    compare(own_systems(folder_index(folder / "index", bare, embedder, reranker)), by_language(questions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", default=PACKAGED, help="name or folder of a sentence-transformers model")
    parser.add_argument("--reranker", default="", help="name or folder of a cross-encoder")
    parser.add_argument("--folder", type=Path, help="Markdown documents of your own")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        if given.folder:
            on_folder(Path(folder), given.folder, given.embedder, given.reranker)
        else:
            on_samples(Path(folder), given.embedder, given.reranker)


if __name__ == "__main__":
    main()
