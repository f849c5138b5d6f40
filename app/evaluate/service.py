"""Evaluation runs: ask models the questions of tasks, store the results per owner, read them again."""

import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any

from app.errors import BadInput
from app.evaluate.marking import Mark, mark
from app.evaluate.tasks import Task
from app.files import write_json
from app.models.interface import Registry
from app.models.waiting import while_loading

RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
TELLING = 3  # answers from which on the time of the others is told
LOOKED_AT = 20  # newest runs, for the time that another would take
MOST_RUNS = 200  # of one owner; the oldest go


class NothingChosen(BadInput):
    zh = "请至少选择一个模型和一组题目。"
    en = "Choose at least one model and one set of questions."


@dataclass(frozen=True)
class Row:
    """One model on one task; `seconds` without loading the model, `chance` is what guessing gets right on average."""

    model: str
    task: str
    right: int
    count: int
    seconds: float
    marks: tuple[Mark, ...] = ()
    chance: float = 0.0

    @property
    def error_range(self) -> tuple[float, float]:
        """Between which shares the true one lies with 95 % certainty (Wilson's interval)."""
        if not self.count:
            return 0.0, 1.0
        z, n, p = 1.96, self.count, self.share
        middle, width = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - width) / (1 + z * z / n)), min(1.0, (middle + width) / (1 + z * z / n))

    @property
    def share(self) -> float:
        return self.right / self.count if self.count else 0.0


@dataclass(frozen=True)
class EvaluationProgress:
    """Where a run stands, `seconds` after a model was first asked of a task; `row` is set when it has finished one."""

    model: str
    task: str
    done: int
    total: int
    right: int
    seconds: float = 0.0
    row: Row | None = None

    @property
    def seconds_left(self) -> float | None:
        """For the rest of the task, as fast as so far; None while too little is known."""
        return self.seconds / self.done * (self.total - self.done) if TELLING <= self.done < self.total else None


@dataclass(frozen=True)
class Run:
    """What one press of the button gave; `id` begins with its date and time."""

    id: str
    rows: tuple[Row, ...] = field(default=())


class EvaluationService:
    """Thread-safe: every run has a file of its own.

    A run asks as the server itself, past a visitor's limits, so strangers are not to be given it `on_the_page`.
    """

    def __init__(self, registry: Registry, data: Path, *, on_the_page: bool = True) -> None:
        self.registry = registry
        self.on_the_page = on_the_page
        self._folder = data / "evaluations"

    def run(self, models: Sequence[str], tasks: Sequence[Task], owner: str) -> Iterator[EvaluationProgress]:
        """Every model on every task. What was finished is kept, also when the iterator is closed before its end."""
        if not models or not tasks:
            raise NothingChosen
        run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        rows: list[Row] = []
        seen = self.registry.for_visitor(owner)
        for model in dict.fromkeys(models):
            for _ in while_loading(seen, model):
                yield EvaluationProgress(model, tasks[0].name, 0, len(tasks[0].items), 0)
            for task in tasks:
                for progress in self._one(seen, model, task):
                    if progress.row is not None:
                        rows.append(progress.row)
                        self._keep(owner, Run(run_id, tuple(rows)))
                    yield progress

    def seconds_expected(self, owner: str, models: Sequence[str], tasks: Sequence[Task]) -> float | None:
        """How long a run would take, from the owner's earlier ones; None where a model was never asked."""
        known: dict[str, float] = {}
        for run_id in self.runs(owner)[:LOOKED_AT]:
            for row in (self.read(owner, run_id) or Run(run_id)).rows:
                if row.count:
                    known.setdefault(f"{row.model} {row.task}", row.seconds / row.count)
                    known.setdefault(row.model, row.seconds / row.count)
        total = 0.0
        for model in dict.fromkeys(models):
            for task in tasks:
                each = known.get(f"{model} {task.name}", known.get(model))
                if each is None:
                    return None
                total += each * len(task.items)
        return total

    def runs(self, owner: str) -> list[str]:
        """Ids of the owner's runs, newest first."""
        folder = self._folder_of(owner)
        return sorted((path.stem for path in folder.glob("*.json")), reverse=True) if folder.is_dir() else []

    def read(self, owner: str, run_id: str) -> Run | None:
        """A run of this owner, or None."""
        path = self._folder_of(owner) / f"{run_id}.json"
        if not RUN_ID.fullmatch(run_id) or not path.is_file():
            return None
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = (Row(**row | {"marks": tuple(Mark(**made) for made in row["marks"])}) for row in kept["rows"])
        return Run(run_id, tuple(rows))

    def _one(self, registry: Registry, model: str, task: Task) -> Iterator[EvaluationProgress]:
        marks: list[Mark] = []
        with registry.lease(model, full_weights=True) as leased:
            began = time.monotonic()
            yield EvaluationProgress(model, task.name, 0, len(task.items), 0)
            for made in mark(leased, task):
                marks.append(made)
                right, seconds = sum(made.right for made in marks), time.monotonic() - began
                yield EvaluationProgress(model, task.name, len(marks), len(task.items), right, seconds)
        right, seconds = sum(made.right for made in marks), round(time.monotonic() - began, 2)
        row = Row(model, task.name, right, len(marks), seconds, tuple(marks), task.chance)
        yield EvaluationProgress(model, task.name, len(marks), len(marks), right, seconds, row)

    def _keep(self, owner: str, run: Run) -> None:
        folder = self._folder_of(owner)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{run.id}.json", asdict(run))
        for old in self.runs(owner)[MOST_RUNS:]:
            (folder / f"{old}.json").unlink(missing_ok=True)

    def _folder_of(self, owner: str) -> Path:
        return self._folder / sha256(owner.encode()).hexdigest()[:32]
