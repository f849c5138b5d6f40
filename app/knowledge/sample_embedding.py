"""Compute the embeddings that ship with the sample documents: python -m app.knowledge.sample_embedding

After a sample or the way documents are split has changed. It takes half a minute of a core, which each first start is
spared.
"""

import numpy as np

from app.knowledge.ingest.converting import convert
from app.knowledge.ingest.indexing import embedded_texts, prepare
from app.knowledge.ingest.sources import folder_files
from app.knowledge.retrieve.embedders import PackagedEmbedder
from app.knowledge.retrieve.sample_vectors import DIGEST_BYTES, FILE, digest
from app.knowledge.wiring import SAMPLES


def sample_texts() -> list[str]:
    """What is embedded of the samples, one text for each passage."""
    texts = []
    for source in folder_files(SAMPLES):
        with source.path.open("rb") as file:
            texts += embedded_texts(prepare(0, "", "", convert(file, source.name)))
    return texts


if __name__ == "__main__":
    found = sample_texts()
    digests = np.frombuffer(b"".join(map(digest, found)), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    np.savez(FILE, digests=digests, vectors=PackagedEmbedder().computed(found))
