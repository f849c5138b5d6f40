"""Lagent action that runs Python in the visitor's sandbox session, and what a cell showed as steps."""

from collections.abc import Callable

from lagent.actions import BaseAction
from lagent.schema import ActionReturn, ActionStatusCode

from app.agent.sandbox.session import CellResult, Session
from app.agent.steps import Kind, State, Step

_OBSERVED_CHARACTERS = 3000
_ENDINGS = {
    "too slow": "The code was stopped: it ran longer than {seconds:.0f} seconds.",
    "stopped": "The code was stopped by the user.",
    "too much output": "The code was stopped: it printed too much.",
    "too much disk": "The code was stopped: its files took too much space. All files were deleted.",
    "died": "The interpreter ended: out of memory, a crash, or a system call that is not allowed here.",
}


class SandboxInterpreter(BaseAction):
    """Run Python code in a locked interpreter that keeps its variables."""

    def __init__(self, session: Session, cancelled: Callable[[], bool]) -> None:
        super().__init__()
        self._session = session
        self._cancelled = cancelled
        self.last: CellResult | None = None

    def run(self, command: str) -> ActionReturn:
        """Run the code and tell what came of it.

        Args:
            command (str): Python code
        """
        self.last = result = self._session.run(command, self._cancelled)
        outcome = ActionReturn(args={"text": command}, type=self.name)
        if result.ending == "done":
            outcome.result = [{"type": "text", "content": observation(result)}]
        else:
            outcome.errmsg = observation(result)
            outcome.state = ActionStatusCode.API_ERROR
        return outcome


def cell_text(result: CellResult) -> str:
    """What a cell printed, its value and its traceback, shortened."""
    error = result.error if result.ending == "failed" else ""
    return "\n".join(filter(None, (_shorten(result.output.strip()), _shorten(result.value), error)))


def observation(result: CellResult) -> str:
    """What the model is told about a cell."""
    parts = [cell_text(result)]
    if result.images:
        parts.append(f"[{len(result.images)} picture(s) shown to the user]")
    if result.ending in _ENDINGS:
        parts.append(_ENDINGS[result.ending].format(seconds=result.seconds))
    if result.variables_lost:
        parts.append("All variables are lost.")
    return "\n".join(part for part in parts if part) or "(no output)"


def state_after(result: CellResult) -> State:
    """The state of a cell's code."""
    if result.ending in ("done", "stopped"):
        return result.ending
    return "failed"


def outcome(result: CellResult) -> list[Step]:
    """What a cell showed: its words, then its pictures."""
    text = cell_text(result)
    notes: dict[str, dict[str, object]] = {}
    if result.ending not in ("done", "failed"):
        notes["code_stopped" if result.ending == "stopped" else result.ending.replace(" ", "_")] = {
            "seconds": f"{result.seconds:.0f}"
        }
    if result.variables_lost:
        notes["variables_lost"] = {}
    steps = []
    if result.ending != "done":
        kind: Kind = "stopped" if result.ending == "stopped" else "error"
        steps.append(Step(kind, text, state_after(result), notes=notes))
    elif text:
        steps.append(Step("output", text, "done"))
    elif not result.images:
        steps.append(Step("output", "", "done", notes={"no_output": {}}))
    return steps + [Step("image", "", "done", image=image) for image in result.images]


def _shorten(text: str) -> str:
    half = _OBSERVED_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]}\n...\n{text[-half:]}"
