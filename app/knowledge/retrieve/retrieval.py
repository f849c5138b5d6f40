"""Hybrid search: dense vectors and BM25 keywords, fused by score, optionally reranked."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice

from app.errors import BadInput
from app.knowledge.retrieve.embedders import Embedder, LeaseReranker, Vectors
from app.knowledge.retrieve.near_duplicates import distinct
from app.knowledge.retrieve.refusal import Evidence, weigh
from app.knowledge.retrieve.segmenting import content_words, is_mostly_chinese, query_words
from app.knowledge.store.database import Database
from app.knowledge.store.snapshot import Snapshot, StoredPassage
from app.knowledge.store.vectors import Key, VectorIndex

LONGEST_QUERY = 10_000  # characters
CANDIDATES = 50  # asked of each retriever
RERANKED = 20  # passages a reranker reads
JUDGED = 5  # passages whose words count as evidence
LANGUAGE_HANDICAP = 0.8  # share given back to passages in the other language; measured by bench.retrieval
KEYWORD_WEIGHT = 0.5  # of the best keyword match against the best vector; measured by bench.retrieval


@dataclass(frozen=True)
class Hit:
    """A passage that was found; `score` orders the list, `cosine` is 0 where only its words were found."""

    passage: StoredPassage
    score: float
    cosine: float


@dataclass(frozen=True)
class RetrieverResult:
    """What one query brought: all visible candidates, their cosines and keyword scores."""

    query: str
    passages: dict[Key, StoredPassage]
    cosines: dict[Key, float]
    keyword_scores: dict[Key, float]
    handicap: float = 0.0  # added to the cosines of passages in the other language


@dataclass(frozen=True)
class Searcher:
    """Reads one collection. Safe from several threads, and while the collection is being written."""

    database: Database
    vectors: VectorIndex
    embedder: Callable[[], AbstractContextManager[Embedder]]
    reranker: LeaseReranker | None = None

    def search(self, queries: Sequence[str], k: int, files: Sequence[int] | None = None) -> list[Hit]:
        """The `k` best passages for the queries together; `files` restricts to these."""
        with self.database.snapshot() as snapshot:
            return self._rank([self.retrieve(snapshot, query, files) for query in queries], k)

    def search_with_evidence(
        self, queries: Sequence[str], k: int, files: Sequence[int] | None = None
    ) -> tuple[list[Hit], list[Evidence]]:
        """The same, and what speaks for an answer to each of the queries."""
        with self.database.snapshot() as snapshot:
            results = [self.retrieve(snapshot, query, files) for query in queries]
            evidence = [weigh_result(snapshot, result) for result in results]
        return self._rank(results, k), evidence

    def retrieve(self, snapshot: Snapshot, query: str, files: Sequence[int] | None = None) -> RetrieverResult:
        """The candidates of one query."""
        with self.embedder() as embedder:
            vector = embedder.query(query)
        near, handicap = self._near(vector, is_mostly_chinese(query), files)
        matched = snapshot.matching(query_words(query), CANDIDATES, files)
        known = {passage.key: passage for passage, _ in matched}
        known |= {passage.key: passage for passage in snapshot.passages([key for key, _ in near if key not in known])}
        return RetrieverResult(
            query,
            known,
            {key: cosine for key, cosine in near if key in known},
            {passage.key: score for passage, score in matched},
            handicap,
        )

    def _near(
        self, vector: Vectors, chinese: bool, files: Sequence[int] | None
    ) -> tuple[list[tuple[Key, float]], float]:
        """The nearest passages, and what those in the other language have had added where a collection holds both.

        An embedder puts all of a language closer together, so that a question finds its own language first. What the
        languages' centres differ by, as the question sees them, is given back to the other one.
        """
        near = dict(self.vectors.nearest(vector, CANDIDATES, files))
        own, other = self.vectors.centre(chinese), self.vectors.centre(not chinese)
        handicap = 0.0
        if own is not None and other is not None:
            handicap = max(0.0, LANGUAGE_HANDICAP * float(vector @ (own - other)))
            for key, cosine in self.vectors.nearest(vector, CANDIDATES, files, chinese=not chinese):
                near[key] = cosine + handicap
        return sorted(near.items(), key=lambda pair: -pair[1]), handicap

    def _rank(self, results: Sequence[RetrieverResult], k: int) -> list[Hit]:
        scores: dict[Key, float] = {}
        for result in results:
            for key, score in fuse(result.cosines, result.keyword_scores).items():
                scores[key] = scores.get(key, 0.0) + score
        known = {key: passage for result in results for key, passage in result.passages.items()}
        ranked = sorted(scores, key=lambda key: -scores[key])
        wanted = k if self.reranker is None else max(k, RERANKED)
        passages = ((" ".join(known[key].heading[-1:]), known[key].content) for key in ranked)
        best = [ranked[at] for at in islice(distinct(passages), wanted)]
        hits = [
            Hit(known[key], scores[key] / len(results), max(result.cosines.get(key, 0.0) for result in results))
            for key in best
        ]
        if self.reranker is None or not hits:
            return hits
        with self.reranker() as reranker:
            order = reranker.scores(results[0].query, [hit.passage.content for hit in hits])
        return [hit for _, hit in sorted(zip(order, hits, strict=True), key=lambda pair: -pair[0])][:k]


def weigh_result(snapshot: Snapshot, result: RetrieverResult) -> Evidence:
    """What speaks for an answer to this query."""
    scores = fuse(result.cosines, result.keyword_scores)
    best = sorted(scores, key=lambda key: -scores[key])[:JUDGED]
    frequency, total = snapshot.frequencies({word for word, _, _ in content_words(result.query)})
    texts = [f"{' '.join(result.passages[key].heading)}\n{result.passages[key].content}" for key in best]
    evidence = weigh(result.query, sorted(result.cosines.values(), reverse=True), texts, frequency, total)
    return replace(evidence, handicap=result.handicap)


def fuse(
    cosines: dict[Key, float], keyword_scores: dict[Key, float], weight: float = KEYWORD_WEIGHT
) -> dict[Key, float]:
    """Both on one scale: cosines spread over 0 to 1 among the candidates, keyword scores against the best one.

    Measured better than reciprocal rank fusion, which forgets by how much the first place was won.
    """
    low, high = min(cosines.values(), default=0.0), max(cosines.values(), default=0.0)
    spread = max(high - low, 1e-6)
    scores = {key: (cosine - low) / spread for key, cosine in cosines.items()}
    best = max(keyword_scores.values(), default=0.0) or 1.0
    for key, score in keyword_scores.items():
        scores[key] = scores.get(key, 0.0) + weight * score / best
    return scores


def refuse_long(query: str) -> None:
    """A query of a megabyte would keep the machine busy for minutes and find nothing better."""
    if len(query) > LONGEST_QUERY:
        raise BadInput(
            reason_zh=f"问题有 {len(query)} 字，上限是 {LONGEST_QUERY}。长文请作为文件上传，再就它提问。",
            reason_en=f"The question has {len(query)} characters, the limit is {LONGEST_QUERY}."
            " Upload a long text as a file and ask about that.",
        )
