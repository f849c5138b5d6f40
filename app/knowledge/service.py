"""Knowledge service: collections of documents, indexing, hybrid search, and answers with checked sources."""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
from filelock import FileLock, Timeout

from app.access.links import Links
from app.errors import BadInput, StudioError
from app.knowledge.answer.answering import Answer, Answerer, Question
from app.knowledge.answer.citing import CitingProbe
from app.knowledge.answer.document_links import ADDRESS, Place
from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.documents import Text
from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.ingest.jobs import Job, Jobs
from app.knowledge.ingest.sources import UPLOADS, SourceFile, distinct_names, folder_files, keep_upload
from app.knowledge.retrieve.embedders import PACKAGED, LeaseEmbedder, LeaseReranker, Vectors
from app.knowledge.retrieve.langchain_store import CollectionStore
from app.knowledge.retrieve.retrieval import Hit, refuse_long
from app.knowledge.store.collections import (
    Catalogue,
    CollectionRecord,
    DataInUse,
    FileGone,
    NotOffered,
    NotYours,
    Owner,
    Rights,
    person_of,
)
from app.knowledge.store.database import FileRecord
from app.knowledge.store.open_collections import OpenCollection, OpenCollections, Resources
from app.knowledge.store.vectors import open_chroma
from app.knowledge.upkeep import SAMPLES, Upkeep
from app.models.interface import Registry


