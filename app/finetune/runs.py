"""Training runs on disk: their state, events and checkpoints."""

import hashlib
import json
import re
import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from app.access.identity import Server, stored_identity
from app.errors import BadInput
from app.files import write_json
from app.finetune import events as event_log
from app.finetune.data import Conversation
from app.finetune.options import TrainOptions
from app.finetune.progress import EventTail, TrainingProgress, summary
from app.models.catalog.known_models import split_precision

State = Literal["queued", "starting", "training", "finished", "stopped", "failed"]
ACTIVE: tuple[State, ...] = ("starting", "training")
UNDER_WAY: tuple[State, ...] = ("queued", *ACTIVE)
NAME = re.compile(r"[\w][\w.-]{0,39}")


class BadRunName(BadInput):
    zh = "“这次训练的名称”不能是 {name!r}：请用 1 到 40 个字母、数字、汉字、点、横线或下划线。"
    en = "“Name of this run” cannot be {name!r}: 1 to 40 letters, digits, dots, dashes or underscores, please."


class RunNameTaken(BadInput):
    zh = "基座 {base} 上已经有名为 {name} 的训练。请在“这次训练的名称”里换一个。"
    en = "There is a run named {name} on {base} already. Choose another “Name of this run”."


class UnknownRun(BadInput):
    zh = "没有找到这次训练，它可能已被删除，或属于别人。"
    en = "This run was not found; it may have been deleted, or it is somebody else's."


@dataclass(frozen=True)
class Run:
    """What was asked for and where it stands. `total` counts all steps; `chosen` is the published checkpoint."""

    id: str
    name: str
    base: str
    owner: str
    created: float
    options: TrainOptions
    rows: int
    total: int
    width: int = 0  # tokens of the longest row as it is trained on
    mark: str = ""  # in the model's name, of whose it is; empty where all see everybody's models
    language: str = "en"
    identity: str = ""  # the name to be learnt, where the wizard made the data
    state: State = "queued"
    reason: str = ""
    queued: float = 0.0
    ended: float = 0.0
    resume_from: int = 0
    restarts: int = 0  # by itself, since it was last started or resumed by hand
    stopping: bool = False
    pid: int = 0
    pid_created: float = 0.0
    chosen: int = 0
    judging: bool = False  # its checkpoints wait to be judged, or are being judged
    judging_reason: str = ""  # why they could not be
    merged: int = 0  # the checkpoint that the merged model in the run's folder was made of
    finishing: bool = False  # it waits to be merged, quantised and measured, or is being so
    finishing_reason: str = ""  # why that could not be

    @property
    def is_under_way(self) -> bool:
        """Whether it runs or waits to."""
        return self.state in UNDER_WAY

    @property
    def is_brought_in(self) -> bool:
        """Whether it is an adapter that was trained elsewhere."""
        return self.rows == 0

    @property
    def model(self) -> str:
        """What the tuned model is called in every list."""
        return f"{self.base}+{self._full_name}"

    @property
    def merged_model(self) -> str:
        """What the merged model is called; no repository and no folder has such a name."""
        return f"merged/{self.base}/{self._full_name}"

    @property
    def quantised_adapter(self) -> str:
        """The adapter kept apart over the base at 4 bits: rounding takes nothing of what was learnt."""
        return f"{split_precision(self.base)[0]}:4bit+{self._full_name}"

    def gguf_model(self, wanted: str) -> str:
        """What the exported GGUF file of a format is called as a model."""
        return f"gguf/{self.base}/{self._full_name}-{wanted}"

    @property
    def _full_name(self) -> str:
        return f"{self.name}-{self.mark}" if self.mark else self.name

    def checkpoint_model(self, step: int) -> str:
        return f"{self.model}@{step}"


