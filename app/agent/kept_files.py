"""Copies of the files that each task wrote, where the code of a later task cannot change or delete them."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from app.agent.sandbox import storage
from app.agent.sandbox.limits import Limits

Mark = tuple[int, int, int]  # code can set a file's time of writing, but not that of its last change


@dataclass
class TaskFiles:
    """Names as the task's code knew them, each with the copy. `incomplete`: some had to go, or were too large."""

    copies: dict[str, Path] = field(default_factory=dict)
    incomplete: bool = False


class KeptFiles:
    """Those of one session, in `folder` beside the session's own; beyond its limits the earliest task's go first.

    Thread-safe: the page looks while a task runs, and may be closed then.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._most_bytes, self._most_files = limits.folder_mib << 20, limits.folder_files
        self._of_task: dict[int, TaskFiles] = {}
        self._marks: dict[str, Mark] = {}
        self._uploads: set[str] = set()
        self._made = 0
        self._closed = False
        self._lock = threading.Lock()

    def uploaded(self, path: Path, name: str) -> None:
        """This file is the visitor's own: no task wrote it."""
        with self._lock:
            self._marks[name] = _mark(path)
            self._uploads.add(name)

    def keep(self, task: int, found: Iterable[tuple[str, Path]]) -> None:
        """Copy what of `found`, pairs of a name and a file, was not there or was another before."""
        with self._lock:
            for name, path in () if self._closed else found:
                try:
                    mark = _mark(path)
                    if self._marks.get(name) != mark:
                        self._marks[name] = mark
                        self._uploads.discard(name)
                        self._copy(task, name, path)
                except OSError:
                    continue  # it went, or its code made it unreadable

    def of(self, task: int) -> TaskFiles:
        with self._lock:
            files = self._of_task.get(task, TaskFiles())
            return TaskFiles(dict(files.copies), files.incomplete)

    def names(self, present: Iterable[str]) -> list[tuple[int, str]]:
        """(0, name) for what of the `present` files no task wrote, then (task, name) for each copy."""
        with self._lock:
            copies = [(task, name) for task, files in self._of_task.items() for name in files.copies]
            written = {name for _, name in copies}
            own = [(0, name) for name in present if name in self._uploads or name not in written]
            return own + copies

    def forget(self, before: int) -> None:
        """Drop the files of all tasks `before` this one."""
        with self._lock:
            for task in [task for task in self._of_task if task < before]:
                self._empty(self._of_task.pop(task))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            storage.remove(self._folder)

    def _copy(self, task: int, name: str, path: Path) -> None:
        files = self._of_task.setdefault(task, TaskFiles())
        if name in files.copies:
            files.copies.pop(name).unlink(missing_ok=True)
        if not self._make_room(files, path.lstat().st_size):
            files.incomplete = True
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._made += 1
        copy = self._folder / str(self._made)  # its own name may be as long and deep as its code liked
        copy.write_bytes(storage.read_plainly(path))
        files.copies[name] = copy

    def _make_room(self, files: TaskFiles, size: int) -> bool:
        """Whether `size` more bytes fit, once the files of earlier tasks have gone where they must."""
        if size > self._most_bytes:
            return False
        while self._taken() + size > self._most_bytes or self._count() >= self._most_files:
            earlier = next((other for other in self._of_task.values() if other is not files and other.copies), None)
            if earlier is None:
                return False
            self._empty(earlier)
        return True

    def _empty(self, files: TaskFiles) -> None:
        for copy in files.copies.values():
            copy.unlink(missing_ok=True)
        files.incomplete = files.incomplete or bool(files.copies)
        files.copies.clear()

    def _taken(self) -> int:
        return sum(copy.stat().st_size for files in self._of_task.values() for copy in files.copies.values())

    def _count(self) -> int:
        return sum(len(files.copies) for files in self._of_task.values())


def _mark(path: Path) -> Mark:
    found = path.lstat()
    return found.st_ino, found.st_ctime_ns, found.st_size


def relative(root: Path, paths: Iterable[Path]) -> list[tuple[str, Path]]:
    """The paths below `root`, each with its name there."""
    return [(str(path.relative_to(root)), path) for path in paths]
