"""Agent loop of one visitor: Lagent's agent, memory and executor over a sandbox session."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lagent.actions import ActionExecutor
from lagent.agents import StreamingAgent
from lagent.hooks import InternLMActionProcessor
from lagent.memory import Memory
from lagent.schema import AgentMessage

from app.agent.deadline import Deadline
from app.agent.errors import ToolStopped
from app.agent.grounding import unseen_numbers
from app.agent.interpreter import SandboxInterpreter, outcome, state_after
from app.agent.language_model import Call, EngineLLM
from app.agent.protocols import Protocol, choose_protocol, shown_text
from app.agent.sandbox.session import Session
from app.agent.steps import Exchange, Kind, State, Step
from app.agent.tools import Tool, called_tool
from app.errors import Language, StudioError
from app.models.interface import ChatModel, Sampling

_REMEMBERED_MESSAGES = 60
_KEPT_EXCHANGES = 19
_NO_CODE = "There was no code in the block. Write Python code, or answer without a block."
_REFUSED = "The user did not allow this code to run."
_NO_ERRORS: dict[str, Kind] = {"stopped": "stopped", "refused": "note", "rested": "note", "gave_way": "note"}


@dataclass(frozen=True)
class Bounds:
    """How far one task may go; `seconds` of its own work, see `Deadline`. `approve` lets the visitor see each piece of
    code before it runs.

    `documents` names the collection that the model may search, or all by "*"; with `tools` it may call the operator's.
    """

    max_steps: int = 6
    seconds: float = 180.0
    approve: bool = False
    documents: str = ""
    tools: bool = False
    language: Language = "en"  # of errors of tools
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=768, thinking=None))


@dataclass
class Task:
    """A task under way; it survives a wait for approval."""

    bounds: Bounds
    visitor: str
    deadline: Deadline
    steps: list[Step]
    rounds_left: int
    next_message: AgentMessage
    tools: dict[str, Tool] = field(default_factory=dict)
    changed: bool = False

    def code(self) -> str:
        """The code that the last answer wants to run."""
        return str(self.next_message.formatted["action"])

    def failed_before(self) -> bool:
        """Whether exactly this code failed already."""
        return any(step.kind == "code" and step.state == "failed" and step.text == self.code() for step in self.steps)


class Conversation:
    """Runs tasks one after the other; memory and variables stay until `reset`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.past: list[Exchange] = []
        self._tasks = 0
        self._to_tell: list[Step] = []
        self._stopped = threading.Event()
        self._deadline = Deadline(0.0)
        self._llm = EngineLLM()
        self._action = SandboxInterpreter(session, self._over)
        self._executor = ActionExecutor([self._action], hooks=[InternLMActionProcessor()])
        self._agent: StreamingAgent | None = None
        self._protocol: Protocol | None = None
        self._pending: Task | None = None

    def run(
        self,
        text: str,
        model: ChatModel,
        bounds: Bounds,
        visitor: str,
        tools: Sequence[Tool] = (),
        missing: Sequence[StudioError] = (),
    ) -> Iterator[list[Step]]:
        """The steps so far, again after every change. Ends early with a waiting step where approval is needed.

        Why tools are `missing` is told first.
        """
        self._stopped.clear()
        self._pending = None
        message = AgentMessage(sender="user", content=text)
        known = {tool.name: tool for tool in tools}
        told, self._to_tell = self._to_tell, []
        told += [Step("error", error.text(bounds.language), "failed") for error in missing]
        task = Task(bounds, visitor, Deadline(bounds.seconds), told, bounds.max_steps, message, known)
        self._tasks += 1
        self.past = [*self.past[-_KEPT_EXCHANGES:], Exchange(text, task.steps, self._tasks)]
        return self._guarded(task, model)

    def approve(self, allowed: bool, model: ChatModel, code: str | None = None) -> Iterator[list[Step]]:
        """Go on with the code that waits: run it, as the visitor changed it, or tell the model that it was refused."""
        task, self._pending = self._pending, None
        if task is None:
            return iter(())
        if code is not None and code.strip() not in ("", task.code().strip()):
            task.changed = True
            task.steps[-1].text = task.next_message.formatted["action"] = code
        self._stopped.clear()
        task.deadline = Deadline(task.bounds.seconds)
        return self._guarded(task, model, decision=allowed)

    @property
    def waiting(self) -> str | None:
        """The code that waits for approval, if some does."""
        return self._pending.code() if self._pending is not None else None

    def tell(self, note: str) -> None:
        """Say this first at the next task: what has happened meanwhile."""
        self._to_tell.append(_told(note))

    def stop(self) -> None:
        """End the generation or the cell that runs now."""
        self._stopped.set()

    def _over(self) -> bool:
        return self._stopped.is_set() or self._deadline.over()

    def _guarded(self, task: Task, model: ChatModel, decision: bool | None = None) -> Iterator[list[Step]]:
        """Run the rounds; a failure of ours leaves no half turn in the memory."""
        self._deadline = task.deadline
        agent, protocol = self._agent_for(model, list(task.tools.values()))
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
            if task.failed_before():
                task.steps[-1].state = "failed"
                yield from self._conclude(task, "repeats")
                return
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
        call = Call(model, sampling, task.visitor, protocol.complete, self._over, task.deadline)
        for message in agent(task.next_message, session_id=0, call=call):
            task.steps[kept:] = _growing(message.formatted, task)
            yield task.steps
        task.next_message = message
        for step in task.steps[kept:]:
            step.end("running" if step.kind == "code" else "done", time.monotonic() - began)  # it has yet to run
        if message.formatted["action"] is None and shown_text(message.formatted["thought"]):
            _mark_answer(task.steps)
        yield task.steps

    def _act(self, task: Task, allowed: bool) -> Iterator[list[Step]]:
        """Run the code of the last answer; what comes of it is the next message."""
        step = task.steps[-1]
        if not allowed:
            step.state = "refused"
            task.next_message = AgentMessage(sender="ActionExecutor", content=_REFUSED)
            task.steps.append(_told("refused", "refused"))
        elif not task.code().strip():
            step.state = "failed"
            task.next_message = AgentMessage(sender="ActionExecutor", content=_NO_CODE)
            task.steps.append(_told("no_code"))
        else:
            step.state = "running"
            yield task.steps
            if found := called_tool(task.code(), task.tools):
                _use(task, *found, self._over)
            else:
                self._execute(task)
        yield task.steps

    def _execute(self, task: Task) -> None:
        """Run the code in the sandbox."""
        step = task.steps[-1]
        told = self._executor(task.next_message)
        if task.changed:
            told.content = f"The user changed the code before it ran, to:\n{task.code()}\n\nOutput:\n{told.content}"
        task.next_message, task.changed = told, False
        result = self._action.last
        assert result is not None
        step.end(state_after(result), result.seconds)
        task.steps += outcome(result)

    def _conclude(self, task: Task, reason: str = "") -> Iterator[list[Step]]:
        """Say why a task ended without an answer."""
        if task.steps and task.steps[-1].kind == "answer" and not self._over():
            return
        if self._stopped.is_set():
            reason = "stopped"
        elif self._over():
            reason = "time"
        for step in task.steps:
            if step.state in ("running", "waiting"):
                step.state = "stopped" if reason == "stopped" else "failed"
        answered = task.next_message.formatted and task.next_message.formatted["action"] is None
        task.steps.append(_told(reason or ("empty" if answered else "steps")))
        yield task.steps

    def _agent_for(self, model: ChatModel, tools: Sequence[Tool]) -> tuple[StreamingAgent, Protocol]:
        """The agent with its memory; another protocol starts with an empty one."""
        protocol = choose_protocol(model.chat_template, tools)
        if self._agent is None or self._protocol is None or self._protocol.name != protocol.name:
            self._agent = StreamingAgent(
                llm=self._llm,
                memory={"type": Memory, "recent_n": _REMEMBERED_MESSAGES},
                output_format=protocol.parser,
                aggregator=protocol.aggregator,
                name="agent",
            )
        self._agent.output_format, self._protocol = protocol.parser, protocol  # the tools may be others now
        return self._agent, protocol


