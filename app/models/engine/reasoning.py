"""Reasoning parser: tell a model's reasoning from its answer by the marks of its chat template, as the text streams.

`<think>` and its like, and the channels of gpt-oss. Backends that get text from elsewhere use `AnswerSplitter` alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.models.engine.response_template import reasoning_marks
from app.models.engine.stop_strings import StopStrings, longest_held
from app.models.engine.template_variables import free_variables
from app.models.interface import Part, Thinking


@dataclass(frozen=True)
class ReasoningFormat:
    """`starts` and `ends` are the marks around reasoning, `dropped` marks that are never shown; `closing` is written
    in the model's place when its budget is spent."""

    starts: tuple[str, ...]
    ends: tuple[str, ...]
    closing: str
    dropped: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        return (*self.starts, *self.ends, *self.dropped)

    def is_open(self, prompt: str) -> bool:
        """Whether the prompt itself ends with the beginning of reasoning."""
        return prompt.rstrip().endswith(self.starts)

    def ending(self, prompt: str, thinking: bool | None, is_switched: bool, is_constrained: bool = False) -> str:
        """What a prompt lacks for its model to reason or not; nothing where its template has seen to it.

        A constrained answer must know where reasoning ends, so it is begun here where it is wanted.
        """
        if thinking and is_constrained and not self.is_open(prompt):
            return f"{self.starts[0]}\n" if self is not CHANNELS else self.starts[0]
        return self._skipped(prompt, is_switched) if thinking is False else ""

    def _skipped(self, prompt: str, is_switched: bool) -> str:
        if self.is_open(prompt):
            return self.closing
        if is_switched or prompt.rstrip().endswith(self.ends):
            return ""
        return self.ends[0] if self is CHANNELS else f"{self.starts[0]}\n{self.closing}"

    def without_reasoning(self, answer: str) -> str:
        """An earlier answer as the model shall see it again."""
        if not any(mark in answer for mark in self.marks):
            return answer
        splitter = AnswerSplitter(self)
        parts = [*splitter.push(answer), *splitter.finish()]
        return "".join(part.text for part in parts if part.kind == "answer")


def _pair(start: str, end: str) -> ReasoningFormat:
    return ReasoningFormat((start,), (end,), f"\n{end}\n\n")


THINK = _pair("<think>", "</think>")
CHANNELS = ReasoningFormat(
    starts=("<|channel|>analysis<|message|>", "<|channel|>commentary<|message|>"),
    ends=("<|channel|>final<|message|>",),
    closing="<|end|><|start|>assistant<|channel|>final<|message|>",
    dropped=("<|end|>", "<|start|>assistant"),
)
# Harmony's header of a message may name a recipient and a form of its content beside the channel.
_HEADER = re.compile(r"(?:<\|start\|>[^<]*)?<\|channel\|>\s*(\w+)(?:[^<]|<\|constrain\|>)*<\|message\|>")
_HEADER_STARTS = ("<|start|>", "<|channel|>")
_CUT_HEADER = re.compile(
    r"(?:<\|start\|>(?:\w[\w.]*)?(?:\s+(?:to?|to=[^\s<]*)?)?)?"
    r"(?:<\|channel\|>\s*(\w*)(?:\s+[^\s<]+){0,2}\s*(?:<\|constrain\|>\s*\w*)?)?(?:<[|\w]*)?"
)
LONGEST_HEADER = 200
FORMATS = (
    CHANNELS,
    THINK,
    _pair("[THINK]", "[/THINK]"),
    _pair("<seed:think>", "</seed:think>"),
    _pair("<|START_THINKING|>", "<|END_THINKING|>"),
    _pair("<|inner_prefix|>", "<|inner_suffix|>"),
    _pair("<|channel>thought", "<channel|>"),
    _pair("◁think▷", "◁/think▷"),
)
SWITCHES = ("enable_thinking", "thinking")  # what templates call the variable that turns reasoning on and off


def format_of(template: str) -> ReasoningFormat | None:
    """The marks that a checkpoint's response template names, else those that its chat template knows; None for a model
    that does not think."""
    written = _written_in(template)
    told = None if written is CHANNELS else reasoning_marks(template)
    return written if told is None else _pair(*told)


def _written_in(template: str) -> ReasoningFormat | None:
    return next((one for one in FORMATS if any(mark in template for mark in _told_by(one))), None)


def _told_by(one: ReasoningFormat) -> tuple[str, ...]:
    return ("<|channel|>",) if one is CHANNELS else (*one.starts, *one.ends)


def switch_of(template: str) -> str | None:
    """The template's variable that switches reasoning, if it has one."""
    free = free_variables(template)
    return next((name for name in SWITCHES if name in free), None)


def thinking_of(template: str) -> Thinking:
    """Whether a model with this chat template reasons before it answers, and whether that can be switched."""
    if format_of(template) is None:
        return "never"
    return "optional" if switch_of(template) else "always"