class KnowledgeService:
    """Safe from several threads. `lease_embedder` and `lease_reranker` hold the models."""

    def __init__(
        self,
        registry: Registry,
        data_folder: Path,
        *,
        lease_embedder: LeaseEmbedder,
        embedder: str = PACKAGED,
        lease_reranker: LeaseReranker | None = None,
        chroma_url: str = "",
        rights: Rights | None = None,
        samples: Path | None = None,
    ) -> None:
        self.registry = registry
        self.embedder = embedder
        self.links: Links[Place] = Links(ADDRESS)
        self.citing = CitingProbe()
        self.rights = rights or Rights()
        self._lease = lease_embedder
        self._lease_reranker = lease_reranker
        self._samples = samples
        data_folder.mkdir(parents=True, exist_ok=True)
        self._held = FileLock(data_folder / "in-use.lock")
        try:
            self._held.acquire(blocking=False)
        except Timeout:
            raise DataInUse(folder=data_folder) from None
        try:
            self._chroma = open_chroma(data_folder / "chroma", chroma_url)
        except StudioError:
            self._held.release()
            raise
        self._catalogue = Catalogue(data_folder / "collections.db")
        self._convert = Converter()
        self._jobs = Jobs()
        kept = data_folder / "collections"
        self._open = OpenCollections(Resources(kept, self._chroma, lease_embedder, lease_reranker, self._convert))
        days = self.rights.guest_days
        self._upkeep = Upkeep(self._catalogue, self._open, self._jobs, kept, samples, embedder, days)

    def start(self) -> Thread:
        """In the background: clear up after guests, finish what was interrupted, index the samples the first time."""
        return self._upkeep.start()

    def close(self) -> None:
        """Let go of files and of the data folder."""
        self._upkeep.close()
        self._convert.close()
        self._open.close()
        self._chroma.close()
        self._held.release()

    # Collections

    def collections(self, owner: Owner) -> list[CollectionRecord]:
        """What this person may read, their own first."""
        return self._catalogue.visible(owner)

    def collection(self, owner: Owner, name: str) -> CollectionRecord:
        """The one of this name that this person may read."""
        return self._catalogue.readable(owner, name)

    def make(self, owner: Owner, name: str) -> CollectionRecord:
        """A new empty collection, or the one of that name."""
        self._upkeep.forget_guests()
        return self._catalogue.make(owner, name, self.embedder)

    def share(self, owner: Owner, name: str, shared: bool) -> None:
        """Let everyone who may use the page read it, or nobody else."""
        if owner.guest and shared:
            raise BadInput(reason_zh="登录后才能共享集合。", reason_en="Log in to share a collection.")
        self._catalogue.share(self._catalogue.writable(owner, name), shared)

    def delete(self, owner: Owner, name: str) -> None:
        """Remove the collection, its index and its uploads."""
        self._upkeep.drop(self._catalogue.writable(owner, name))

    def files(self, owner: Owner, name: str) -> list[FileRecord]:
        """The files of a collection with their state."""
        return self._get(self._catalogue.readable(owner, name)).database.files()

    def may_index_folders(self, owner: Owner) -> bool:
        """Whether this person may name folders of the server."""
        if owner.guest:
            return self.rights.guests_index_folders
        return owner.name in self.rights.folder_owners

    # Indexing

    def index_uploads(self, owner: Owner, name: str, files: Sequence[tuple[Path, str]]) -> Iterator[IndexingProgress]:
        """Take uploaded files (path, name) into a collection, which is made if needed."""
        collection = self._writable(owner, name)
        found = []
        for (path, _), inner in zip(files, distinct_names([given for _, given in files]), strict=True):
            refused = None
            try:
                keep_upload(path, inner, collection.originals)
                collection.database.wait_again(UPLOADS, inner)
            except BadInput as error:
                refused = (error.text("zh"), error.text("en"))
            found.append(SourceFile(collection.originals / inner, inner, refused))
        return self._upkeep.tracked(collection, collection.indexer.run(UPLOADS, found))

    def index_folder(self, owner: Owner, name: str, folder: Path) -> Iterator[IndexingProgress]:
        """Make the collection follow a folder of the server: new, changed and vanished files."""
        if not self.may_index_folders(owner):
            raise BadInput(
                reason_zh="只有服务器的管理者可以索引服务器上的文件夹。",
                reason_en="Only whoever runs the server may index its folders.",
            )
        with suppress(RuntimeError):  # ~ of somebody who has no account here
            folder = folder.expanduser()
        if not folder.is_dir():
            raise BadInput(reason_zh=f"没有文件夹 {folder}。", reason_en=f"There is no folder {folder}.")
        collection = self._writable(owner, name)
        root = folder.resolve()
        return self._upkeep.tracked(collection, collection.indexer.run(str(root), folder_files(root), follow=True))

    def index_waiting(self, owner: Owner, name: str) -> Iterator[IndexingProgress]:
        """Go on with the files that a stopped run left."""
        collection = self._get(self._catalogue.writable(owner, name))
        return self._upkeep.tracked(collection, collection.resume())

    def start_job(self, owner: Owner, name: str, steps: Iterator[IndexingProgress]) -> Job:
        """Run indexing steps of this collection in the background."""
        return self._jobs.start(self._catalogue.writable(owner, name).id, steps)

    def job(self, owner: Owner, name: str) -> Job | None:
        """What is being indexed into this collection now, else what was last."""
        return self._jobs.latest(self._catalogue.readable(owner, name).id)

    def waits_to_read(self, owner: Owner) -> bool:
        """Whether this person's next file waits until others are read."""
        return self._convert.is_waiting(person_of(owner.key))

    def stop_jobs(self, owner: Owner, name: str) -> None:
        """End what is being indexed into this collection."""
        self._jobs.stop(self._catalogue.writable(owner, name).id, seconds=0.5)

    def remove_files(self, owner: Owner, name: str, file_ids: Sequence[int]) -> None:
        """Take files out of a collection, with their uploaded originals."""
        collection = self._get(self._catalogue.writable(owner, name))
        gone = [record for record in collection.database.files() if record.id in set(file_ids)]
        collection.indexer.remove([record.id for record in gone])
        for record in gone:
            if record.origin == UPLOADS:
                (collection.originals / record.path).unlink(missing_ok=True)

    def embedders(self) -> list[str]:
        """Embedders that anyone may take; who may name the server's folders may name any other model too."""
        return list(dict.fromkeys((self.embedder, PACKAGED)))

    def embed_anew(self, owner: Owner, name: str, embedder: str = "") -> Iterator[IndexingProgress]:
        """Embed a collection with another embedder; until it is done the old vectors answer, and a stop loses nothing.

        What was embedded before a stop is kept for the next try.
        """
        record, wanted = self._catalogue.writable(owner, name), embedder.strip() or self.embedder
        if wanted not in self.embedders() and not self.may_index_folders(owner):
            raise NotOffered(name=wanted, offered=", ".join(self.embedders()))
        return self._embedded_anew(record, wanted)

    def _embedded_anew(self, record: CollectionRecord, wanted: str) -> Iterator[IndexingProgress]:
        if record.embedder == wanted:
            yield IndexingProgress()
            return
        collection = self._get(record)
        switch = partial(self._catalogue.set_embedder, record, wanted)
        last = IndexingProgress()
        with closing(collection.embed_anew(wanted, partial(self._lease, wanted), switch)) as steps:
            for last in steps:
                yield last
        self._open.forget(record)
        collection.vectors.drop()
        yield replace(last, embedding="done")

    # Asking

    def search(self, owner: Owner, name: str, query: str, k: int = 5, files: Sequence[int] | None = None) -> list[Hit]:
        """The best passages of a collection."""
        if not query.strip():
            raise BadInput(reason_zh="请输入要找的内容。", reason_en="Say what to look for.")
        refuse_long(query)
        collection = self._get(self._catalogue.readable(owner, name))
        return collection.searcher.search([query], max(1, min(k, 50)), files)

    def ask(self, owner: Owner, name: str, question: Question) -> Iterator[Answer]:
        """Stream an answer from a collection."""
        if not question.text.strip():
            raise BadInput(reason_zh="请输入问题。", reason_en="Type a question first.")
        refuse_long(question.text)
        searcher = self._get(self._catalogue.readable(owner, name)).searcher if question.use_documents else None
        question = replace(question, k=max(1, min(question.k, 20)), visitor=question.visitor or owner.key)
        return Answerer(self.registry, searcher, self.citing).ask(question)

    def embed(self, texts: Sequence[str], *, as_query: bool) -> Vectors:
        """One vector of length 1 for each text, read as a question or as a passage of a document."""
        with self._lease(self.embedder) as embedder:
            if as_query:
                return np.stack([embedder.query(text) for text in texts])
            return embedder.passages(texts)

    @property
    def has_reranker(self) -> bool:
        return self._lease_reranker is not None

    def rerank(self, query: str, passages: Sequence[str]) -> list[float]:
        """How well each passage fits the query; only where there is a reranker."""
        assert self._lease_reranker is not None
        with self._lease_reranker() as reranker:
            return reranker.scores(query, passages)

    def store(self, owner: Owner, name: str) -> CollectionStore:
        """The collection as a LangChain vector store, writable where it is the owner's."""
        record = self._catalogue.readable(owner, name)
        collection = self._get(record)
        return CollectionStore(collection.searcher, collection.indexer if record.owner == owner.key else None)

    def link(self, owner: Owner, name: str, hit: Hit, marks: Sequence[tuple[int, int]] = ()) -> str:
        """An address that opens the document at this passage, for this person; `marks` are spans of the passage."""
        found = hit.passage
        spans = tuple((found.start + start, found.start + end) for start, end in marks)
        return self.links.make(Place(owner, name, found.file_id, found.path, found.start, found.end, spans))

    def document(self, owner: Owner, name: str, file_id: int) -> tuple[str, Text]:
        """Name and text of a file in a collection this person may read."""
        collection, record = self._file(owner, name, file_id)
        text = collection.database.text(file_id)
        if text is None:
            raise FileGone
        return record.path, text

    def original(self, owner: Owner, name: str, file_id: int) -> Path | None:
        """The file itself, where it is still there."""
        collection, record = self._file(owner, name, file_id)
        folders = {UPLOADS: collection.originals, SAMPLES: self._samples}
        folder = (folders.get(record.origin) or Path(record.origin)).resolve()
        path = (folder / record.path).resolve()  # a link may have been put in its place
        return path if path.is_relative_to(folder) and path.is_file() else None

    # Inside

    def _writable(self, owner: Owner, name: str) -> OpenCollection:
        shared = [r for r in self._catalogue.visible(owner) if r.name == name and r.owner != owner.key]
        mine = [r for r in self._catalogue.visible(owner) if r.name == name and r.owner == owner.key]
        if shared and not mine:
            raise NotYours(name=name)
        self._upkeep.forget_guests()
        return self._get(self._catalogue.make(owner, name, self.embedder))

    def _file(self, owner: Owner, name: str, file_id: int) -> tuple[OpenCollection, FileRecord]:
        collection = self._get(self._catalogue.readable(owner, name))
        record = next((record for record in collection.database.files() if record.id == file_id), None)
        if record is None:
            raise FileGone
        return collection, record

    def _get(self, record: CollectionRecord) -> OpenCollection:
        return self._open.get(record)
