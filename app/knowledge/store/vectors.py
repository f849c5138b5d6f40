"""Vector index in Chroma, embedded in a folder of ours or on a Chroma server by URL."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Condition
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from app.errors import SettingsError
from app.knowledge.retrieve.embedders import Vectors

MOST_OPEN = 64  # vector indexes, four files and a few MiB each
NEVER_FULL = 4096  # Chroma's own cache of indexes: each of its shards has room for MOST_OPEN
BATCH = 2000  # ids in one request; Chroma's own limit is above 5000
SAMPLED = 300  # passages whose mean stands for their language
Key = tuple[int, int]  # version of a file, number of the passage in it


class Chroma:
    """A Chroma client that is started anew, between two uses, before more than `most` collections are open in it.

    Its own cache must never be full: of an index that has left it what is not on the disk yet cannot be found (1.5.9).
    """

    def __init__(self, start: Callable[[], Any], most: int) -> None:
        self._start, self._most = start, most
        self._client = start()
        self._names: set[str] = set()
        self._users = 0
        self._restarting = False
        self._changed = Condition()

    @contextmanager
    def using(self, name: str) -> Iterator[Any]:
        """The client, for a use of this collection; it holds nothing else meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._restarting)
            if name not in self._names and len(self._names) >= self._most:
                self._restart()
            self._names.add(name)
            self._users += 1
            client = self._client
        try:
            yield client
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let go of all files."""
        self._client.close()

    def _restart(self) -> None:
        """When nobody uses it any more; the caller holds the lock."""
        self._restarting = True
        try:
            self._changed.wait_for(lambda: not self._users)
            self._client.close()
            self._client = self._start()
            self._names.clear()
        finally:
            self._restarting = False
            self._changed.notify_all()


def open_chroma(folder: Path, url: str = "") -> Chroma:
    """Chroma embedded in `folder`, or the server at `url`."""
    import chromadb
    from chromadb.config import Settings

    quiet = Settings(anonymized_telemetry=False)
    if not url:
        return Chroma(partial(_embedded, folder, quiet), MOST_OPEN)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(key="chroma_url", value=url, allowed="http(s)://host:port")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 8000)
    try:
        return Chroma(partial(chromadb.HttpClient, parts.hostname, port, secure, settings=quiet), sys.maxsize)
    except ValueError as error:
        raise SettingsError(key="chroma_url", value=url, allowed=str(error)) from error


def _embedded(folder: Path, settings: Any) -> Any:
    """Chroma in this process."""
    from chromadb.api.client import Client
    from chromadb.api.rust import RustBindingsAPI
    from chromadb.config import System

    settings.is_persistent, settings.persist_directory = True, str(folder)
    system = System(settings)
    system.instance(RustBindingsAPI).hnsw_cache_size = NEVER_FULL
    system.start()
    return Client.from_system(system)


class VectorIndex:
    """One collection's vectors, named by version and number of their passage."""

    def __init__(self, chroma: Chroma, name: str) -> None:
        self._chroma = chroma
        self._name = name
        self._centres: dict[bool, tuple[int, Vectors | None]] = {}
        shape = {"hnsw": {"space": "cosine", "ef_search": 200}}
        with chroma.using(name) as client:
            made = client.get_or_create_collection(name, embedding_function=None, configuration=shape)
            self._known = client, made

    @contextmanager
    def _collection(self) -> Iterator[Any]:
        """The collection in the present client. Raises NotFoundError where it was dropped."""
        with self._chroma.using(self._name) as client:
            known = self._known
            if known[0] is not client:
                known = self._known = client, client.get_collection(self._name, embedding_function=None)
            yield known[1]

    def add(self, keys: Sequence[Key], vectors: Vectors, file_ids: Sequence[int], chinese: Sequence[bool]) -> None:
        """Store vectors; the same key again replaces. `chinese` tells the language of each passage."""
        for at in range(0, len(keys), BATCH):
            part = slice(at, at + BATCH)
            about = [
                {"file": file_id, "chinese": flag} for file_id, flag in zip(file_ids[part], chinese[part], strict=True)
            ]
            with self._collection() as collection:
                collection.upsert(ids=[_id(key) for key in keys[part]], embeddings=vectors[part], metadatas=about)

    def remove(self, versions: dict[int, int]) -> None:
        """Remove all vectors of these versions (version -> number of passages)."""
        self.discard((version, number) for version, count in versions.items() for number in range(count))

    def discard(self, keys: Iterable[Key]) -> None:
        """Remove these vectors."""
        names = map(_id, keys)
        while part := list(islice(names, BATCH)):
            with self._collection() as collection:
                collection.delete(ids=part)

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
            with self._collection() as collection:
                reply = collection.query(**asked)
        except NotFoundError:  # embedded anew under a search: its keywords still find
            return []
        return [
            (_key(name), 1 - distance) for name, distance in zip(reply["ids"][0], reply["distances"][0], strict=True)
        ]

    def centre(self, chinese: bool) -> Vectors | None:
        """The mean vector of passages in one language, of the first ones; None where there are none."""
        from chromadb.errors import NotFoundError

        try:
            with self._collection() as collection:
                count = collection.count()
                known = self._centres.get(chinese)
                if known is not None and known[0] == count:
                    return known[1]
                found = collection.get(where={"chinese": chinese}, limit=SAMPLED, include=["embeddings"])
        except NotFoundError:
            return None
        vectors = np.asarray(found["embeddings"], dtype=np.float32)
        centre = vectors.mean(0) if len(vectors) else None
        self._centres[chinese] = count, centre
        return centre

    def keys(self) -> list[Key]:
        """Everything it holds."""
        with self._collection() as collection:
            return [_key(name) for name in collection.get(include=[])["ids"]]

    def drop(self) -> None:
        """Remove the whole collection."""
        with self._chroma.using(self._name) as client:
            client.delete_collection(self._name)


def _id(key: Key) -> str:
    return f"{key[0]}-{key[1]}"


def _key(name: str) -> Key:
    version, number = name.split("-")
    return int(version), int(number)
