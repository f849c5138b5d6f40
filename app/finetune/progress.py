"""Progress of a training, read from the events that its process appends to a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    step: int
    question: str
    answer: str


@dataclass(frozen=True)
class PhaseProgress:
    """What the start of a training is busy with; `total` is 0 where nothing is counted."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class TrainingProgress:
    """What the training process has told so far. `curve` is (step, loss, learning rate)."""

    step: int = 0
    loss: float | None = None
    seconds_per_step: float | None = None
    curve: tuple[tuple[int, float, float], ...] = ()
    samples: tuple[Sample, ...] = ()
    checkpoints: tuple[int, ...] = ()
    validation: tuple[tuple[int, float], ...] = ()  # (step, loss on the rows held out)
    stopped_early: bool = False  # since the validation loss fell no further
    phase: PhaseProgress | None = None  # while it starts
    last: str = ""  # kind of the newest event

    @property
    def best(self) -> int:
        """The checkpoint with the lowest validation loss, else the newest; 0 where there is none."""
        losses = dict(self.validation)
        measured = [step for step in self.checkpoints if step in losses]
        if measured:
            return min(measured, key=losses.__getitem__)
        return self.checkpoints[-1] if self.checkpoints else 0


@dataclass
class EventTail:
    """How far a run's events have been read."""

    offset: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def read_on(self, path: Path) -> None:
        """Add the completelines written since the last call; a resumed run takes back what lay after its start."""
        try:
            with path.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # cut short by a full disk or a lost machine
                continue
            if event["kind"] == "started":
                self.events[:] = [old for old in self.events if old["kind"] != "samples" or old["step"] < event["step"]]
                self.events[:] = [old for old in self.events if old["kind"] != "phase" and old["step"] <= event["step"]]
            self.events.append(event)


def summary(events: Sequence[dict[str, Any]]) -> TrainingProgress:
    """What all events together tell."""
    last = events[-1] if events else {}
    steps = [event for event in events if event["kind"] == "step"]
    samples = [
        Sample(event["step"], sample["question"], sample["answer"])
        for event in events
        if event["kind"] == "samples"
        for sample in event["samples"]
    ]
    return TrainingProgress(
        step=max((event.get("step", 0) for event in events), default=0),
        loss=steps[-1]["loss"] if steps else None,
        seconds_per_step=_pace(steps),
        curve=tuple((event["step"], event["loss"], event["rate"]) for event in steps),
        samples=tuple(samples),
        checkpoints=tuple(sorted({event["step"] for event in events if event["kind"] == "checkpoint"})),
        validation=tuple((event["step"], event["loss"]) for event in events if event["kind"] == "validation"),
        stopped_early=bool(last.get("early")),
        phase=PhaseProgress(last["phase"], last["done"], last["total"]) if last.get("kind") == "phase" else None,
        last=last.get("kind", ""),
    )


def _pace(steps: Sequence[dict[str, Any]]) -> float | None:
    """Seconds a step over the last ones, evaluations between them included."""
    recent = steps[-20:]
    if len(recent) < 2:
        return None
    return max(0.0, recent[-1]["time"] - recent[0]["time"]) / (len(recent) - 1)