class RunStore:
    """The folder of all runs. Thread-safe; each run's state is one small file, replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._tails: dict[str, EventTail] = {}
        self._merging: dict[str, threading.Lock] = {}

    def folder_of(self, run_id: str) -> Path:
        return self.folder / run_id

    def create(self, run: Run, conversations: Sequence[Conversation], settings: dict[str, Any]) -> Run:
        """Write a new run; `settings` are what only the training process reads. Raises BadRunName, RunNameTaken."""
        if not NAME.fullmatch(run.name):
            raise BadRunName(name=run.name)
        with self._lock:
            if any(other.model == run.model for other in self.all()):
                raise RunNameTaken(base=run.base, name=run.name)
            folder = self.folder_of(run.id)
            folder.mkdir(parents=True)
            write_json(folder / "data.json", list(conversations))
            write_json(folder / "settings.json", settings)
            self.save(run)
        return run

    def save(self, run: Run) -> Run:
        with self._lock:
            write_json(self.folder_of(run.id) / "run.json", asdict(run))
        return run

    def change(self, run_id: str, **changes: Any) -> Run:
        with self._lock:
            return self.save(replace(self.get(run_id), **changes))

    def get(self, run_id: str) -> Run:
        if not re.fullmatch(r"[0-9a-f]{16}", run_id):
            raise UnknownRun
        try:
            raw = json.loads((self.folder_of(run_id) / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UnknownRun from error
        owner, options = stored_identity(raw["owner"]), TrainOptions(**raw["options"])
        return Run(**{**raw, "owner": owner, "options": options})

    def all(self) -> list[Run]:
        """Every run, the oldest first."""
        with self._lock:
            runs = [self.get(path.parent.name) for path in self.folder.glob("*/run.json")]
        return sorted(runs, key=lambda run: run.created)

    def delete(self, run_id: str) -> None:
        with self._lock:
            shutil.rmtree(self.folder_of(run_id), ignore_errors=True)
            self._tails.pop(run_id, None)
            self._merging.pop(run_id, None)

    def adapter_folder(self, run_id: str, step: int) -> Path:
        return self.folder_of(run_id) / "checkpoints" / str(step)

    def merged_folder(self, run_id: str) -> Path:
        return self.folder_of(run_id) / "merged"

    def merging(self, run_id: str) -> threading.Lock:
        """Held by whoever makes or replaces a merged model of the run."""
        return self._merging.setdefault(run_id, threading.Lock())

    def gguf_folder(self, run_id: str) -> Path:
        """The exported files, made of the merged model that is there."""
        return self.folder_of(run_id) / "gguf"

    def gguf_files(self, run: Run) -> dict[str, Path]:
        """Format -> its file, those that are there."""
        folder = self.gguf_folder(run.id).resolve()
        files = {file.stem.removeprefix(f"{run.name}-"): file for file in sorted(folder.glob("*.gguf"))}
        return files if run.merged else {}

    def end_of(self, run_id: str, file: str, most: int = 2**18) -> str:
        """The end of a text file of a run; empty where it is not there yet."""
        path = self.folder_of(run_id) / file
        return path.read_bytes()[-most:].decode("utf-8", "replace") if path.exists() else ""

    def sweep(self, run_id: str, accumulation: int) -> None:
        """Remove what a training left half-written when it ended."""
        folder, whole = self.folder_of(run_id), self.progress(run_id).checkpoints
        for partial in (folder / "checkpoints").glob(".*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        for saved in (folder / "work").glob("iter_*.pth"):
            if int(saved.stem.partition("_")[2]) not in [step * accumulation for step in whole]:
                saved.unlink()

    def forget_after(self, run_id: str, step: int) -> list[int]:
        """Drop the checkpoints beyond `step`, which a resumed run will make anew; returns which they were."""
        later = [number for number in self.progress(run_id).checkpoints if number > step]
        for number in later:
            shutil.rmtree(self.adapter_folder(run_id, number), ignore_errors=True)
        return later

    def progress(self, run_id: str) -> TrainingProgress:
        with self._lock:
            tail = self._tails.setdefault(run_id, EventTail())
            tail.read_on(self.folder_of(run_id) / event_log.FILE)
            return summary(tail.events)


def known_pace(store: RunStore, base: str, options: TrainOptions) -> float | None:
    """Seconds a step of the newest equal training of this base."""
    key = (base, options.batch, options.accumulation, options.rank, options.method)
    for run in reversed(store.all()):
        theirs = run.options
        if (run.base, theirs.batch, theirs.accumulation, theirs.rank, theirs.method) == key:
            pace = store.progress(run.id).seconds_per_step
            if pace is not None:
                return pace
    return None


def mark_of(owner: str) -> str:
    """Keeps apart what two owners give the same name, and tells neither of the other; none for the server's own."""
    return "" if isinstance(owner, Server) else hashlib.sha256(owner.encode()).hexdigest()[:6]


def new_id() -> str:
    return secrets.token_hex(8)
