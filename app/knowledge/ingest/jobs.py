"""Background indexing jobs: whoever watches may leave, the run goes on and can be found again."""

import logging
from collections import defaultdict
from collections.abc import Iterator
from threading import Condition, Lock, Thread

from app.knowledge.ingest.indexing import IndexingProgress

log = logging.getLogger(__name__)
WATCH_S = 0.25


class Job:
    """One run. `progress` is where it is; `error` why it broke off."""

    def __init__(self, steps: Iterator[IndexingProgress]) -> None:
        self.progress = IndexingProgress()
        self.error: Exception | None = None
        self.ended = False
        self._steps = steps
        self._stopping = False
        self._changed = Condition()
        self._thread = Thread(target=self._work, name="knowledge-index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the file that is being read now; what is finished stays, the rest waits."""
        self._stopping = True

    def wait(self, seconds: float) -> None:
        """Until it has ended, `seconds` at most."""
        self._thread.join(seconds)

    def watch(self) -> Iterator[IndexingProgress]:
        """Its progress several times a second until it has ended. Raises what ended it."""
        while not self.ended:
            yield self.progress
            with self._changed:
                self._changed.wait_for(lambda: self.ended, timeout=WATCH_S)
        if self.error is not None:
            raise self.error
        yield self.progress

    def _work(self) -> None:
        try:
            for progress in self._steps:
                self.progress = progress
                if self._stopping:
                    break
        except Exception as error:
            log.info("indexing broke off: %r", error)
            self.error = error
        finally:
            self._steps.close()  # type: ignore[attr-defined]
            with self._changed:
                self.ended = True
                self._changed.notify_all()


class Jobs:
    """The runs of each collection."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Job]] = defaultdict(list)
        self._lock = Lock()

    def start(self, collection: str, steps: Iterator[IndexingProgress]) -> Job:
        """Run the steps; runs of one collection wait for one another."""
        with self._lock:
            job = Job(steps)
            self._kept[collection] = [*self._alive(collection), job]
            return job

    def running(self, collection: str) -> list[Job]:
        """Those that have not ended, oldest first."""
        with self._lock:
            return self._alive(collection)

    def latest(self, collection: str) -> Job | None:
        """The one that runs now, else the last one that ended."""
        with self._lock:
            kept = self._kept.get(collection, [])
            return next((job for job in kept if not job.ended), kept[-1] if kept else None)

    def stop(self, collection: str | None = None, seconds: float = 5.0) -> None:
        """End the runs of a collection, or all, and give them a moment to do so."""
        with self._lock:
            names = list(self._kept) if collection is None else [collection]
            jobs = [job for name in names for job in self._alive(name)]
        for job in jobs:
            job.stop()
        for job in jobs:
            job.wait(seconds)

    def _alive(self, collection: str) -> list[Job]:
        return [job for job in self._kept.get(collection, ()) if not job.ended]
