"""Upkeep of collections: finish interrupted indexing, index the samples, renew keywords, remove what guests left."""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.ingest.jobs import Jobs
from app.knowledge.ingest.sources import folder_files
from app.knowledge.retrieve.segmenting import segmented_anew
from app.knowledge.store.collections import SERVER, Catalogue, CollectionRecord, Owner
from app.knowledge.store.database import Database
from app.knowledge.store.open_collections import OpenCollection, OpenCollections

log = logging.getLogger(__name__)
SAMPLES = "samples"
HOUR_S = 3600
DAY_S = 24 * HOUR_S
CONVERSATION_DAYS = 90  # how long a conversation's documents are kept after they were last used


@dataclass
class Upkeep:
    """What is done unasked. `folder` holds the collections, `samples` the documents that ship, if wanted."""

    catalogue: Catalogue
    opened: OpenCollections
    jobs: Jobs
    folder: Path
    samples: Path | None
    embedder: str
    guest_days: float
    _closed: bool = field(default=False, init=False)
    _looked_for_guests: float = field(default=0.0, init=False)

    def start(self) -> Thread:
        """In the background: clear up after guests, finish what was interrupted, index the samples the first time."""
        thread = Thread(target=self._catch_up, name="knowledge-start", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """End all that is being indexed."""
        self._closed = True
        self.jobs.stop()

    def forget_guests(self) -> None:
        """Remove what guests left behind; looked for once an hour."""
        now = time.time()
        if now - self._looked_for_guests < HOUR_S:
            return
        self._looked_for_guests = now
        left = self.catalogue.left_by_guests(now - self.guest_days * DAY_S)
        for record in [*left, *self.catalogue.left_in_conversations(now - CONVERSATION_DAYS * DAY_S)]:
            self.drop(record)

    def drop(self, record: CollectionRecord) -> None:
        """Remove a collection, its index and its uploads."""
        self.jobs.stop(record.id)
        self.catalogue.forget(record)
        self.opened.forget(record).vectors.drop()
        shutil.rmtree(self.folder / record.id, ignore_errors=True)

    def tracked(self, collection: OpenCollection, steps: Iterator[IndexingProgress]) -> Iterator[IndexingProgress]:
        """The steps of a run; until nothing waits any more the next start of the server goes on with it."""
        self.catalogue.set_unfinished(collection.id, True)
        return self._until_finished(collection, steps)

    def _until_finished(
        self, collection: OpenCollection, steps: Iterator[IndexingProgress]
    ) -> Iterator[IndexingProgress]:
        with closing(steps):  # type: ignore[type-var]
            for number, step in enumerate(steps):
                if number == 0:  # another run may have ended while this one waited for its turn
                    self.catalogue.set_unfinished(collection.id, True)
                yield step
        if not collection.database.has_waiting():
            self.catalogue.set_unfinished(collection.id, False)

    def _catch_up(self) -> None:
        try:
            self.forget_guests()
            for record in self.catalogue.unfinished():
                collection = self.opened.get(record)
                self._run_out(self.tracked(collection, collection.resume()))
            if self.samples is not None:
                record = self.catalogue.make(Owner(SERVER), SAMPLES, self.embedder, shared=True)
                self._run_out(self.opened.get(record).indexer.run(SAMPLES, folder_files(self.samples), follow=True))
            self._renew_keywords()
        except Exception:
            if not self._closed:
                log.exception("indexing at start failed")

    def _renew_keywords(self) -> None:
        """Of collections that an older version indexed; each is opened and closed by itself, without its vectors."""
        for record in self.catalogue.all():
            path = self.folder / record.id / "index.db"
            if self._closed:
                return
            if path.is_file():
                with closing(Database(path)) as database:
                    database.renew_keywords(segmented_anew)

    def _run_out(self, steps: Iterator[IndexingProgress]) -> None:
        for _ in steps:
            if self._closed:
                return
