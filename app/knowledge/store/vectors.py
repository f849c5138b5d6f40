"""Vector index in Chroma, embedded in a folder of ours or on a Chroma server by URL."""

import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from app.errors import SettingsError
from app.knowledge.retrieve.embedders import Vectors

PAUSES_S = (0.05, 0.5)  # before Chroma is asked again
OPEN_INDEXES = 8  # a shard of Chroma's cache; in all at most 64 vector indexes stay open, four files each
BATCH = 2000  # ids in one request; Chroma's own limit is above 5000
SAMPLED = 300  # passages whose mean stands for their language
Key = tuple[int, int]  # version of a file, number of the passage in it


def open_chroma(folder: Path, url: str = "") -> Any:
    """A Chroma client: embedded in `folder`, or the server at `url`."""
    import chromadb
    from chromadb.config import Settings

    quiet = Settings(anonymized_telemetry=False)
    if not url:
        return _embedded(folder, quiet)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(key="chroma_url", value=url, allowed="http(s)://host:port")
    secure = parts.scheme == "https"
    try:
        return chromadb.HttpClient(parts.hostname, parts.port or (443 if secure else 8000), secure, settings=quiet)
    except ValueError as error:
        raise SettingsError(key="chroma_url", value=url, allowed=str(error)) from error


def _embedded(folder: Path, settings: Any) -> Any:
    """Chroma in this process; by itself it would keep a fifth of all file descriptors' worth of indexes open."""
    from chromadb.api.client import Client
    from chromadb.api.rust import RustBindingsAPI
    from chromadb.config import System

    settings.is_persistent, settings.persist_directory = True, str(folder)
    system = System(settings)
    system.instance(RustBindingsAPI).hnsw_cache_size = OPEN_INDEXES
    system.start()
    return Client.from_system(system)


class VectorIndex:
    """One collection's vectors, named by version and number of their passage."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self._centres: dict[bool, tuple[int, Vectors | None]] = {}
        self._collection = client.get_or_create_collection(
            name, embedding_function=None, configuration={"hnsw": {"space": "cosine", "ef_search": 200}}
        )

    def add(self, keys: Sequence[Key], vectors: Vectors, file_ids: Sequence[int], chinese: Sequence[bool]) -> None:
        """Store vectors; the same key again replaces. `chinese` tells the language of each passage."""
        for at in range(0, len(keys), BATCH):
            part = slice(at, at + BATCH)
            self._collection.upsert(
                ids=[_id(key) for key in keys[part]],
                embeddings=vectors[part],
                metadatas=[
                    {"file": file_id, "chinese": flag}
                    for file_id, flag in zip(file_ids[part], chinese[part], strict=True)
                ],
            )

    def remove(self, versions: dict[int, int]) -> None:
        """Remove all vectors of these versions (version -> number of passages)."""
        self.discard((version, number) for version, count in versions.items() for number in range(count))

    def discard(self, keys: Iterable[Key]) -> None:
        """Remove these vectors."""
        names = map(_id, keys)
        while part := list(islice(names, BATCH)):
            self._collection.delete(ids=part)

    def nearest(
        self, vector: Vectors, limit: int, files: Sequence[int] | None, chinese: bool | None = None
    ) -> list[tuple[Key, float]]:
        """The closest passages with their cosine, best first; none where the collection was dropped meanwhile.

        `chinese` asks for those in one language.
        """
        from chromadb.errors import NotFoundError

        wanted: list[Any] = [{"file": {"$in": list(files)}}] if files is not None else []
        wanted += [{"chinese": chinese}] if chinese is not None else []
        chosen: Any = {"$and": wanted} if len(wanted) > 1 else wanted[0] if wanted else None
        asked: Any = {"query_embeddings": [vector], "n_results": limit, "where": chosen, "include": ["distances"]}
        try:
            reply = self._query(**asked)
        except NotFoundError:  # embedded anew under a search: its keywords still find
            return []
        return [
            (_key(name), 1 - distance) for name, distance in zip(reply["ids"][0], reply["distances"][0], strict=True)
        ]

    def _query(self, **asked: Any) -> Any:
        """Among many open indexes Chroma finds one not on the disk now and then, and finds it when asked again."""
        from chromadb.errors import InternalError

        for pause in PAUSES_S:
            try:
                return self._collection.query(**asked)
            except InternalError:
                time.sleep(pause)
        return self._collection.query(**asked)

    def centre(self, chinese: bool) -> Vectors | None:
        """The mean vector of passages in one language, of the first ones; None where there are none."""
        from chromadb.errors import NotFoundError

        try:
            count = self._collection.count()
        except NotFoundError:
            return None
        known = self._centres.get(chinese)
        if known is None or known[0] != count:
            found = self._collection.get(where={"chinese": chinese}, limit=SAMPLED, include=["embeddings"])
            vectors = np.asarray(found["embeddings"], dtype=np.float32)
            known = self._centres[chinese] = count, vectors.mean(0) if len(vectors) else None
        return known[1]

    def keys(self) -> list[Key]:
        """Everything it holds."""
        return [_key(name) for name in self._collection.get(include=[])["ids"]]

    def drop(self) -> None:
        """Remove the whole collection."""
        self._client.delete_collection(self._name)


def _id(key: Key) -> str:
    return f"{key[0]}-{key[1]}"


def _key(name: str) -> Key:
    version, number = name.split("-")
    return int(version), int(number)
