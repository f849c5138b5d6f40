"""Named data sets of training conversations, kept on disk for their owner and used again."""

import json
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from app.access.identity import Server, stored_identity
from app.errors import BadInput
from app.files import write_json
from app.finetune.data import Conversation
from app.finetune.limits import DAY, RunLimits, size_mib
from app.finetune.runs import new_id

LONGEST_NAME = 60
_FACTS, _ROWS = "set.json", "rows.json"


class BadSetName(BadInput):
    zh = "请给数据集起一个 1 到 {limit} 个字的名称。"
    en = "Give the data set a name of 1 to {limit} characters."


class UnknownSet(BadInput):
    zh = "没有名为 {name} 的数据集，它可能已被删除，或属于别人。"
    en = "There is no data set named {name}; it may have been deleted, or it is somebody else's."


class NoSet(BadInput):
    zh = "还没有选择数据集。先在“自己的文件”里上传文件，起个名称并保存。"
    en = "No data set is chosen. Upload a file under “My own file” and keep it under a name first."


class TooManySets(BadInput):
    zh = "每位访客最多保留 {limit} 个数据集。请先删除一个。"
    en = "Each visitor may keep {limit} data sets. Delete one first."


class SetsFull(BadInput):
    zh = "访客的数据集共可占用 {limit} MiB 磁盘，已经不够。请直接用文件训练。"
    en = "All visitors' data sets may take {limit} MiB of disk, too little is left. Train on the file itself."


@dataclass(frozen=True)
class DataSet:
    """What is known of one without its rows."""

    id: str
    name: str
    owner: str
    created: float
    rows: int


class DataSets:
    """Thread-safe. Each owner sees and uses only their own; a name stands for one set of an owner."""

    def __init__(self, folder: Path, limits: RunLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._lock = threading.Lock()

    def of(self, owner: str) -> list[DataSet]:
        """Those of an owner, the newest first."""
        return sorted((s for s in self._all() if s.owner == owner), key=lambda s: s.created, reverse=True)

    def keep(self, owner: str, name: str, conversations: Sequence[Conversation]) -> DataSet:
        """Write a set, in place of the owner's of that name. Raises BadSetName, TooManySets, SetsFull."""
        name = " ".join(name.split())
        if not 0 < len(name) <= LONGEST_NAME:
            raise BadSetName(limit=LONGEST_NAME)
        with self._lock:
            self._forget_old()
            before = [known for known in self.of(owner) if known.name == name]
            if not before:
                self._check_room(owner)
            made = DataSet(new_id(), name, owner, time.time(), len(conversations))
            folder = self._folder / made.id
            folder.mkdir(parents=True)
            write_json(folder / _ROWS, list(conversations))
            write_json(folder / _FACTS, asdict(made))  # last: a set without it is none
            for known in before:
                shutil.rmtree(self._folder / known.id, ignore_errors=True)
        return made

    def read(self, owner: str, name: str) -> list[Conversation]:
        """Raises NoSet or UnknownSet."""
        with self._lock:
            folder = self._folder / self._find(owner, name).id
            (folder / _FACTS).touch()  # it is in use
            conversations: list[Conversation] = json.loads((folder / _ROWS).read_text(encoding="utf-8"))
        return conversations

    def forget(self, owner: str, name: str) -> None:
        """Raises NoSet or UnknownSet."""
        with self._lock:
            shutil.rmtree(self._folder / self._find(owner, name).id, ignore_errors=True)

    def _find(self, owner: str, name: str) -> DataSet:
        if not name:
            raise NoSet
        found = next((known for known in self.of(owner) if known.name == name), None)
        if found is None:
            raise UnknownSet(name=name[:LONGEST_NAME])
        return found

    def _all(self) -> list[DataSet]:
        found = []
        for file in self._folder.glob(f"*/{_FACTS}"):
            with suppress(OSError, ValueError, TypeError):  # removed meanwhile, or no file of ours
                raw = json.loads(file.read_text(encoding="utf-8"))
                found.append(DataSet(**{**raw, "owner": stored_identity(raw["owner"])}))
        return found

    def _check_room(self, owner: str) -> None:
        if isinstance(owner, Server):
            return
        if self._limits.sets and len(self.of(owner)) >= self._limits.sets:
            raise TooManySets(limit=self._limits.sets)
        if self._limits.sets_mib and size_mib(self._folder) >= self._limits.sets_mib:
            raise SetsFull(limit=self._limits.sets_mib)

    def _forget_old(self) -> None:
        for known in self._all() if self._limits.days else ():
            used = (self._folder / known.id / _FACTS).stat().st_mtime
            if not isinstance(known.owner, Server) and time.time() - used > self._limits.days * DAY:
                shutil.rmtree(self._folder / known.id, ignore_errors=True)
