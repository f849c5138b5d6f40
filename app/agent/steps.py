"""Steps of an agent's task as shown to the visitor: thought, code, output, image, error, answer."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["loading", "thought", "code", "output", "image", "error", "answer"]
State = Literal["running", "waiting", "done", "failed"]


@dataclass
class Step:
    """One step. A waiting one is code that the visitor has to approve; an image's bytes are PNG.

    While the model is being loaded the only step is a `loading` one; its text is the percentage, if known.
    """

    kind: Kind
    text: str = ""
    state: State = "running"
    seconds: float = 0.0
    image: bytes = b""

    def end(self, state: State, seconds: float) -> None:
        self.state = state
        self.seconds = seconds


@dataclass(frozen=True)
class Exchange:
    """What was asked, and the steps it led to; the list grows while the task runs."""

    task: str
    steps: list[Step]
