"""Steps of an agent's task as shown to the visitor: thought, code, output, image, answer, what ended or went wrong."""

from dataclasses import dataclass, field
from typing import Literal

from app.errors import Language
from app.texts import sentence

Kind = Literal["loading", "thought", "code", "output", "image", "error", "stopped", "note", "answer"]
State = Literal["running", "waiting", "done", "failed", "stopped", "refused"]


@dataclass
class Step:
    """One step. A waiting one is code that the visitor has to approve; an image's bytes are PNG. What somebody stopped
    is no `error`, nor what the visitor is merely told (`note`).

    `notes` name sentences below `agent.notes` that follow the text, each with its values. Code knows its `number` of at
    most `total` pieces. While the model is being loaded the only step is a `loading` one; its text is the percentage,
    if known.
    """

    kind: Kind
    text: str = ""
    state: State = "running"
    seconds: float = 0.0
    image: bytes = b""
    notes: dict[str, dict[str, object]] = field(default_factory=dict)
    number: int = 0
    total: int = 0

    def end(self, state: State, seconds: float) -> None:
        self.state = state
        self.seconds = seconds

    def shown(self, language: Language) -> str:
        """The text and its notes in the visitor's language."""
        return "\n\n".join(part for part in (self.text, self.notes_in(language)) if part)

    def notes_in(self, language: Language) -> str:
        return " ".join(sentence(language, f"agent.notes.{note}", **values) for note, values in self.notes.items())


@dataclass(frozen=True)
class Exchange:
    """What was asked, and the steps it led to; the list grows while the task runs. Tasks of a page count from 1."""

    task: str
    steps: list[Step]
    number: int = 0
