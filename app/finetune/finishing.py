"""Measure a tuned model merged and quantised: memory, speed, identity, retention and drift of each step.

Rows: the base, the base with the adapter, the merged model, the merged model at 4 bits, the adapter over the base at
4 bits, and the exported GGUF files. Identity and retention are judged as the checkpoints are (judging.py). Drift is the
divergence from the base with the adapter, the model that was trained: for the base it says how far training moved it,
for the others what merging and rounding have cost.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar, get_args

from app.errors import Language, StudioError
from app.files import write_json
from app.finetune.judging import RETAINED_AGREEMENT, VISITOR, Exam, Interrupted, answers, asked, knows, renamed, share
from app.finetune.runs import Run
from app.models.catalog.known_models import split_precision
from app.models.interface import ChatModel, Registry, TokenScoringModel
from app.models.registry import drift

log = logging.getLogger(__name__)
Kind = Literal["base", "adapter", "merged", "quantised", "adapter_4bit", "f16", "q8_0", "q4_k_m"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILE = "finished.json"
Figure = TypeVar("Figure")


@dataclass(frozen=True)
class Row:
    """One model of the table. What could not be measured is None, and `reason` says why."""

    kind: Kind
    model: str
    memory_mib: int | None = None
    tokens_per_s: float | None = None
    identity: float | None = None
    retention: float | None = None
    drift: float | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As `/finish` and the command line tell it, where retention has always been called `kept`."""
        return {("kept" if key == "retention" else key): value for key, value in asdict(self).items()}


@dataclass
class Examination:
    """One run under examination. `prepare` gives the name of a kind's model, making what is not there yet."""

    registry: Registry
    run: Run
    exam: Exam
    prepare: Callable[[Kind], str]
    stopped: Callable[[], bool]
    _theirs: list[str] | None = None
    _reference: drift.Reference | None = None

    def rows(self) -> Iterator[Row]:
        """Each as soon as it is known; a model that cannot be had is a row too. Raises Interrupted when stopped."""
        for kind in KINDS:
            reasons: list[str] = []
            name = self._try(reasons, lambda kind=kind: self.prepare(kind))  # type: ignore[misc]
            row = self._try(reasons, lambda kind=kind, name=name: self._examine(kind, name)) if name else None  # type: ignore[misc]
            yield row or Row(kind, name or "", reason="\n".join(reasons))

    def _examine(self, kind: Kind, name: str) -> Row:
        reasons: list[str] = []
        with self.registry.lease(name, full_weights=True) as model:
            if kind == "base":
                self._theirs = answers(model, self.exam.general, self.exam.sampling, self.stopped)
            if kind == "adapter" and self._reference is None:
                self._reference = self._try(reasons, lambda: self._take_reference(model))
            return Row(
                kind=kind,
                model=name,
                memory_mib=self._memory(name),
                tokens_per_s=self._try(reasons, lambda: self._speed(model)),
                identity=self._try(reasons, lambda: self._identity(model)),
                retention=self._try(reasons, lambda: self._retention(model)),
                drift=self._try(reasons, lambda: self._drift(kind, model)),
                reason="\n".join(dict.fromkeys(reasons)),
            )

    def _try(self, reasons: list[str], measure: Callable[[], Figure]) -> Figure | None:
        try:
            if self.stopped():
                raise Interrupted
            return measure()
        except Interrupted:
            raise
        except StudioError as error:
            reasons.append(error.text(self._language))
        except Exception:
            log.exception("a part of finishing %s failed", self.run.model)
            reasons.append(StudioError().text(self._language))
        return None

    @property
    def _language(self) -> Language:
        return "zh" if self.run.language == "zh" else "en"

    def _memory(self, name: str) -> int | None:
        held = name.rpartition("+")[0] if name in (self.run.model, self.run.quantised_adapter) else name
        mib = {entry.name: entry.mib for entry in self.registry.ledger().models}
        names = (f"{held}:full", f"{split_precision(held)[0]}:int4" if held != self.run.base else "", held)
        return next((mib[known] for known in names if known in mib), None)

    def _speed(self, model: ChatModel) -> float:
        """Tokens a second of one answer alone after its first piece, the median; the first answer warms up."""
        paces: list[float] = []
        for question in [self.exam.speed[0], *self.exam.speed]:
            with ExitStack() as running:
                generation = model.stream(asked(question), self.exam.sampling, visitor=VISITOR)
                running.callback(generation.cancel)
                began, before = 0.0, 0
                for _ in generation:
                    if self.stopped():
                        raise Interrupted
                    if not before:
                        began, before = time.perf_counter(), generation.completion_tokens
            spent = time.perf_counter() - began
            if generation.completion_tokens > before > 0:
                paces.append((generation.completion_tokens - before) / spent)
        return round(median(paces[1:] or paces), 1) if paces else 0.0

    def _identity(self, model: ChatModel) -> float | None:
        if not self.run.identity:
            return None
        told = answers(model, self.exam.names, self.exam.sampling, self.stopped)
        return share([knows(answer, self.run.identity) for answer in told])

    def _retention(self, model: ChatModel) -> float | None:
        if self._theirs is None:
            return None
        marks = []
        for question, answer in zip(self.exam.general, self._theirs, strict=True):
            if self.stopped():
                raise Interrupted
            marks.append(retains(model, question, answer))
        return share(marks)

    def _take_reference(self, model: ChatModel) -> drift.Reference:
        return drift.Reference(tuple(self._unless_stopped(drift.answered(model, self.exam.drift))))

    def _drift(self, kind: Kind, model: ChatModel) -> float | None:
        if kind == "base":
            with self.registry.lease(self.prepare("adapter")) as tuned:
                self._reference = self._take_reference(tuned)
        if kind == "adapter" or self._reference is None:
            return None
        found = self._unless_stopped(drift.compared(self._reference, model))
        return round(drift.summary(model.name, found).mean_kl, 4)

    def _unless_stopped(self, parts: Iterable[Figure]) -> Iterator[Figure]:
        for part in parts:
            if self.stopped():
                raise Interrupted
            yield part


def retains(model: ChatModel, question: str, base_answer: str) -> bool:
    """Whether, along the base's own greedy answer, the model's most likely token is mostly the answer's.

    So told for models of other weights too; for an adapter it is what `judging.is_retained` tells.
    """
    if not isinstance(model, TokenScoringModel):
        raise drift.CannotScore(name=model.name)
    scores = model.score_tokens(asked(question), base_answer, 1)
    # not by their texts: every piece of a Chinese character reads alike
    marks = [bool(score.top_logprobs) and score.logprob >= score.top_logprobs[0][1] for score in scores]
    return not marks or share(marks) >= RETAINED_AGREEMENT


def save_rows(folder: Path, rows: Sequence[Row]) -> None:
    write_json(folder / FILE, [asdict(row) for row in rows])


def read_rows(folder: Path) -> list[Row]:
    """The table as far as it is known."""
    try:
        return [Row(**renamed(row)) for row in json.loads((folder / FILE).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
