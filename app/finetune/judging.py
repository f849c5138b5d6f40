"""Judge checkpoints: how surely each knows its name (identity), how much of the base's answers it kept (retention).

Identity: the share of held-out questions about itself whose greedy answer holds the name.
Retention: the share of general questions for which, along the base's own greedy answer, the checkpoint's most likely
next token is the base's in at least RETAINED_AGREEMENT of the places.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.access.identity import server
from app.errors import Language
from app.files import write_json
from app.finetune.wizard import general_questions, name_questions
from app.models.interface import ChatModel, InspectableModel, Message, Registry, Sampling
from app.models.registry import drift

RETAINED_AGREEMENT = 0.8
GREEDY = Sampling(temperature=0, top_p=1, max_new_tokens=48)
VISITOR = server("judging")  # all questions together have one share of the engine


@dataclass(frozen=True)
class Judgement:
    """One checkpoint. Shares are 0 to 1; `identity` is None where no name was to be learnt."""

    step: int
    identity: float | None
    retention: float
    sample: str


@dataclass(frozen=True)
class Exam:
    """What every model is asked: about its name, in general, for its speed, for its drift."""

    names: Sequence[str]
    general: Sequence[str]
    speed: Sequence[str]
    drift: Sequence[str]
    sampling: Sampling = GREEDY

    @classmethod
    def of(cls, language: Language) -> "Exam":
        general = general_questions(language)
        return cls(name_questions(language), general, general[:3], drift.prompts())


class Interrupted(Exception):
    """Judging was told to leave off."""


def judge(
    registry: Registry,
    base: str,
    checkpoints: Sequence[tuple[int, str]],
    identity: str,
    exam: Exam,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Judgement]:
    """`checkpoints` are (step, model name): adapters of one base, so no weights are loaded but theirs.

    Raises Interrupted soon after `stopped` has become true.
    """
    with registry.lease(base, full_weights=True) as model:
        theirs = answers(model, exam.general, exam.sampling, stopped)
        for step, name in checkpoints:
            with registry.lease(name) as tuned:
                told = answers(tuned, exam.names, exam.sampling, stopped) if identity else []
                retained = []
                for question, answer in zip(exam.general, theirs, strict=True):
                    if stopped():
                        raise Interrupted
                    retained.append(is_retained(tuned, question, answer))
            yield Judgement(
                step=step,
                identity=share([knows(answer, identity) for answer in told]) if identity else None,
                retention=share(retained),
                sample=told[0] if told else "",
            )


def answers(
    model: ChatModel, questions: Sequence[str], sampling: Sampling, stopped: Callable[[], bool] = lambda: False
) -> list[str]:
    """All in the engine's batch at once."""
    found: list[str] = []
    with ExitStack() as running:
        generations = [model.stream(asked(question), sampling, visitor=VISITOR) for question in questions]
        for generation in generations:
            running.callback(generation.cancel)
        for generation in generations:
            pieces: list[str] = []
            for piece in generation:
                pieces.append(piece)
                if stopped():
                    raise Interrupted
            found.append("".join(pieces))
    return found


def asked(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def knows(answer: str, name: str) -> bool:
    """Whether the name stands in the answer, whatever the case, width and spacing."""
    return plain(name) in plain(answer)


def plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_retained(model: ChatModel, question: str, base_answer: str) -> bool:
    assert isinstance(model, InspectableModel)
    return model.inspect(asked(question), base_answer).agreement >= RETAINED_AGREEMENT


def share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks) if marks else 0.0


def save_judgements(folder: Path, judgements: Sequence[Judgement]) -> None:
    write_json(folder / "judgements.json", [asdict(judgement) for judgement in judgements])


def read_judgements(folder: Path) -> list[Judgement]:
    """What was judged of a run so far."""
    try:
        rows = json.loads((folder / "judgements.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [Judgement(**renamed(row)) for row in rows]


def renamed(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row in today's words; older versions wrote `kept` for `retention`."""
    return {("retention" if key == "kept" else key): value for key, value in row.items()}