def _growing(parsed: dict[str, Any], task: Task) -> list[Step]:
    """What the model thought, said and wrote as code, in an answer that may not be finished."""
    thoughts = (parsed["thinking"], shown_text(parsed["thought"]))
    steps = [Step("thought", thought) for thought in thoughts if thought]
    if parsed["action"] is not None:
        total = task.bounds.max_steps
        steps.append(Step("code", parsed["action"], number=total - task.rounds_left, total=total))
    return steps


def _mark_answer(steps: list[Step]) -> None:
    """The last step is the answer. What no code computed is marked as the model's own."""
    answer = steps[-1]
    answer.kind = "answer"
    seen = [step.text for step in steps if step.kind == "output"]
    if not any(step.kind == "code" and step.state == "done" for step in steps):
        answer.notes["own_words"] = {}
    elif unseen := unseen_numbers(answer.text, [*seen, *(step.text for step in steps if step.kind == "code")]):
        answer.notes["unseen_numbers"] = {"numbers": ", ".join(unseen)}


def _use(task: Task, tool: Tool, arguments: dict[str, Any], cancelled: Callable[[], bool]) -> None:
    """Call a tool instead of running code. What fails is told to the model too, which may go another way."""
    began, step = time.monotonic(), task.steps[-1]
    state: State = "done"
    if tool.server:
        step.notes["tool"] = {"server": tool.server}
    try:
        found = tool.run(arguments, cancelled) or "Nothing was found."
    except StudioError as error:
        stopped = isinstance(error, ToolStopped)
        found, state = error.text("en"), "stopped" if stopped else "failed"
        task.steps.append(Step("stopped" if stopped else "error", error.text(task.bounds.language), "done"))
    step.end(state, time.monotonic() - began)
    if state == "done":
        task.steps.append(Step("output", found, "done"))
    task.next_message = AgentMessage(sender="ActionExecutor", content=found)


def _told(note: str, state: State = "failed") -> Step:
    return Step(_NO_ERRORS.get(note, "error"), "", state, notes={note: {}})
