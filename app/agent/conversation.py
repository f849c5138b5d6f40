"""Agent loop of one visitor: Lagent's agent, memory and executor over a sandbox session."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lagent.actions import ActionExecutor
from lagent.agents import StreamingAgent
from lagent.hooks import InternLMActionProcessor
from lagent.memory import Memory
from lagent.schema import AgentMessage

from app.agent.interpreter import SandboxInterpreter, observation
from app.agent.language_model import Call, EngineLLM
from app.agent.protocols import Protocol, choose_protocol, shown_text
from app.agent.sandbox.session import CellResult, Session
from app.agent.steps import Exchange, Step
from app.models.interface import ChatModel, Sampling, SamplingDefaults

_REMEMBERED_MESSAGES = 60
_KEPT_EXCHANGES = 19
_NO_CODE = "There was no code in the block. Write Python code, or answer without a block."


@dataclass(frozen=True)
class Bounds:
    """How far one task may go. `approve` lets the visitor see each piece of code before it runs."""

    max_steps: int = 6
    seconds: float = 180.0
    approve: bool = False
    sampling: Sampling = field(default_factory=lambda: Sampling(SamplingDefaults.temperature, max_new_tokens=768))


@dataclass
class Task:
    """A task under way; it survives a wait for approval."""

    bounds: Bounds
    visitor: str
    deadline: float
    steps: list[Step]
    rounds_left: int
    next_message: AgentMessage


class Conversation:
    """Runs tasks one after the other; memory and variables stay until `reset`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.past: list[Exchange] = []
        self._stopped = threading.Event()
        self._deadline = 0.0
        self._llm = EngineLLM()
        self._action = SandboxInterpreter(session, self._over)
        self._executor = ActionExecutor([self._action], hooks=[InternLMActionProcessor()])
        self._agent: StreamingAgent | None = None
        self._protocol: Protocol | None = None
        self._pending: Task | None = None

    def run(self, text: str, model: ChatModel, bounds: Bounds, visitor: str) -> Iterator[list[Step]]:
        """The steps so far, again after every change. Ends early with a waiting step where approval is needed."""
        self._stopped.clear()
        self._pending = None
        message = AgentMessage(sender="user", content=text)
        task = Task(bounds, visitor, time.monotonic() + bounds.seconds, [], bounds.max_steps, message)
        self.past = [*self.past[-_KEPT_EXCHANGES:], Exchange(text, task.steps)]
        return self._guarded(task, model)

    def approve(self, allowed: bool, model: ChatModel) -> Iterator[list[Step]]:
        """Go on with the code that waits: run it, or tell the model that the visitor refused."""
        task, self._pending = self._pending, None
        if task is None:
            return iter(())
        self._stopped.clear()
        task.deadline = time.monotonic() + task.bounds.seconds
        return self._guarded(task, model, decision=allowed)

    @property
    def waiting(self) -> bool:
        """Whether some code waits for approval."""
        return self._pending is not None

    def stop(self) -> None:
        """End the generation or the cell that runs now."""
        self._stopped.set()

    def reset(self) -> None:
        """Forget the talk and the variables; files stay."""
        self._pending = None
        self._agent = None
        self.past = []
        self.session.reset()

    def _over(self) -> bool:
        return self._stopped.is_set() or time.monotonic() > self._deadline

    def _guarded(self, task: Task, model: ChatModel, decision: bool | None = None) -> Iterator[list[Step]]:
        """Run the rounds; a failure of ours leaves no half turn in the memory."""
        self._deadline = task.deadline
        agent, protocol = self._agent_for(model)
        memory = agent.memory.get(0)
        before = len(memory.memory) if memory else 0
        try:
            yield from self._rounds(task, model, agent, protocol, decision)
        except BaseException:  # the visitor's leaving too
            if memory := agent.memory.get(0):
                del memory.memory[before:]
            raise

    def _rounds(
        self, task: Task, model: ChatModel, agent: StreamingAgent, protocol: Protocol, decision: bool | None
    ) -> Iterator[list[Step]]:
        if decision is not None:
            yield from self._act(task, decision)
        while task.rounds_left > 0 and not self._over():
            task.rounds_left -= 1
            yield from self._think(task, model, agent, protocol)
            called = task.next_message.formatted
            if called["action"] is None or self._over():
                break
            if task.bounds.approve and called["action"].strip():
                task.steps[-1].state = "waiting"
                self._pending = task
                yield task.steps
                return
            yield from self._act(task, allowed=True)
        yield from self._conclude(task)

    def _think(self, task: Task, model: ChatModel, agent: StreamingAgent, protocol: Protocol) -> Iterator[list[Step]]:
        """One answer of the model, shown while it grows as a thought and its code."""
        began = time.monotonic()
        kept = len(task.steps)
        sampling = replace(task.bounds.sampling, stop=protocol.stop, keep_special_tokens=protocol.keep_special_tokens)
        call = Call(model, sampling, task.visitor, protocol.complete, self._over)
        for message in agent(task.next_message, session_id=0, call=call):
            task.steps[kept:] = _growing(message.formatted)
            yield task.steps
        task.next_message = message
        for step in task.steps[kept:]:
            step.end("done", time.monotonic() - began)
        if message.formatted["action"] is None and task.steps[kept:]:
            task.steps[-1].kind = "answer"
        yield task.steps

    def _act(self, task: Task, allowed: bool) -> Iterator[list[Step]]:
        """Run the code of the last answer; what comes of it is the next message."""
        step = task.steps[-1]
        if not allowed:
            step.state = "failed"
            told = "The user did not allow this code to run."
            task.next_message = AgentMessage(sender="ActionExecutor", content=told)
            task.steps.append(Step("error", told, "failed"))
        elif not task.next_message.formatted["action"].strip():
            task.next_message = AgentMessage(sender="ActionExecutor", content=_NO_CODE)
            task.steps.append(Step("error", _NO_CODE, "failed"))
        else:
            step.state = "running"
            yield task.steps
            task.next_message = self._executor(task.next_message)
            result = self._action.last
            assert result is not None
            step.end("done" if result.ending == "done" else "failed", result.seconds)
            task.steps += outcome(result)
        yield task.steps

    def _conclude(self, task: Task) -> Iterator[list[Step]]:
        """Say why a task ended without an answer."""
        if task.steps and task.steps[-1].kind == "answer" and not self._over():
            return
        if self._stopped.is_set():
            reason = "stopped"
        elif self._over():
            reason = "time"
        else:
            reason = "steps"
        for step in task.steps:
            if step.state in ("running", "waiting"):
                step.state = "failed"
        task.steps.append(Step("error", reason, "failed"))
        yield task.steps

    def _agent_for(self, model: ChatModel) -> tuple[StreamingAgent, Protocol]:
        """The agent with its memory; another protocol starts with an empty one."""
        protocol = choose_protocol(model.chat_template)
        if self._agent is None or self._protocol is None or self._protocol.name != protocol.name:
            self._protocol = protocol
            self._agent = StreamingAgent(
                llm=self._llm,
                memory={"type": Memory, "recent_n": _REMEMBERED_MESSAGES},
                output_format=protocol.parser,
                aggregator=protocol.aggregator,
                name="agent",
            )
        return self._agent, self._protocol


def _growing(parsed: dict[str, Any]) -> list[Step]:
    """The thought and the code of an answer that may not be finished."""
    thought = shown_text(parsed["thought"])
    steps = [Step("thought", thought)] if thought else []
    if parsed["action"] is not None:
        steps.append(Step("code", parsed["action"]))
    return steps


def outcome(result: CellResult) -> list[Step]:
    """What a cell showed: its words, then its pictures."""
    words = observation(replace(result, images=()))
    steps = []
    if result.ending != "done":
        steps.append(Step("error", words, "failed"))
    elif not result.images or result.output.strip():
        steps.append(Step("output", words, "done"))
    return steps + [Step("image", "", "done", image=image) for image in result.images]