def _plain_header(found: re.Match[str]) -> str:
    """The header with nothing but its channel; one that is not known is told to the model alone, as commentary is."""
    channel = found[1] if found[1] in ("analysis", "final") else "commentary"
    return f"<|channel|>{channel}<|message|>"


def _open_header(text: str) -> int:
    """How many letters at the end are a header that has not come whole."""
    begun = [at for mark in _HEADER_STARTS if (at := text.find(mark)) >= 0]
    length = len(text) - min(begun, default=len(text))
    return length if length <= LONGEST_HEADER else 0


def _cut_header(text: str) -> int:
    """How many letters at an answer's end are a header that was cut short, and not text that names its marks."""
    length = _open_header(text)
    found = _CUT_HEADER.fullmatch(text, len(text) - length)
    is_known = found and any(one.startswith(found[1] or "") for one in ("analysis", "commentary", "final"))
    return length if is_known else 0


class AnswerSplitter:
    """Feed text with `push`; it comes back as parts. Stop strings end the answer, never the reasoning. One that goes on
    `after` a text does not begin a word in the middle of another.

    Reasoning comes before the answer: the same marks within an answer are text.
    """

    def __init__(
        self,
        marks: ReasoningFormat | None = THINK,
        *,
        is_open: bool = False,
        stop: Sequence[str] = (),
        after: str = "",
    ) -> None:
        self._format = marks
        self._stops = StopStrings(stop)
        self._held = ""
        self._after = after
        self._answered = False  # something of the answer has been seen
        self.in_reasoning = is_open and marks is not None
        self._fresh = self.in_reasoning  # nothing since the last mark: line breaks around marks are not text
        self.reasoning = ""

    @property
    def stopped(self) -> bool:
        return self._stops.stopped

    def push(self, text: str) -> list[Part]:
        """What can be shown of the text so far unseen."""
        if self._format is None or (self._answered and self._format is not CHANNELS):
            text, self._held = self._held + text, ""
            return self._answer(text)
        self._held += text
        if self._format is CHANNELS:
            self._held = _HEADER.sub(_plain_header, self._held)
        parts: list[Part] = []
        while (found := self._next_mark()) is not None:
            at, mark = found
            before, self._held = self._held[:at], self._held[at + len(mark) :]
            parts += self._told(before if self._answered or before.strip() or self.in_reasoning else "")
            if self._answered and self._format is not CHANNELS:  # the mark is the answer's own text
                rest, self._held = mark + self._held, ""
                return parts + self._answer(rest)
            self._switch(mark)
        clear = len(self._held) - self._to_hold()
        if not self._answered and not self.in_reasoning and not self._held[:clear].strip():
            clear = 0  # blanks before the reasoning are no answer
        shown, self._held = self._held[:clear], self._held[clear:]
        return parts + self._told(shown)

    def finish(self) -> list[Part]:
        """What was held back because a mark or a stop string might have followed."""
        rest, self._held = self._held, ""
        if self._format is CHANNELS:
            rest = rest[: len(rest) - _cut_header(rest)]
        parts = self._told(rest)
        left = self._stops.finish()
        return [*parts, Part(left)] if left else parts

    def _next_mark(self) -> tuple[int, str] | None:
        assert self._format is not None
        marks = self._pair_marks() if self._format is not CHANNELS else (*CHANNELS.starts, *CHANNELS.ends, "<|end|>")
        found = [(at, -len(mark), mark) for mark in marks if (at := self._held.find(mark)) >= 0]
        return (min(found)[0], min(found)[2]) if found else None

    def _to_hold(self) -> int:
        """How many letters at the end may be the beginning of a mark."""
        assert self._format is not None
        keep = longest_held(self._held, self._format.marks)
        if self._format is CHANNELS:
            keep = max(keep, longest_held(self._held, _HEADER_STARTS), _open_header(self._held))
        return keep

    def _pair_marks(self) -> tuple[str, ...]:
        assert self._format is not None
        return self._format.ends if self.in_reasoning else (*self._format.starts, *self._format.ends)

    def _switch(self, mark: str) -> None:
        assert self._format is not None
        if mark not in self._format.dropped:
            self.in_reasoning = mark in self._format.starts
        self._fresh = True

    def _told(self, text: str) -> list[Part]:
        if self._fresh:
            text = text.lstrip()
            self._fresh = not text
        if not text:
            return []
        if self.in_reasoning:
            self.reasoning += text
            return [Part(text, "reasoning")]
        return self._answer(text)

    def _answer(self, text: str) -> list[Part]:
        if self._after and text:
            apart = text[0].isalnum() and (self._after[-1] + text[0]).isascii() and not self._after[-1].isspace()
            text, self._after = f" {text}" if apart else text, ""
        self._answered = self._answered or bool(text.strip())
        shown = self._stops.push(text)
        return [Part(shown)] if shown else []
