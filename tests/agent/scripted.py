"""Models that answer the agent by a script, and what a test asks of its steps."""

import threading
from collections.abc import Sequence

from app.agent.conversation import Bounds
from app.agent.service import AgentService
from app.agent.steps import Step
from app.models.interface import Message
from tests.fakes import FakeModel, FakeRegistry


def scripted(*answers: str, template: str = "", gate: threading.Semaphore | None = None) -> FakeModel:
    """A model that gives these answers one after the other, a few characters at a time."""
    left = iter(answers)

    def script(_messages: Sequence[Message]) -> Sequence[str]:
        answer = next(left)
        return [answer[place : place + 5] for place in range(0, len(answer), 5)]

    return FakeModel("scripted", script, gate, chat_template=template)


def python(code: str, thought: str = "") -> str:
    return f"{thought}```python\n{code}\n```"


def interpreter(code: str, thought: str = "") -> str:
    return f"{thought}<|action_start|><|interpreter|>\n{code}<|action_end|>"


def solve(
    service: AgentService, model: FakeModel, task: str = "task", visitor: str = "me", **options: object
) -> list[Step]:
    service.registry = FakeRegistry(model)
    return list(service.run(visitor, task, "", Bounds(**options)))[-1]  # type: ignore[arg-type]


def told(model: FakeModel, call: int) -> list[Message]:
    return model.prompts[call][0]


def kinds(steps: list[Step]) -> list[str]:
    return [step.kind for step in steps]
