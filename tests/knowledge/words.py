"""An embedder without a model: words hashed into a vector, so that equal words mean nearness."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np

from app.knowledge.retrieve.embedders import Vectors
from app.knowledge.retrieve.segmenting import words


class WordEmbedder:
    """Keeps to the Embedder protocol. `calls` counts the passages that were embedded."""

    mib = 1

    def __init__(self, name: str = "words", dimensions: int = 64) -> None:
        self.name = name
        self.dimensions = dimensions
        self.calls = 0

    def passages(self, texts: Sequence[str]) -> Vectors:
        self.calls += len(texts)
        return np.array([self._vector(text) for text in texts], dtype=np.float32)

    def query(self, text: str) -> Vectors:
        return self._vector(text)

    def _vector(self, text: str) -> Vectors:
        vector = np.full(self.dimensions, 1e-3, dtype=np.float32)
        for word, _, _ in words(text):
            vector[crc32(word.encode()) % self.dimensions] += 1
        return vector / np.linalg.norm(vector)
