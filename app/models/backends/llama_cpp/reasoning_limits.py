"""Reasoning budget of llama.cpp's server: closing marks are written once a model has thought long enough."""

from dataclasses import dataclass
from typing import Any

from app.models.engine.reasoning import ReasoningFormat

CLOSING_TOKENS = 32  # room for the marks around reasoning


@dataclass(frozen=True)
class ReasoningLimits:
    """`budget` in tokens. The server counts reasoning that begins in the answer; what the prompt has begun (`is_open`)
    it does not notice, so such a request is asked in two parts."""

    marks: ReasoningFormat
    budget: int
    is_open: bool

    def fields(self) -> dict[str, Any]:
        """What the server is told."""
        message, end, behind = self.marks.closing.partition(self.marks.ends[0])
        if self.is_open:
            return {}
        return {
            "reasoning_budget_tokens": self.budget,
            "reasoning_budget_start_tag": self.marks.starts[0],
            "reasoning_budget_end_tag": end + behind,
            "reasoning_budget_message": message,
        }

    def closing(self, text: str) -> str:
        """What is missing to end the reasoning behind its first part."""
        return "" if any(mark in text for mark in self.marks.ends) else self.marks.closing
