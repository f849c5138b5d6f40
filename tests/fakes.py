"""The models' side without a model: keeps to the Protocols of app/models/interface.py, answers from a script."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from app.access.session_limits import SessionLimits
from app.chat.service import ChatService
from app.errors import DoesNotFit, ModelInUse, UnknownModel
from app.models.interface import (
    Drift,
    DriftStep,
    FinishReason,
    Fit,
    Ledger,
    LedgerEntry,
    Message,
    Part,
    Sampling,
    SamplingDefaults,
    Thinking,
    answer_pieces,
)
from app.settings import Settings

Script = Callable[[Sequence[Message]], Sequence[str | Part]]  # a Part where it is reasoning


def echo(messages: Sequence[Message]) -> Sequence[str]:
    """The last message, word by word."""
    words = ("You said: " + messages[-1]["content"]).split(" ")
    return [word if place == 0 else f" {word}" for place, word in enumerate(words)]


class FakeGeneration:
    """Pieces of a script; with a gate, each piece waits for one release of it."""

    def __init__(self, pieces: Sequence[str | Part], prompt_tokens: int, gate: threading.Semaphore | None) -> None:
        self.pieces = pieces
        self.gate = gate
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.reasoning = ""
        self.finish_reason: FinishReason | None = None
        self.dropped_turns = 0
        self.queue_ahead = 0
        self.cancelled = threading.Event()
        self._parts = self._read()

    def __iter__(self) -> Iterator[str]:
        return answer_pieces(self._parts)

    def parts(self) -> Iterator[Part]:
        return self._parts

    def _read(self) -> Generator[Part, None, None]:
        for piece in self.pieces:
            while self.gate and not self.cancelled.is_set() and not self.gate.acquire(timeout=0.02):
                pass
            if self.cancelled.is_set():
                self.finish_reason = "cancelled"
                return
            self.completion_tokens += 1
            part = piece if isinstance(piece, Part) else Part(piece)
            if part.kind == "reasoning":
                self.reasoning_tokens += 1
                self.reasoning += part.text
            yield part
        self.finish_reason = "stop"

    def cancel(self) -> None:
        self.cancelled.set()


@dataclass
class FakeModel:
    """One leased model. `generations` and `prompts` keep what was asked, newest last."""

    name: str
    script: Script = echo
    gate: threading.Semaphore | None = None
    context_tokens: int = 2048
    chat_template: str = ""
    is_multimodal: bool = False
    sampling_defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    thinking: Thinking = "never"
    generations: list[FakeGeneration] = field(default_factory=list)
    prompts: list[tuple[list[Message], Sampling, str]] = field(default_factory=list)
    dropped_turns: int = 0
    queue_ahead: int = 0

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, *, visitor: str = "", drop_oldest: bool = False
    ) -> FakeGeneration:
        self.prompts.append((list(messages), sampling, visitor))
        generation = FakeGeneration(self.script(messages), self.count_tokens(messages), self.gate)
        generation.dropped_turns = self.dropped_turns if drop_oldest else 0
        generation.queue_ahead = self.queue_ahead
        self.generations.append(generation)
        return generation


class FakeRegistry:
    """Models by name, each `mib` large, within a budget."""

    def __init__(self, *models: FakeModel, budget_mib: int = 4096, mib: int = 260) -> None:
        self.budget_mib = budget_mib
        self.mib = mib
        self.reset(*models or (FakeModel("tiny"),))

    def reset(self, *models: FakeModel) -> None:
        """Other models and nothing loaded, as at a start: one served page for many tests."""
        self.models = {model.name: model for model in models}
        self.default_name = next(iter(self.models))
        self.states: dict[str, str] = {}
        self.leases: dict[str, int] = {}
        self.by_weights: set[str] = set()  # leased so
        self.drifts: dict[str, Drift] = {}

    def for_visitor(self, visitor: str) -> "FakeRegistry":  # noqa: ARG002  everybody's
        return self

    def may_use(self, name: str, visitor: str) -> bool:  # noqa: ARG002
        return True

    def public_name(self, name: str) -> str:
        return name

    def names(self) -> list[str]:
        return list(self.models)

    @contextmanager
    def lease(self, name: str, *, full_weights: bool = False) -> Iterator[FakeModel]:
        self.load(name)
        if full_weights:
            self.by_weights.add(name)
        self.leases[name] = self.leases.get(name, 0) + 1
        try:
            yield self.models[name]
        finally:
            self.leases[name] -= 1

    def load(self, name: str) -> None:
        fit = self.fit(name)
        if not fit.fits:
            raise DoesNotFit(name=name, needed_mib=fit.needed_mib, free_mib=fit.free_mib)
        self.states[name] = "ready"

    def is_multimodal(self, name: str) -> bool | None:
        return self.models[name].is_multimodal if name in self.models else None

    def sampling_defaults(self, name: str) -> SamplingDefaults:
        return self.models[name].sampling_defaults if name in self.models else SamplingDefaults()

    def thinking(self, name: str) -> Thinking | None:
        return self.models[name].thinking if name in self.models else None

    def unload(self, name: str) -> None:
        if self.leases.get(name):
            raise ModelInUse(name=name, leases=self.leases[name])
        self.states.pop(name, None)

    def fit(self, name: str) -> Fit:
        if name not in self.models:
            raise UnknownModel(name=name, known=", ".join(self.models))
        free = self.budget_mib - sum(self.mib for other in self.states if other != name)
        return Fit(self.mib, free, self.mib <= free)

    def check_drift(self, name: str) -> Generator[DriftStep | Drift, None, None]:
        self.load(name)
        yield DriftStep("full", 3, 20)
        self.drifts[name] = Drift(0.0123, 0.96, 300)
        yield self.drifts[name]

    def ledger(self) -> Ledger:
        entries = tuple(
            LedgerEntry(
                name,
                "chat",
                "ready",
                "cpu",
                self.mib,
                0,
                (),
                self.leases.get(name, 0),
                full_mib=4 * self.mib if name in self.drifts else 0,
                drift=self.drifts.get(name),
            )
            for name in self.states
        )
        return Ledger(self.budget_mib, sum(entry.mib for entry in entries), entries)


def fake_services(registry: Any, **more: object) -> Any:
    """What `app.ui.build` is given, over this registry, a fake one or not; `more` adds the services of other tabs."""
    absent = dict.fromkeys(("knowledge", "agent", "finetune", "evaluate", "story", "better", "files", "history"))
    return SimpleNamespace(
        **absent
        | {"settings": Settings(), "registry": registry, "chat": ChatService(registry), "sessions": SessionLimits()}
        | more
    )
