"""Speed of the document index: python -m bench.indexing [samples] [pipeline] [unchanged] [search]

samples: seconds that a first start takes for the sample documents, with the vectors that ship against computing them.
pipeline: passages a second of the whole way from file to index, against the embedder alone on the same passages.
unchanged: indexing a tree of 2,000 files again, against the first time.
search: 95th percentile over 100,000 synthetic passages, without embedding the query, and the memory they take.
"""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from app.knowledge.ingest.chunking import Passage
from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.documents import Text
from app.knowledge.ingest.indexing import SLICE, Indexer, embedded_texts, prepare
from app.knowledge.ingest.sources import folder_files
from app.knowledge.retrieve.embedders import PACKAGED, Embedder, PackagedEmbedder, Vectors, load_embedder
from app.knowledge.retrieve.retrieval import Searcher
from app.knowledge.retrieve.segmenting import segmented, words
from app.knowledge.store.database import Database, Prepared
from app.knowledge.store.vectors import VectorIndex, open_chroma
from bench.folder_index import exhaust
from bench.measure import line, machine, percentile
from bench.question_set import SAMPLES, load_questions

ROUNDS = 2
FILES = 2000
PASSAGES = 100_000
PASSAGES_A_FILE = 100
WORDS_A_PASSAGE = 90
BEYOND_MS = 50


@contextmanager
def open_index(embedder: Embedder) -> Iterator[tuple[Indexer, Searcher]]:
    """An empty index in a folder of its own."""
    convert = Converter()
    with TemporaryDirectory() as folder:
        database = Database(Path(folder) / "index.db")
        vectors = VectorIndex(open_chroma(Path(folder) / "chroma"), "bench")
        lease = lambda: nullcontext(embedder)  # noqa: E731
        yield Indexer(database, vectors, lease, convert), Searcher(database, vectors, lease)
        database.close()
    convert.close()


class ComputingEmbedder(PackagedEmbedder):
    """Looks nothing up."""

    def passages(self, texts: Sequence[str]) -> Vectors:
        return self.computed(texts)


def samples(embedder: Embedder) -> None:
    """By turns with the vectors that ship and without."""
    seconds = {"shipped": 0.0, "computed": 0.0}
    for _ in range(ROUNDS):
        for name, one in (("shipped", embedder), ("computed", ComputingEmbedder())):
            with open_index(one) as (indexer, _):
                began = time.perf_counter()
                exhaust(indexer.run("bench", folder_files(SAMPLES)))
                seconds[name] += (time.perf_counter() - began) / ROUNDS
    line(part="samples", **{f"{name}_s": taken for name, taken in seconds.items()})
    line(bench="indexing.samples", ratio=seconds["shipped"] / seconds["computed"], of="seconds against computing all")


def pipeline(_: object = None) -> None:
    """The sample documents, by turns embedded only and indexed; no vector is looked up."""
    embedder, texts = ComputingEmbedder(), []
    for found in folder_files(SAMPLES):
        texts += embedded_texts(prepare(0, "", "", Text(found.path.read_text(encoding="utf-8"), "markdown")))
    embedder.passages(texts[:SLICE])
    alone, whole = 0.0, 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for at in range(0, len(texts), SLICE):
            embedder.passages(texts[at : at + SLICE])
        alone += time.perf_counter() - began
        with open_index(embedder) as (indexer, _):
            began = time.perf_counter()
            exhaust(indexer.run("bench", folder_files(SAMPLES)))
            whole += time.perf_counter() - began
    counted = ROUNDS * len(texts)
    line(part="pipeline", passages=counted, embedder_per_s=counted / alone, pipeline_per_s=counted / whole)
    line(bench="indexing.pipeline", ratio=alone / whole, of="passages/s of the whole pipeline against the embedder")


