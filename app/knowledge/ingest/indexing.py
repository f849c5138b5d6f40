"""Incremental indexing: only changed files are parsed, and a new version replaces the old one whole."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from app.knowledge.ingest.chunking import Passage, split
from app.knowledge.ingest.documents import NO_NOTE, Note, Text, Unreadable
from app.knowledge.ingest.sources import SourceFile
from app.knowledge.retrieve.embedders import Embedder, Vectors
from app.knowledge.retrieve.segmenting import is_mostly_chinese, segmented
from app.knowledge.store.database import Database, FileRecord, Prepared, under_heading
from app.knowledge.store.vectors import VectorIndex

GROUP = 64  # passages embedded and published together
SLICE = 16  # passages embedded between two reports of progress
SETTLED_NS = 2_000_000_000  # a file changed this recently may change again within the clock's grain

Convert = Callable[[Path, str], Text]


@dataclass(frozen=True)
class Failure:
    """A file that was passed over, with the reason in both languages."""

    file: str
    reason_zh: str
    reason_en: str


@dataclass(frozen=True)
class IndexingProgress:
    """Where an indexing run is. `chunks` counts the passages written by this run.

    One that is only `embedding` anew counts passages instead of files; it is done when the new vectors answer.
    """

    done: int = 0
    total: int = 0
    current: str = ""
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    failed: tuple[Failure, ...] = ()
    notes: tuple[tuple[str, Note], ...] = ()  # what was not read of files that were
    embedding: Literal["", "under way", "done"] = ""


def embedded_texts(new: Prepared) -> list[str]:
    """What is embedded of a file, one text for each passage."""
    content = new.text.content
    return [under_heading(passage.heading, content[passage.start : passage.end]) for passage in new.passages]


def prepare(file_id: int, digest: str, stamp: str, text: Text) -> Prepared:
    """Split a text and segment its words."""
    passages = split(text)
    keywords = [
        (segmented(" ".join(passage.heading)), segmented(text.content[passage.start : passage.end]))
        for passage in passages
    ]
    return Prepared(file_id, digest, stamp, text, passages, keywords)


@dataclass
class Indexer:
    """Writes one collection. One run at a time; a second one waits and then finds its files unchanged."""

    database: Database
    vectors: VectorIndex
    embedder: Callable[[], AbstractContextManager[Embedder]]
    convert: Convert
    lock: Lock = field(default_factory=Lock)

    def recover(self) -> None:
        """Remove what an interrupted run left in the vector store."""
        with self.lock:
            self._clear(self.database.journal())

    def run(self, origin: str, found: Iterable[SourceFile], *, follow: bool = False) -> Iterator[IndexingProgress]:
        """Index the files; with `follow` those of `origin` that are gone are removed. Close the iterator to stop.

        What was finished before a stop stays; the rest is listed as waiting.
        """
        with self.lock:
            files = list(found)
            self.database.announce(origin, (file.name for file in files))
            yield from _Run(self, origin, files, follow).steps()

    def add_documents(self, origin: str, documents: Mapping[str, tuple[str, dict[str, Any]]]) -> None:
        """Index documents that are no files: name -> (text, metadata), each one passage, exactly as it is."""
        with self.lock:
            self.database.announce(origin, documents)
            records = {record.path: record for record in self.database.files(origin)}
            self.database.set_metadata({records[name].id: metadata for name, (_, metadata) in documents.items()})
            changed = []
            for name, (content, _) in documents.items():
                digest = hashlib.blake2b(content.encode()).hexdigest()
                if digest != records[name].hash:
                    whole = [Passage(0, len(content))]
                    keywords = [("", segmented(content))]
                    changed.append(Prepared(records[name].id, digest, "", Text(content), whole, keywords))
            for at in range(0, len(changed), GROUP):
                part = changed[at : at + GROUP]
                texts = [text for new in part for text in embedded_texts(new)]
                self.publish(part, np.concatenate(list(self.embed(texts))))

    def remove(self, file_ids: Iterable[int]) -> None:
        """Take files out of the index."""
        with self.lock:
            self._clear(self.database.remove(file_ids))

    def _clear(self, versions: dict[int, int]) -> None:
        if versions:
            self.vectors.remove(versions)
            self.database.cleared(versions)

    def embed(self, texts: list[str]) -> Iterator[Vectors]:
        """Vectors of the texts, some at a time."""
        with self.embedder() as embedder:
            for at in range(0, len(texts), SLICE):
                yield embedder.passages(texts[at : at + SLICE])

    def publish(self, batch: list[Prepared], vectors: Vectors) -> None:
        """Store the vectors, then make the versions visible, then clear the ones they replace."""
        versions = self.database.begin(batch)
        keys, owners, chinese = [], [], []
        for new, version in zip(batch, versions, strict=True):
            keys += [(version, number) for number in range(len(new.passages))]
            owners += [new.file_id] * len(new.passages)
            chinese += [is_mostly_chinese(new.text.content[one.start : one.end]) for one in new.passages]
        self.vectors.add(keys, vectors, owners, chinese)
        self._clear(self.database.publish(batch, versions))


class _Run:
    """One pass over a list of files."""

    def __init__(self, indexer: Indexer, origin: str, files: list[SourceFile], follow: bool) -> None:
        self._indexer = indexer
        self._files = files
        self._records = {record.path: record for record in indexer.database.files(origin)}
        self._follow = follow
        self._batch: list[Prepared] = []
        self._progress = IndexingProgress(total=len(files))

    def steps(self) -> Iterator[IndexingProgress]:
        yield self._progress
        last = 0.0
        for file in self._files:
            if time.monotonic() - last > 0.2:  # a tree of unchanged files should not flood the page
                yield self._note(current=file.name)
                last = time.monotonic()
            self._consider(file, self._records[file.name])
            if sum(len(new.passages) for new in self._batch) >= GROUP:
                yield from self._flush()
        yield from self._flush()
        if self._follow:
            self._remove_vanished()
        yield self._note(current="", done=len(self._files))

    def _note(self, **changes: object) -> IndexingProgress:
        self._progress = replace(self._progress, **changes)  # type: ignore[arg-type]
        return self._progress

    def _consider(self, file: SourceFile, record: FileRecord) -> None:
        """Parse the file if it is new or changed."""
        database = self._indexer.database
        digest = stamp = ""
        if file.refused:
            return self._failed(file, record, "", "", file.refused)
        try:
            stamp = _stamp(file.path)
            if record.stamp and record.stamp == stamp:
                return self._unchanged(file, record)
            digest = _digest(file.path)
            if record.hash == digest and (record.version is not None or record.reason_en):
                database.touch(record.id, stamp)
                return self._unchanged(file, record)
            text = self._indexer.convert(file.path, file.name)
            self._batch.append(prepare(record.id, digest, stamp, text))
            if text.note != NO_NOTE:
                self._note(notes=(*self._progress.notes, (file.name, text.note)))
        except Unreadable as error:
            self._failed(file, record, digest, stamp, (error.text("zh"), error.text("en")))
        except OSError as error:
            self._failed(file, record, "", "", (f"无法读取：{error.strerror}", f"Cannot be read: {error.strerror}"))
        return None

    def _unchanged(self, file: SourceFile, record: FileRecord) -> None:
        if record.reason_en:
            failure = Failure(file.name, record.reason_zh, record.reason_en)
            self._note(failed=(*self._progress.failed, failure), done=self._progress.done + 1)
        else:
            self._note(unchanged=self._progress.unchanged + 1, done=self._progress.done + 1)

    def _failed(self, file: SourceFile, record: FileRecord, digest: str, stamp: str, reason: tuple[str, str]) -> None:
        self._indexer.database.fail(record.id, digest, stamp, reason)
        self._note(failed=(*self._progress.failed, Failure(file.name, *reason)), done=self._progress.done + 1)

    def _flush(self) -> Iterator[IndexingProgress]:
        batch, self._batch = self._batch, []
        if not batch:
            return
        texts = [text for new in batch for text in embedded_texts(new)]
        vectors = []
        for part in self._indexer.embed(texts):
            vectors.append(part)
            yield self._note()
        self._indexer.publish(batch, np.concatenate(vectors))
        known = {record.id for record in self._records.values() if record.version is not None}
        updated = sum(new.file_id in known for new in batch)
        progress = self._progress
        yield self._note(
            done=progress.done + len(batch),
            added=progress.added + len(batch) - updated,
            updated=progress.updated + updated,
            chunks=progress.chunks + len(texts),
        )

    def _remove_vanished(self) -> None:
        present = {file.name for file in self._files}
        gone = [record.id for path, record in self._records.items() if path not in present]
        self._indexer._clear(self._indexer.database.remove(gone))
        self._note(removed=len(gone))


def _stamp(path: Path) -> str:
    """Size and times of a file; empty where it changed so recently that they prove nothing."""
    status = path.stat()
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED_NS:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