def unchanged(embedder: Embedder) -> None:
    """Small files of one passage each, so that the first time stays short."""
    with TemporaryDirectory() as place, open_index(embedder) as (indexer, _):
        folder = Path(place)
        for number in range(FILES):
            part = folder / f"week{number % 40}"
            part.mkdir(exist_ok=True)
            (part / f"note{number}.md").write_text(f"# 笔记 {number}\n\n第 {number} 条。\n", encoding="utf-8")
        time.sleep(3)  # a file changed a moment ago is read again, to be sure
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            exhaust(indexer.run("bench", folder_files(folder), follow=True))
            seconds.append(time.perf_counter() - began)
        line(part="unchanged", files=FILES, first_s=seconds[0], again_s=seconds[1])
        line(bench="indexing.unchanged", ratio=seconds[1] / seconds[0], of="seconds again against the first time")


class DrawnEmbedder:
    """Unit vectors around a few hundred topics; a query costs nothing, so what is timed is the search alone."""

    name = "drawn"
    dimensions = 384
    mib = 0

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self._topics = self._random.normal(size=(300, self.dimensions)).astype(np.float32)

    def draw(self, count: int) -> Vectors:
        noise = self._random.normal(size=(count, self.dimensions)).astype(np.float32)
        vectors = self._topics[self._random.integers(0, len(self._topics), count)] + 0.7 * noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def passages(self, texts: object) -> Vectors:
        raise NotImplementedError("vectors are drawn, not computed")

    def query(self, text: str) -> Vectors:  # noqa: ARG002
        return self.draw(1)[0]


def search(_: object = None) -> None:
    """Words of the sample documents, as often as they stand there, shuffled into passages."""
    embedder, dice = DrawnEmbedder(), random.Random(1)
    pool = [word for found in folder_files(SAMPLES) for word, _, _ in words(found.path.read_text(encoding="utf-8"))]
    process = psutil.Process()
    with open_index(embedder) as (indexer, searcher):
        segmented("预热")
        before = process.memory_info().rss >> 20
        began = time.perf_counter()
        indexer.database.announce("bench", (f"file{n}" for n in range(PASSAGES // PASSAGES_A_FILE)))
        for record in indexer.database.files("bench"):
            passages = [" ".join(dice.choices(pool, k=WORDS_A_PASSAGE)) for _ in range(PASSAGES_A_FILE)]
            starts = np.cumsum([0, *(len(text) + 1 for text in passages)])
            spans = [Passage(int(start), int(start) + len(text)) for start, text in zip(starts, passages, strict=False)]
            text = Text("\n".join(passages))
            new = Prepared(record.id, str(record.id), "", text, spans, [("", content) for content in passages])
            indexer.publish([new], embedder.draw(PASSAGES_A_FILE))
        line(part="search", passages=PASSAGES, built_s=time.perf_counter() - began)
        questions = [question.text for language in ("zh", "en") for question in load_questions(language)][::3]
        for title, run in (
            ("search", lambda text: searcher.search([text], 5)),
            ("search_with_evidence", lambda text: searcher.search_with_evidence([text], 5)),
        ):
            run("预热 warm up")
            took = []
            for text in questions:
                began = time.perf_counter()
                run(text)
                took.append(1000 * (time.perf_counter() - began))
            line(part=title, queries=len(took), p50_ms=percentile(took, 0.5), p95_ms=percentile(took, 0.95))
            if title == "search":
                p95 = percentile(took, 0.95)
        line(part="memory", rss_mib=(process.memory_info().rss >> 20) - before, of="more than before, for all passages")
        line(bench="indexing.search", ratio=p95 / BEYOND_MS, of=f"p95 of a search against {BEYOND_MS} ms")


def main(arguments: list[str]) -> None:
    line(**machine())
    parts = {"samples": samples, "pipeline": pipeline, "unchanged": unchanged, "search": search}
    chosen = arguments or list(parts)
    embedder = load_embedder(PACKAGED) if set(chosen) - {"search"} else None
    for name in chosen:
        parts[name](embedder)  # type: ignore[operator]


if __name__ == "__main__":
    main(sys.argv[1:])
